//! Taking away: only what the inventory holds, with its UID, and the record last.

use remote_istio::model::{Applied, Key};

use super::super::state::State;
use super::super::{Kind, ObjectName, Write, names};
use super::{Planner, Step, applied, is_terminating};

impl Planner<'_> {
    /// Deletes what is in the inventory and not wanted, one at a time; drops what is gone or was never ours.
    pub(super) fn leftovers(&mut self, state: &mut State, step: &mut Step) {
        let observed = self.observed;
        for name in state.leftovers() {
            let is_webhook = name.kind == Kind::MutatingWebhook;
            // While its injector is wanted the webhook has rules of its own.
            if is_webhook && !state.removed {
                continue;
            }
            let uid = match observed.get(&name) {
                Some(found) if self.owns(state, &name, found) => {
                    (!is_terminating(found)).then(|| found.uid().to_owned())
                }
                // Without the right to look nothing is seen: that it is gone, only an answer says.
                None if Self::may_be_unseen(state, &name) => state.inventory.get(&name).cloned().flatten(),
                None if self.is_uncertain(state, &name) => {
                    if let Some(until) = state.progress(&name).uncertain_until {
                        step.wake_at(until);
                    }
                    None
                }
                _ => {
                    state.inventory.remove(&name);
                    state.progress.remove(&name);
                    continue;
                }
            };
            if let Some(uid) = uid {
                if let Some(at) = state.progress(&name).blocked(self.now) {
                    step.wake_at(at);
                } else {
                    let object = name.clone();
                    let write = if state.orphaned {
                        Write::Release { object, uid }
                    } else {
                        Write::Delete { object, uid }
                    };
                    step.write = Some((name, write));
                    return;
                }
            }
            // As long as it stands, or may, it asks for its injector.
            if is_webhook {
                return;
            }
        }
    }

    /// Made by this agent, of a kind whose watch needs a right that may have been taken away.
    fn may_be_unseen(state: &State, name: &ObjectName) -> bool {
        matches!(name.kind, Kind::MutatingWebhook | Kind::Deployment)
            && matches!(state.inventory.get(name), Some(Some(_)))
    }

    /// Its creation was not answered, it may still appear.
    fn is_uncertain(&self, state: &mut State, name: &ObjectName) -> bool {
        let until = state.progress(name).uncertain_until;
        until.is_some_and(|until| until > self.now)
    }

    /// Removal: the record says so first, then the objects go, then the record.
    pub(super) fn remove(&mut self, state: &mut State) -> Step {
        let mut step = Step {
            kept: self.recorded(state),
            ..Step::default()
        };
        let record = names::record(self.settings, &state.key);
        let nothing_to_undo = state.inventory.is_empty() && !matches!(state.key, Key::Injection { .. });
        let waits = match state.key {
            Key::Component { component, .. } => self.end_waits(state, component),
            _ => None,
        };
        if self.observed.get(&record).is_none() && nothing_to_undo && waits.is_none() {
            return Step {
                kept: true,
                gone: true,
                ..step
            };
        }
        if state.keeping && !step.kept {
            self.write_record(state, &mut step);
        } else if waits.is_none() {
            self.undo(state, &record, &mut step);
        }
        let fault = waits
            .or_else(|| self.fault(state))
            .or_else(|| self.lingering(state))
            .or_else(|| self.record_fault(state));
        step.report = fault.map(|fault| Applied {
            version: None,
            ..applied(state, fault, 0)
        });
        step
    }

    fn undo(&mut self, state: &mut State, record: &ObjectName, step: &mut Step) {
        if state.orphaned && matches!(state.key, Key::Injection { .. }) {
            // The labels stay, as they are.
        } else if let Key::Injection { namespace } = &state.key {
            let namespace = namespace.clone();
            self.give_up_labels(state, &namespace, step);
        } else {
            self.leftovers(state, step);
        }
        let undone = state.inventory.is_empty() && step.write.is_none() && step.wake.is_none();
        if !undone {
            return;
        }
        match self.observed.get(record).filter(|found| self.observed.is_owned(found)) {
            None => step.gone = true,
            Some(found) => {
                let delete = Write::Delete {
                    object: record.clone(),
                    uid: found.uid().to_owned(),
                };
                if let Some(at) = state.progress(record).blocked(self.now) {
                    step.wake_at(at);
                } else {
                    step.write = Some((record.clone(), delete));
                }
            }
        }
    }
}
