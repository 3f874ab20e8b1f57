//! The injector's webhook: written last, once pods are available and serve, and withdrawn when none is any more, for it
//! would stand in the way of every new pod.

use super::super::progress::Fault;
use super::super::state::State;
use super::super::{Kind, ObjectName, Resource, Served, Write};
use super::order::not_ready;
use super::{Planner, Step, is_terminating, workload};

/// So long without an available pod and the webhook is withdrawn.
const WITHDRAWN_AFTER: u64 = 60_000_000_000;

impl Planner<'_> {
    /// Takes the webhook away where its injector has had no available pod for too long, or is gone and cannot be made
    /// anew (`given_up`).
    pub(super) fn withdraw(&mut self, state: &mut State, given_up: bool, step: &mut Step) {
        if self.has_available_pod(state) {
            state.unavailable_since = None;
            return;
        }
        let since = *state.unavailable_since.get_or_insert(self.now);
        let Some((name, uid)) = self.standing_webhook(state) else {
            return;
        };
        let due = since.saturating_add(WITHDRAWN_AFTER);
        if due > self.now && !given_up {
            step.wake_at(due);
            return;
        }
        let progress = state.progress(&name);
        if let Some(at) = progress.blocked(self.now) {
            step.wake_at(at);
            return;
        }
        // Its absence is our own doing from here on, no drift.
        progress.settled = false;
        step.write = Some((name.clone(), Write::Delete { object: name, uid }));
    }

    /// Brings the webhook to what it should be, as far as it may stand.
    pub(super) fn webhook(&mut self, state: &mut State, step: &mut Step) -> Option<Fault> {
        if !self.has_available_pod(state) {
            let stands = self.standing_webhook(state).is_some();
            let detail = if stands {
                "no pod of the injector is available: its webhook is withdrawn unless one comes within a minute"
            } else {
                "the webhook waits until a pod of the injector is available"
            };
            return Some(not_ready(detail));
        }
        let place = state
            .wanted
            .iter()
            .position(|(name, _)| name.kind == Kind::MutatingWebhook);
        let Some(place) = place else {
            let why = match &self.facts.injector {
                Served::Not(why) => why,
                Served::Unknown | Served::Yes { .. } => "it is being found out whether they serve",
            };
            let stands = self.standing_webhook(state).is_some();
            // An agent that has just started has not looked yet: nothing is wrong with that.
            if stands && self.facts.injector == Served::Unknown {
                return None;
            }
            let what = if stands { "stays as it is" } else { "waits" };
            let detail =
                format!("the webhook {what} until the injector's pods serve with a certificate of Citadel: {why}");
            return Some(not_ready(&detail));
        };
        self.objects(state, place..place + 1, step);
        None
    }

    /// Whether the injector's own Deployment has an available pod.
    fn has_available_pod(&self, state: &State) -> bool {
        let deployment = self.deployment(state);
        deployment.is_some_and(|deployment| workload::replicas(deployment).available > 0)
    }

    /// The Deployment of a component, as observed.
    pub(super) fn deployment(&self, state: &State) -> Option<&k8s_openapi::api::apps::v1::Deployment> {
        let (name, _) = state.wanted.iter().find(|(name, _)| name.kind == Kind::Deployment)?;
        match self.observed.get(name).filter(|found| self.observed.is_owned(found))? {
            Resource::Deployment(deployment) => Some(deployment),
            _ => None,
        }
    }

    /// The webhook that stands in the remote and is ours, with its UID.
    pub(super) fn standing_webhook(&self, state: &State) -> Option<(ObjectName, String)> {
        let mut names = state.inventory.keys().filter(|name| name.kind == Kind::MutatingWebhook);
        names.find_map(|name| {
            let found = self.observed.get(name).filter(|found| self.owns(state, name, found))?;
            (!is_terminating(found)).then(|| (name.clone(), found.uid().to_owned()))
        })
    }
}
