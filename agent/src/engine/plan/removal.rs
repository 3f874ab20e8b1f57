//! Taking away: only what the inventory holds, with its UID, and the record last.

use remote_istio::model::{Applied, Key};

use super::super::state::State;
use super::super::{ObjectName, Write, names};
use super::{Planner, Step, applied, is_terminating};

impl Planner<'_> {
    /// Deletes what is in the inventory and not wanted, one at a time; drops what is gone or was never ours.
    pub(super) fn leftovers(&mut self, state: &mut State, step: &mut Step) {
        let observed = self.observed;
        for name in state.leftovers() {
            match observed.get(&name) {
                Some(found) if self.owns(state, &name, found) => {
                    if is_terminating(found) {
                        continue;
                    }
                    let uid = found.uid().to_owned();
                    if let Some(at) = state.progress(&name).blocked(self.now) {
                        step.wake_at(at);
                    } else {
                        step.write = Some((name.clone(), Write::Delete { object: name, uid }));
                        return;
                    }
                }
                None if state
                    .progress(&name)
                    .uncertain_until
                    .is_some_and(|until| until > self.now) =>
                {
                    if let Some(until) = state.progress(&name).uncertain_until {
                        step.wake_at(until);
                    }
                }
                _ => {
                    state.inventory.remove(&name);
                    state.progress.remove(&name);
                }
            }
        }
    }

    /// Removal: the record says so first, then the objects go, then the record.
    pub(super) fn remove(&mut self, state: &mut State) -> Step {
        let mut step = Step {
            kept: self.recorded(state),
            ..Step::default()
        };
        let record = names::record(self.settings, &state.key);
        let nothing_to_undo = state.inventory.is_empty() && !matches!(state.key, Key::Injection { .. });
        if self.observed.get(&record).is_none() && nothing_to_undo {
            return Step {
                kept: true,
                gone: true,
                ..step
            };
        }
        if state.keeping && !step.kept {
            self.write_record(state, &mut step);
        } else {
            self.undo(state, &record, &mut step);
        }
        let fault = self.fault(state).or_else(|| self.record_fault(state));
        step.report = fault.map(|fault| Applied {
            version: None,
            ..applied(state, fault, 0)
        });
        step
    }

    fn undo(&mut self, state: &mut State, record: &ObjectName, step: &mut Step) {
        if let Key::Injection { namespace } = &state.key {
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
