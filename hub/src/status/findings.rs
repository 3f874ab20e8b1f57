//! What is in the way of one remote, in words with a remedy. Pure.

use remote_istio::lane::{Nack, NackReason};
use remote_istio::model::{Applied, ApplyState, Key};

use super::facts::Facts;
use crate::index::Problem;

/// Of one finding in a condition; leaves room for what is said around it.
pub(super) const FINDING_MAX_CHARACTERS: usize = 500;

/// Something that a person may have to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `CamelCase` reason of the condition.
    pub reason: &'static str,
    /// The object or field, what is wrong with it, what to do.
    pub message: String,
}

/// What the agent made of everything desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Application {
    /// Objects that cannot be applied, or removed, as they are.
    pub failures: Vec<Finding>,
    /// Objects where a user's own decision in the remote wins.
    pub decided: Vec<Finding>,
    /// Objects that wait for something in the remote: for pods, or for what they build on.
    pub waiting: Vec<Finding>,
    /// Objects still on their way.
    pub pending: usize,
}

/// What only the hub can see to be wrong: what is fatal, or what is only said.
#[must_use]
pub fn problems(facts: &Facts<'_>, fatal: bool) -> Vec<Finding> {
    let problems = facts.desired.map_or(&[][..], |desired| &desired.problems);
    problems
        .iter()
        .filter(|problem| problem.fatal == fatal)
        .map(
            |Problem {
                 reason, field, message, ..
             }| Finding {
                reason,
                message: format!("{field}: {message}"),
            },
        )
        .collect()
}

/// What the agent refused.
#[must_use]
pub fn refusals(refused: &[Nack]) -> Vec<Finding> {
    let mut refused: Vec<&Nack> = refused.iter().collect();
    refused.sort_by(|one, other| one.key.cmp(&other.key));
    refused
        .into_iter()
        .map(|nack| Finding {
            reason: "ObjectsRefused",
            message: format!(
                "the agent refused {} ({}{}); {}",
                nack.key,
                nack.reason.as_str(),
                said(&nack.detail),
                remedy_of_refusal(nack.reason)
            ),
        })
        .collect()
}

/// What became of everything the lanes of the session speak of.
#[must_use]
pub fn application(facts: &Facts<'_>) -> Application {
    let mut application = Application::default();
    let Some((session, desired)) = facts.current() else {
        return application;
    };
    let objects = || desired.lanes.values().flat_map(|snapshot| snapshot.objects());
    for (key, object) in objects() {
        match session.applied.get(key) {
            Some(applied) if applied.version == Some(object.version) => application.add(key, applied),
            _ => application.pending += 1,
        }
    }
    for (key, applied) in session.applied.iter() {
        let is_desired = desired
            .lanes
            .values()
            .any(|snapshot| snapshot.objects().contains_key(key));
        if !is_desired {
            application.add_removal(key, applied);
        }
    }
    application
}

impl Application {
    fn add(&mut self, key: &Key, applied: &Applied) {
        match applied.state {
            ApplyState::Applied => {}
            ApplyState::Removed => self.pending += 1,
            ApplyState::UserDecided => self.decided.push(finding(key, applied, "is not applied")),
            ApplyState::NotReady => self.waiting.push(finding(key, applied, "is not ready")),
            _ => self.failures.push(finding(key, applied, "cannot be applied")),
        }
    }

    /// Of what is no longer desired.
    fn add_removal(&mut self, key: &Key, applied: &Applied) {
        match (applied.version, applied.state) {
            _ if is_gone(applied) => {}
            (Some(_), _) | (None, ApplyState::Applied) => self.pending += 1,
            // What goes first waits for no other of ours: it knows the reason.
            (None, ApplyState::NotReady) => self.waiting.insert(0, finding(key, applied, "is not removed yet")),
            (None, _) => self.failures.push(finding(key, applied, "cannot be removed")),
        }
    }
}

/// Whether nothing of ours stands in the remote any more after a removal: a foreign object was never ours to remove.
#[must_use]
pub fn is_gone(applied: &Applied) -> bool {
    matches!(
        (applied.version, applied.state),
        (_, ApplyState::Removed) | (None, ApplyState::Foreign | ApplyState::UserDecided)
    )
}

/// The first finding, and how many more there are.
#[must_use]
pub fn summary(findings: &[Finding]) -> String {
    let Some(first) = findings.first() else {
        return String::new();
    };
    let message: String = first.message.chars().take(FINDING_MAX_CHARACTERS).collect();
    match findings.len() - 1 {
        0 => message,
        more => format!("{message} (and {more} more)"),
    }
}

fn finding(key: &Key, applied: &Applied, outcome: &str) -> Finding {
    let state = applied.state;
    Finding {
        reason: state.as_str(),
        message: format!(
            "{key} {outcome} ({}{}); {}",
            state.as_str(),
            said(&applied.detail),
            remedy_of_state(key, state)
        ),
    }
}

fn said(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

fn remedy_of_refusal(reason: NackReason) -> &'static str {
    match reason {
        NackReason::Invalid => "correct its entry in the RemoteIstio, or report a defect",
        NackReason::TooLarge => "make its entry in the RemoteIstio select less",
        NackReason::UnknownKind => "update the agent to the release of the hub",
        NackReason::Policy => "allow it in the remote's policy, or take it out of the RemoteIstio",
        NackReason::BaseMismatch | NackReason::Stale => "it is sent again by itself",
        NackReason::GuardHeld => {
            "so many removals at once need a release: set annotation istio.banzaicloud.io/release-guard of the \
             RemoteIstio to its metadata.generation"
        }
    }
}

fn remedy_of_state(key: &Key, state: ApplyState) -> String {
    match state {
        ApplyState::Foreign => {
            "an object of that name belongs to somebody else; delete it in the remote, have it adopted as said, or take \
             its entry out of the RemoteIstio"
                .to_owned()
        }
        ApplyState::Forbidden => "apply the roles that come with the agent in the remote, or allow it there".to_owned(),
        ApplyState::NamespaceMissing => format!("create namespace {} in the remote", key.namespace()),
        ApplyState::Rejected => "see what the remote's API server said: validation, a quota or a webhook".to_owned(),
        ApplyState::Unavailable => "the remote's API server does not answer; it is tried again by itself".to_owned(),
        ApplyState::Contended => "find out who else writes it in the remote, and stop that".to_owned(),
        ApplyState::NotReady => "it goes on by itself once what it names is there".to_owned(),
        ApplyState::UserDecided => "a user of the remote decided otherwise, and that wins".to_owned(),
        ApplyState::Applied | ApplyState::Removed => "nothing to do".to_owned(),
    }
}
