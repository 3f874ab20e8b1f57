//! Whether the Citadel of one remote has an intermediate of the mesh to sign with. Pure.

use remote_istio::model::{Applied, ApplyState, Component, Key, Lane};

use super::conditions::{MESH_TRUST, PENDING, Verdict, last_known, stored};
use super::facts::Facts;
use crate::index::MeshCaState;

/// Everything that an agent's word, and not the hub's own, makes of it.
const SAID_BY_AGENTS: &[&str] = &[
    SIGNED,
    BROUGHT,
    PENDING,
    "NotReady",
    "Forbidden",
    "Rejected",
    "Unavailable",
    "Foreign",
];

/// The agent has its intermediate.
const SIGNED: &str = "Signed";

/// A user of the remote brought a CA, and Citadel runs with it.
const BROUGHT: &str = "BroughtInRemote";

/// Nothing without Citadel. Without a session what was known last of the agent stays.
#[must_use]
pub fn mesh_trust(facts: &Facts<'_>) -> Option<Verdict> {
    let desired = facts.desired?;
    let verdict = match desired.mesh_ca.as_ref()? {
        MeshCaState::Unknown => Verdict::fails(PENDING, "the hub has not looked for central's mesh CA yet"),
        MeshCaState::NotGranted if brought(facts) => Verdict::holds(
            BROUGHT,
            "the hub signs nothing for the mesh; Citadel runs with the Secret cacerts that was brought in the remote",
        ),
        MeshCaState::NotGranted if facts.session.is_none() && said(facts, BROUGHT) => {
            last_known(facts, MESH_TRUST, &[BROUGHT])
        }
        MeshCaState::NotGranted => failing(
            "SigningNotGranted",
            "the hub signs nothing for the mesh: start it with --sign-mesh-ca after reading docs/security.md, or bring a \
             Secret cacerts in the remote"
                .to_owned(),
        ),
        MeshCaState::Unreadable(why) => failing(
            "CaUnreadable",
            format!("{why}; until then the remote is sent no configuration, for it is not known whom the mesh trusts"),
        ),
        MeshCaState::Missing(why) => failing("CaMissing", why.clone()),
        MeshCaState::CannotSign(why) => failing("CaCannotSign", why.clone()),
        MeshCaState::Ready => of_agent(facts),
        MeshCaState::Held(_) if facts.session.is_none() => of_agent(facts),
        MeshCaState::Held(why) => {
            let verdict = of_agent(facts);
            let message = format!("{}; the hub goes on with the CA that it holds: {why}", verdict.message);
            Verdict { message, ..verdict }
        }
    };
    Some(verdict)
}

fn failing(reason: &str, message: String) -> Verdict {
    Verdict {
        is_failure: true,
        ..Verdict::fails(reason, message)
    }
}

fn of_agent(facts: &Facts<'_>) -> Verdict {
    if facts.session.is_none() {
        return last_known(facts, MESH_TRUST, SAID_BY_AGENTS);
    }
    let Some(applied) = reported(facts, Component::Trust) else {
        return Verdict::fails(PENDING, "the agent has not asked for its intermediate yet");
    };
    let detail = |otherwise: &str| match applied.detail.as_str() {
        "" => otherwise.to_owned(),
        detail => detail.to_owned(),
    };
    match applied.state {
        ApplyState::Applied => Verdict::holds(
            SIGNED,
            detail("Citadel signs with an intermediate of central's mesh CA"),
        ),
        ApplyState::NotReady => Verdict::fails("NotReady", detail("the agent waits for its intermediate")),
        state => failing(state.as_str(), detail("the agent cannot set the intermediate up")),
    }
}

/// Citadel waits for a CA before it is applied, and has no pods before.
fn brought(facts: &Facts<'_>) -> bool {
    let has_pods = |applied: &Applied| {
        applied
            .replicas
            .is_some_and(|pods| pods.updated.max(pods.available) > 0)
    };
    let runs = |applied: &Applied| applied.state == ApplyState::Applied || has_pods(applied);
    reported(facts, Component::Citadel).is_some_and(runs)
}

/// The reason that is stored.
fn said(facts: &Facts<'_>, reason: &str) -> bool {
    stored(facts.previous(), MESH_TRUST).is_some_and(|stored| stored.reason == reason)
}

/// What the agent says of the newest version of a component.
fn reported<'a>(facts: &Facts<'a>, component: Component) -> Option<&'a Applied> {
    let objects = facts.desired?.lanes.get(&Lane::Config)?.objects();
    let is_it = |key: &&Key| matches!(key, Key::Component { component: found, .. } if *found == component);
    let key = objects.keys().find(is_it)?;
    let applied = facts.session?.applied.get(key)?;
    (applied.version == Some(objects[key].version)).then_some(applied)
}

#[cfg(test)]
mod tests;
