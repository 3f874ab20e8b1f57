//! Whose an object is: by its labels, and by its UID in the inventory.

use super::super::state::State;
use super::super::{ObjectName, Resource};
use super::Planner;

impl Planner<'_> {
    /// Made by this agent, and somebody took our labels off it without handing it to another agent.
    pub(super) fn is_unlabelled(&self, state: &State, name: &ObjectName, found: &Resource) -> bool {
        let is_known = matches!(state.inventory.get(name), Some(Some(uid)) if uid == found.uid());
        is_known && !self.observed.is_anothers(found)
    }

    /// Owned: our labels, and in the inventory by UID, or by name while it is being created.
    pub(super) fn owns(&self, state: &State, name: &ObjectName, found: &Resource) -> bool {
        self.observed.is_owned(found)
            && match state.inventory.get(name) {
                Some(Some(uid)) => uid == found.uid(),
                Some(None) => self.announced(state, name),
                None => false,
            }
    }
}
