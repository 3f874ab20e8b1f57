//! What the engine would have found out by the tasks beside it, and what it makes of their findings.

use std::collections::BTreeSet;

use remote_istio::model::{Body, Component, Key};
use remote_istio::wire::v1;

use super::state::State;
use super::{Engine, Facts};

/// What the tasks beside the engine are to look after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wants {
    /// Components that are held and run pods: whether their roles are there is to be found out.
    pub components: BTreeSet<Component>,
    /// The trust to have an intermediate of, where one was granted.
    pub trust: Option<v1::MeshTrust>,
    /// What was made for a trust may go now: it is wanted no longer, and nobody signs with it. Never said before the hub
    /// has been heard: stale beats empty.
    pub trust_removed: bool,
    /// With `trust_removed`: it stays in the remote, without the owner's labels.
    pub trust_orphaned: bool,
    /// The injector is held: whether its pods serve is to be found out.
    pub injector: bool,
}

impl Engine {
    /// What the tasks beside the engine are to look after, as of now.
    #[must_use]
    pub fn wants(&self) -> Wants {
        let held = |component: Component| {
            let state = self.state_of(component)?;
            (!state.removed).then_some(state)
        };
        // Nothing is written for what the policy allows no longer.
        let trust = held(Component::Trust).filter(|state| state.refused.is_none());
        let trust = trust.and_then(|state| match &state.object.body {
            Body::Trust(trust) => Some(trust.clone()),
            _ => None,
        });
        let trust_removed = match self.state_of(Component::Trust) {
            Some(state) => state.removed && (state.orphaned || self.state_of(Component::Citadel).is_none()),
            None => self.config_heard,
        };
        let runs = [Component::Citadel, Component::Injector];
        Wants {
            components: runs
                .into_iter()
                .filter(|component| held(*component).is_some())
                .collect(),
            trust,
            trust_removed,
            trust_orphaned: self.state_of(Component::Trust).is_some_and(|state| state.orphaned),
            injector: held(Component::Injector).is_some(),
        }
    }

    /// The tasks beside the engine found something out.
    pub fn learn(&mut self, facts: Facts, now: u64) {
        self.pass(now);
        if self.surroundings.facts == facts {
            return;
        }
        self.surroundings.facts = facts;
        self.surroundings_changed();
    }

    /// The key of a component of this remote.
    pub(super) fn component(&self, component: Component) -> Key {
        Key::component(component, &self.settings.namespace)
    }

    pub(super) fn state_of(&self, component: Component) -> Option<&State> {
        self.states.get(&self.component(component))
    }

    /// Renders every component anew and looks at it.
    pub(super) fn surroundings_changed(&mut self) {
        let components = self
            .states
            .iter_mut()
            .filter(|(key, _)| matches!(key, Key::Component { .. }));
        for (key, state) in components {
            state.render(&self.settings, &self.surroundings);
            self.dirty.insert(key.clone());
        }
    }
}
