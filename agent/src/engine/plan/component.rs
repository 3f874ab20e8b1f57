//! Components: in their order, behind their gates, with how far their pods are.

use remote_istio::model::{ApplyState, Component};

use super::super::Kind;
use super::super::progress::Fault;
use super::super::state::State;
use super::order::{self, not_ready};
use super::{Planner, Step, describe, finalizers, lingers, workload};

impl Planner<'_> {
    /// Brings a component to what it should be, and says what is in the way.
    pub(super) fn component(&mut self, state: &mut State, component: Component, step: &mut Step) -> Option<Fault> {
        if component == Component::Injector {
            self.withdraw(state, false, step);
            if step.write.is_some() {
                return None;
            }
        }
        if let Some(fault) = order::gate(component, self.others, self.facts) {
            return Some(fault);
        }
        let last = state
            .wanted
            .iter()
            .position(|(name, _)| name.kind == Kind::MutatingWebhook);
        let in_place = self.objects(state, 0..last.unwrap_or(state.wanted.len()), step);
        if step.write.is_some() {
            return self.fault(state);
        }
        if in_place {
            self.leftovers(state, step);
        }
        let mut webhook = None;
        if component == Component::Injector && step.write.is_none() {
            if self.deployment(state).is_none() {
                self.withdraw(state, true, step);
            }
            if step.write.is_none() {
                webhook = self.webhook(state, step);
            }
        }
        self.fault(state).or_else(|| self.pods(state)).or(webhook)
    }

    /// What a component's pods lack.
    fn pods(&self, state: &State) -> Option<Fault> {
        let (name, _) = state.wanted.iter().find(|(name, _)| name.kind == Kind::Deployment)?;
        let deployment = self.deployment(state)?;
        let complaint = workload::complaint(deployment)?;
        Some(not_ready(&format!("{}: {complaint}", describe(name))))
    }

    /// Whether everything but the webhook, which has reasons of its own, is as it should be.
    pub(super) fn is_settled(state: &State) -> bool {
        state
            .wanted
            .iter()
            .all(|(name, _)| state.progress.get(name).is_some_and(|of| of.settled))
    }

    /// What a component's end waits for.
    pub(super) fn end_waits(&self, state: &State, component: Component) -> Option<Fault> {
        order::gate_of_removal(component, state.orphaned, self.others, self.facts)
    }

    /// Something of ours that was deleted and still stands, for somebody's finalizer holds it.
    pub(super) fn lingering(&self, state: &State) -> Option<Fault> {
        state.leftovers().into_iter().find_map(|name| {
            let finalizers = finalizers(self.observed.get(&name)?);
            (!finalizers.is_empty()).then(|| Fault::new(ApplyState::NotReady, lingers(&name, &finalizers)))
        })
    }
}
