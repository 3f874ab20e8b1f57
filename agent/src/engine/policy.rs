//! The remote's policy over time: what is held is judged anew at each change of it.

use std::sync::Arc;

use remote_istio::policy::Policy;
use remote_istio::wire::v1::agent_frame::Frame;

use super::{Engine, Output, admit};

impl Engine {
    /// The remote's policy is another from here on. What is held and no longer allowed is left as it stands, reported,
    /// and written no more, until it is allowed again or let go.
    pub fn policy(&mut self, policy: Arc<Policy>, now: u64) {
        self.pass(now);
        if self.settings.policy == policy {
            return;
        }
        self.settings.policy = policy;
        self.enforce_policy();
        // After everything that was judged by the old one, and before anything that is judged by the new one.
        if self.welcomed {
            self.tell_policy();
        }
    }

    /// Judges what comes and what is held by the policy of the settings.
    pub(super) fn enforce_policy(&mut self) {
        let settings = self.settings.clone();
        self.session.set_policy(
            Box::new(move |key, object| admit::admit(&settings, key, object)),
            self.settings.policy.removals_limit(),
        );
        for (key, state) in self.states.iter_mut().filter(|(_, state)| !state.removed) {
            let refused = admit::judge(&self.settings, key, &state.object).err();
            if state.refused != refused {
                state.refused = refused;
                self.dirty.insert(key.clone());
            }
        }
    }

    /// Tells the hub what it may ask for.
    pub(super) fn tell_policy(&mut self) {
        let frame = Frame::Policy(self.settings.policy.to_wire());
        self.outputs.push_back(Output::Send(frame));
    }
}
