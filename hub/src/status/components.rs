//! How far the components of one remote are. Pure.

use remote_istio::model::{Applied, ApplyState, Component, Key, Lane};

use super::facts::Facts;
use super::findings::FINDING_MAX_CHARACTERS;
use crate::crd::ComponentStatus;

/// Components with pods, under the names of their blocks in the spec.
const NAMES: [(Component, &str); 2] = [
    (Component::Citadel, "citadel"),
    (Component::Injector, "sidecarInjector"),
];

/// How far the pods of each desired component are. Without a session what was known last stays.
#[must_use]
pub fn components(facts: &Facts<'_>) -> Vec<ComponentStatus> {
    let before = facts.previous().map_or(&[][..], |before| &before.components);
    let (Some(session), Some(desired)) = (facts.session, facts.desired) else {
        return before.to_vec();
    };
    let Some(snapshot) = desired.lanes.get(&Lane::Config) else {
        return before.to_vec();
    };
    let mut components = Vec::new();
    for (key, object) in snapshot.objects() {
        let Some(name) = name_of(key) else { continue };
        let applied = session.applied.get(key);
        let stored = before.iter().find(|before| before.name == name);
        components.push(
            match applied.filter(|applied| applied.version == Some(object.version)) {
                Some(applied) => component(name, applied, stored),
                None => ComponentStatus {
                    message: "the agent has not applied it yet".to_owned(),
                    ..counted(name, applied, stored)
                },
            },
        );
    }
    components
}

fn name_of(key: &Key) -> Option<&'static str> {
    let Key::Component { component, .. } = key else {
        return None;
    };
    let (_, name) = NAMES.iter().find(|(named, _)| named == component)?;
    Some(name)
}

fn component(name: &str, applied: &Applied, stored: Option<&ComponentStatus>) -> ComponentStatus {
    let message = match applied.state {
        ApplyState::Applied => String::new(),
        state if applied.detail.is_empty() => state.as_str().to_owned(),
        state => format!("{}: {}", state.as_str(), applied.detail),
    };
    ComponentStatus {
        message: message.chars().take(FINDING_MAX_CHARACTERS).collect(),
        ..counted(name, Some(applied), stored)
    }
}

/// The agent's counts. An agent that comes back counts anew in a moment: until then what was counted last stays.
fn counted(name: &str, applied: Option<&Applied>, stored: Option<&ComponentStatus>) -> ComponentStatus {
    let replicas = applied.and_then(|applied| applied.replicas.as_ref());
    let counted = replicas.map(|replicas| ComponentStatus {
        desired: i64::from(replicas.desired),
        updated: i64::from(replicas.updated),
        available: i64::from(replicas.available),
        ..ComponentStatus::default()
    });
    ComponentStatus {
        name: name.to_owned(),
        message: String::new(),
        ..counted.or_else(|| stored.cloned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
