//! What the remote's policy would refuse of what it should hold, before anyone waits for it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::limits::DETAIL_MAX_BYTES;
use remote_istio::model::{Key, Lane, Version};
use remote_istio::policy::{Policy, Refusal};

use super::conditions::{ALLOWED, Verdict, stored};
use super::facts::Facts;
use crate::crd::{PolicyStatus, RemoteIstioStatus};
use crate::index::Desired;
use crate::report::SessionReport;

/// Left for what is said behind the refusals that find room.
const ROOM_FOR_THE_REST: usize = 40;

/// What was judged of one remote. Objects that have not changed are not judged again.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    policy: Option<Arc<Policy>>,
    /// Of the policy, as it stands in the status.
    digest: String,
    verdicts: BTreeMap<Key, (Version, Option<Refusal>)>,
}

impl Judgement {
    /// Judges what is desired by what the agent says now, else by what it said last. `namespace`: of the `RemoteIstio`,
    /// which is the agent's own.
    pub fn update(
        &mut self,
        session: Option<&SessionReport>,
        before: Option<&RemoteIstioStatus>,
        namespace: &str,
        desired: Option<&Desired>,
    ) {
        self.take_policy(session, before);
        let Some(policy) = &self.policy else {
            self.verdicts.clear();
            return;
        };
        let objects = || {
            let lanes = desired.into_iter().flat_map(|desired| desired.lanes.values());
            lanes.flat_map(|snapshot| snapshot.objects())
        };
        for (key, object) in objects() {
            let is_known = self
                .verdicts
                .get(key)
                .is_some_and(|(version, _)| *version == object.version);
            if !is_known {
                let refusal = policy.judge(namespace, key, &object.body).err();
                self.verdicts.insert(key.clone(), (object.version, refusal));
            }
        }
        if self.verdicts.len() > objects().count() {
            let is_desired = |key: &Key| {
                desired.is_some_and(|desired| desired.lanes.values().any(|lane| lane.objects().contains_key(key)))
            };
            self.verdicts.retain(|key, _| is_desired(key));
        }
    }

    fn take_policy(&mut self, session: Option<&SessionReport>, before: Option<&RemoteIstioStatus>) {
        let told = session.and_then(|session| session.policy.as_ref());
        let stored = before.and_then(|before| before.policy.as_ref());
        let policy = match (told, stored) {
            (Some(told), _) if self.policy.as_ref() == Some(told) => return,
            (Some(told), _) => Some(Arc::clone(told)),
            (None, Some(stored)) if self.policy.is_some() && stored.digest == self.digest => return,
            // A status that somebody else has written into says nothing.
            (None, Some(stored)) => stored.policy().ok().map(Arc::new),
            (None, None) => None,
        };
        self.verdicts.clear();
        self.digest = policy
            .as_ref()
            .map(|policy| policy.digest().to_string())
            .unwrap_or_default();
        self.policy = policy;
    }

    /// What would be refused, by key.
    fn refusals(&self) -> impl Iterator<Item = (&Key, &Refusal)> {
        let refused = self.verdicts.iter();
        refused.filter_map(|(key, (_, refusal))| Some((key, refusal.as_ref()?)))
    }
}

/// The policy as the status says it: what the agent told, else what it told last.
#[must_use]
pub fn policy(facts: &Facts<'_>) -> Option<PolicyStatus> {
    let told = facts.session.and_then(|session| session.policy.as_ref());
    let told = told.map(|policy| PolicyStatus::of(policy));
    told.or_else(|| facts.previous()?.policy.clone())
}

/// Whether the remote's policy allows everything it should hold; nothing where nobody has judged.
#[must_use]
pub fn allowed(facts: &Facts<'_>) -> Option<Verdict> {
    let judgement = facts.judgement?;
    if judgement.policy.is_none() {
        let message = "the remote's policy is not known before an agent connects that tells it";
        return Some(Verdict::unknown_by("PolicyUnknown", message));
    }
    let is_computed = facts
        .desired
        .is_some_and(|desired| Lane::ALL.iter().all(|lane| desired.lanes.contains_key(lane)));
    if !is_computed && let Some(before) = stored(facts.previous(), ALLOWED) {
        return Some(Verdict::as_before(before));
    }
    let refusals: Vec<(&Key, &Refusal)> = judgement.refusals().collect();
    if refusals.is_empty() {
        let message = "the remote's policy allows everything it should hold";
        return Some(Verdict::holds("AllAllowed", message));
    }
    Some(Verdict::fails("PolicyRefuses", list(&refusals)))
}

/// As many refusals as find room in a condition, and how many there are beside.
fn list(refusals: &[(&Key, &Refusal)]) -> String {
    let mut text = "the remote's policy refuses ".to_owned();
    for (index, (key, refusal)) in refusals.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let next = format!("{separator}{key} ({refusal})");
        if text.len() + next.len() + ROOM_FOR_THE_REST > DETAIL_MAX_BYTES && index > 0 {
            return format!("{text}; and {} more", refusals.len() - index);
        }
        text.push_str(&next);
    }
    text
}

#[cfg(test)]
mod tests;
