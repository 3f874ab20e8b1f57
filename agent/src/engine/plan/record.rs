//! The record as one more object of a key: written when something waits for it, otherwise later.

use remote_istio::model::ApplyState;

use super::super::progress::Fault;
use super::super::record::{announces, carries, state_word};
use super::super::state::State;
use super::super::{ObjectName, Resource, Write, matching, names};
use super::{Planner, Step, describe, foreign};

impl Planner<'_> {
    /// Whether the record carries what was accepted last.
    pub(super) fn recorded(&self, state: &State) -> bool {
        match self.observed.get(&names::record(self.settings, &state.key)) {
            Some(Resource::ConfigMap(map)) => {
                let word = state_word(state.removed, state.orphaned);
                carries(map, state.sequence, word, &state.release)
            }
            _ => false,
        }
    }

    /// Whether the record announces that an object is being created.
    pub(super) fn announced(&self, state: &State, object: &ObjectName) -> bool {
        match self.observed.get(&names::record(self.settings, &state.key)) {
            Some(Resource::ConfigMap(map)) => announces(map, object),
            _ => false,
        }
    }

    /// What stands in the way of the record.
    pub(super) fn record_fault(&self, state: &State) -> Option<Fault> {
        state
            .progress
            .get(&names::record(self.settings, &state.key))?
            .fault
            .clone()
    }

    /// Writes the record, if it differs and nothing forbids it now.
    pub(super) fn write_record(&mut self, state: &mut State, step: &mut Step) {
        let record = Resource::ConfigMap(Box::new(state.record().write(self.settings)));
        let name = record.name();
        let write = match self.observed.get(&name) {
            None => Write::Create(record),
            Some(found) if !self.observed.is_owned(found) => {
                Self::unkeepable(state, &name, foreign(self.settings, &name), step);
                return;
            }
            Some(_) if self.statistics.unreadable_records.contains_key(&name) => {
                let detail = format!(
                    "{} is unreadable and left alone: delete it once it is no longer wanted",
                    describe(&name)
                );
                Self::unkeepable(state, &name, Fault::new(ApplyState::Rejected, detail), step);
                return;
            }
            Some(found) if matching::matches(&record, found) => {
                state.record_due = None;
                state.progress(&name).settle(self.now);
                return;
            }
            Some(found) => Write::Apply(record.with_uid(found.uid())),
        };
        let progress = state.progress(&name);
        if let Some(at) = progress.blocked(self.now) {
            step.wake_at(at);
            let person = |fault: &&Fault| matches!(fault.state, ApplyState::Rejected | ApplyState::Foreign);
            let lasting = progress.fault.as_ref().filter(person);
            step.unkeepable = lasting.map(|fault| fault.detail.clone());
            return;
        }
        step.write = Some((name, write));
    }

    fn unkeepable(state: &mut State, name: &ObjectName, fault: Fault, step: &mut Step) {
        step.unkeepable = Some(fault.detail.clone());
        state.progress(name).fault = Some(fault);
    }

    /// Brings the record up to date once its time has come: nothing waits for this.
    pub(super) fn refresh_record(&mut self, state: &mut State, step: &mut Step) {
        let record = Resource::ConfigMap(Box::new(state.record().write(self.settings)));
        let name = record.name();
        if self
            .observed
            .get(&name)
            .is_some_and(|found| matching::matches(&record, found))
        {
            state.record_due = None;
            state.progress(&name).settle(self.now);
            return;
        }
        if state.record_due.is_none() {
            state.defer_record(self.now);
        }
        match state.record_due {
            Some((due, _)) if due > self.now => step.wake_at(due),
            _ => self.write_record(state, step),
        }
    }
}
