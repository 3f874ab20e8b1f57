//! Which events are written anew, which are counted up, and when. Pure.

use std::collections::BTreeMap;

use super::{Event, Reason, Subject};

/// The same thing again within this belongs to the same event, milliseconds.
const SERIES_MILLISECONDS: i64 = 10 * 60 * 1_000;

/// A count is written so often at most, milliseconds.
const WRITE_MILLISECONDS: i64 = 30 * 1_000;

/// Series that are remembered; the oldest is forgotten first, and begins anew.
const SERIES_MAX: usize = 1_024;

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A new event.
    Create { event: Event, name: String, at: i64 },
    /// One more, or more, of an event that stands.
    Count {
        subject: Subject,
        reason: Reason,
        name: String,
        count: i32,
        at: i64,
    },
}

impl Step {
    pub(super) fn about(&self) -> (&Subject, Reason) {
        match self {
            Self::Create { event, .. } => (&event.subject, event.reason),
            Self::Count { subject, reason, .. } => (subject, *reason),
        }
    }
}

#[derive(Debug)]
struct Series {
    name: String,
    count: i32,
    seen_at: i64,
    written_at: i64,
    is_written: bool,
}

/// The events of the last while.
#[derive(Debug, Default)]
pub(super) struct Merging {
    series: BTreeMap<(Subject, Reason), Series>,
    /// Makes names unique within one millisecond.
    number: u64,
}

impl Merging {
    /// Takes an event. `now`: milliseconds since 1970.
    pub(super) fn take(&mut self, event: Event, now: i64) -> Vec<Step> {
        if let Some(once) = &event.once {
            let name = once.clone();
            return vec![Step::Create { event, name, at: now }];
        }
        self.expire(now);
        let key = (event.subject.clone(), event.reason);
        if let Some(series) = self.series.get_mut(&key) {
            series.count = series.count.saturating_add(1);
            series.seen_at = now;
            series.is_written = false;
            return count(&key, series, now).into_iter().collect();
        }
        self.number += 1;
        let name = format!("{}.{now:x}.{:x}", object_name(&event.subject), self.number);
        let series = Series {
            name: name.clone(),
            count: 1,
            seen_at: now,
            written_at: now,
            is_written: true,
        };
        self.series.insert(key, series);
        vec![Step::Create { event, name, at: now }]
    }

    /// Counts that were held back and may be written now.
    pub(super) fn flush(&mut self, now: i64) -> Vec<Step> {
        let steps = self
            .series
            .iter_mut()
            .filter_map(|(key, series)| count(key, series, now))
            .collect();
        self.expire(now);
        steps
    }

    /// The step could not be done: the next of its kind begins anew.
    pub(super) fn forget(&mut self, step: &Step) {
        let (subject, reason) = step.about();
        self.series.remove(&(subject.clone(), reason));
    }

    fn expire(&mut self, now: i64) {
        self.series
            .retain(|_, series| now.saturating_sub(series.seen_at) < SERIES_MILLISECONDS);
        while self.series.len() >= SERIES_MAX {
            let oldest = self.series.iter().min_by_key(|(_, series)| series.seen_at);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.series.remove(&key);
        }
    }
}

fn count(key: &(Subject, Reason), series: &mut Series, now: i64) -> Option<Step> {
    if series.is_written || now.saturating_sub(series.written_at) < WRITE_MILLISECONDS {
        return None;
    }
    series.written_at = now;
    series.is_written = true;
    Some(Step::Count {
        subject: key.0.clone(),
        reason: key.1,
        name: series.name.clone(),
        count: series.count,
        at: series.seen_at,
    })
}

pub(super) fn object_name(subject: &Subject) -> &str {
    match subject {
        Subject::Remote(remote) => remote.as_str(),
        Subject::Token(id) => id,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    const NONE: [i32; 0] = [];

    fn event(token: &str) -> Event {
        Event {
            subject: Subject::Token(token.to_owned()),
            kind: Kind::Warning,
            reason: Reason::TokenReplayed,
            note: "again".to_owned(),
            once: None,
        }
    }

    fn counted(steps: &[Step]) -> Vec<i32> {
        let count = |step: &Step| match step {
            Step::Create { .. } => 0,
            Step::Count { count, .. } => *count,
        };
        steps.iter().map(count).collect()
    }

    #[test]
    fn repetition_is_counted_in_one_event_and_written_now_and_then() {
        let mut merging = Merging::default();
        assert_eq!(counted(&merging.take(event("a"), 0)), [0]);
        for second in 1..30 {
            assert_eq!(counted(&merging.take(event("a"), second * 1_000)), NONE);
        }
        assert_eq!(counted(&merging.flush(29_999)), NONE);
        assert_eq!(counted(&merging.flush(30_000)), [30]);
        assert_eq!(counted(&merging.flush(90_000)), NONE, "nothing new to write");
        assert_eq!(counted(&merging.take(event("a"), 100_000)), [31]);
        assert_eq!(counted(&merging.take(event("b"), 100_000)), [0]);
    }

    #[test]
    fn event_begins_anew_after_ten_minutes_of_peace_or_a_failure() {
        let mut merging = Merging::default();
        merging.take(event("a"), 0);
        assert_eq!(counted(&merging.take(event("a"), SERIES_MILLISECONDS)), [0]);
        let step = merging.take(event("c"), SERIES_MILLISECONDS).remove(0);
        merging.forget(&step);
        assert_eq!(counted(&merging.take(event("c"), SERIES_MILLISECONDS)), [0]);
    }

    #[test]
    fn memory_is_bounded_whatever_happens() {
        let mut merging = Merging::default();
        for number in 0..3 * SERIES_MAX {
            merging.take(event(&number.to_string()), 0);
        }
        assert_eq!(merging.series.len(), SERIES_MAX);
    }

    #[test]
    fn what_all_replicas_see_has_one_name() {
        let once = Event {
            once: Some("remote-1.revoked.7".to_owned()),
            ..event("a")
        };
        let steps = Merging::default().take(once.clone(), 5);
        let name = "remote-1.revoked.7".to_owned();
        assert_eq!(
            steps,
            [Step::Create {
                event: once,
                name,
                at: 5
            }]
        );
    }
}
