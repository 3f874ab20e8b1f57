//! An agent that leaves its remote: everything it made goes, without a word of a hub.

use super::{Engine, plan};

/// The word for who asked for it, where a hub's boot id stands else.
const LEAVING: &str = "leave";

/// Something of this agent that still stands in the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// A key, or an object.
    pub what: String,
    /// What stands in its way; nothing while it is on its way out.
    pub why: String,
}

impl Engine {
    /// Lets go of every key that is held, as a hub's last word to a remote would. What is on its way out goes on as it
    /// was asked to: what was to stay, stays.
    pub fn leave(&mut self, now: u64) {
        self.pass(now);
        self.config_heard = true;
        for (key, state) in &mut self.states {
            if state.removed {
                continue;
            }
            state.remove(&self.settings, LEAVING, false, self.now);
            // The record says so first, so that an agent that comes after goes on with it.
            state.keeping = self.observed.get(&super::names::record(&self.settings, key)).is_some();
            self.dirty.insert(key.clone());
        }
        self.mesh_may_differ();
    }

    /// What still stands: keys that are not forgotten, records that cannot be read, and what carries the owner's labels
    /// and no record speaks of.
    #[must_use]
    pub fn left(&self) -> Vec<Left> {
        let keys = self.states.iter().map(|(key, state)| Left {
            what: key.to_string(),
            why: state
                .report
                .as_ref()
                .map(|report| report.detail.clone())
                .unwrap_or_default(),
        });
        let unreadable = self.statistics.unreadable_records.iter().map(|(name, error)| Left {
            what: plan::describe(name),
            why: format!("the record does not read ({error}): see what it speaks of, then delete both"),
        });
        let mut left: Vec<Left> = keys.chain(unreadable).collect();
        if left.is_empty() {
            let owned = self.observed.iter().filter(|(_, found)| self.observed.is_owned(found));
            left.extend(owned.map(|(name, _)| Left {
                what: plan::describe(name),
                why: "it carries this agent's labels and no record speaks of it: it is left alone, delete it if nothing \
                      needs it"
                    .to_owned(),
            }));
        }
        left
    }
}
