//! Whether the process can do its work, as named conditions that must all be met.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The conditions of one process. Without any condition it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// What each condition waits for; `None` once it is met.
    conditions: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

/// One condition, in the hands of the part that knows.
#[derive(Clone, Debug)]
#[must_use = "a condition that nobody meets keeps the process unready"]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a condition that is not met yet. A name that exists already starts anew.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition {
            name,
            readiness: self.clone(),
        };
        condition.waits_for("not started yet");
        condition
    }

    /// What is not met, by name; empty when the process is ready.
    #[must_use]
    pub fn unmet(&self) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.lock();
        conditions
            .iter()
            .filter_map(|(name, waits_for)| Some((*name, waits_for.clone()?)))
            .collect()
    }
}

impl Condition {
    /// The condition is met.
    pub fn met(&self) {
        self.set(None);
    }

    /// The condition is not met, or no longer; `what` is shown at `/readyz`.
    pub fn waits_for(&self, what: impl Into<String>) {
        self.set(Some(what.into()));
    }

    fn set(&self, value: Option<String>) {
        self.readiness.conditions.lock().insert(self.name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_each_condition_is_met() {
        let readiness = Readiness::default();
        assert_eq!(readiness.unmet(), []);
        let (watches, hub) = (readiness.condition("watches"), readiness.condition("hub"));
        watches.waits_for("first list of pods");
        hub.met();
        assert_eq!(readiness.unmet(), [("watches", "first list of pods".to_owned())]);
        watches.met();
        assert_eq!(readiness.unmet(), []);
        hub.waits_for("reconnect");
        assert_eq!(readiness.unmet(), [("hub", "reconnect".to_owned())]);
    }
}
