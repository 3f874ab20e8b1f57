//! How far one object has come: what stands in its way, when it is tried again, and who keeps changing it.

use std::collections::VecDeque;

use rand::Rng as _;
use rand::rngs::StdRng;
use remote_istio::model::ApplyState;

use super::Failure;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// First and largest pause while the API server does not answer.
const UNAVAILABLE_PAUSE: (u64, u64) = (200 * MILLISECOND, 30 * SECOND);
/// First and largest pause after the API server refused an object: somebody has to change something first.
const REJECTED_PAUSE: (u64, u64) = (SECOND, 300 * SECOND);
/// Pause where a person must act (a foreign object, a missing right or namespace) and no watch need tell us that he has.
const PERSON_PAUSE: u64 = 30 * SECOND;
/// First and largest pause after a conflict: the watch will soon show what is there.
const CONFLICT_PAUSE: (u64, u64) = (200 * MILLISECOND, 30 * SECOND);
/// A creation that was not answered may still come to be, within this time.
const UNCERTAIN: u64 = 10 * SECOND;
/// Repairs of one object within [`REPAIR_WINDOW`] that are made at once.
const REPAIRS_AT_ONCE: usize = 5;
/// The time over which repairs count; so long without one and the object is no longer contended.
const REPAIR_WINDOW: u64 = 60 * SECOND;
/// First and largest pause between repairs of a contended object.
const CONTENDED_PAUSE: (u64, u64) = (2 * SECOND, 60 * SECOND);

/// What stands in an object's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub state: ApplyState,
    /// For people.
    pub detail: String,
}

impl Fault {
    /// A fault in these words.
    #[must_use]
    pub fn new(state: ApplyState, detail: impl Into<String>) -> Self {
        Self {
            state,
            detail: detail.into(),
        }
    }

    /// Whether waiting alone is unlikely to help soon.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.state != ApplyState::Unavailable
    }
}

/// What follows when an apply was answered and the object still is not as wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replacement {
    /// Nothing of the kind happened.
    #[default]
    None,
    /// Something that is not ours clings to it: delete it and create it anew.
    Due,
    /// That was done once and is not done again.
    Done,
}

/// How far one object has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// It was seen as it is wanted now. If it is not so any more, that is drift.
    pub settled: bool,
    /// What stands in its way.
    pub fault: Option<Fault>,
    /// No try before this.
    pub retry_at: Option<u64>,
    /// Whether to delete it and create it anew.
    pub replacement: Replacement,
    /// A creation was not answered; until then the object may still appear.
    pub uncertain_until: Option<u64>,
    /// UID of what stood there before it was found gone.
    pub former: Option<String>,
    /// Its name is taken, by something that no watch shows.
    pub taken: bool,
    attempts: u32,
    repairs: VecDeque<u64>,
    slowed: u32,
    slow_until: Option<u64>,
}

impl Progress {
    /// When the next try is due, if that is later than `now`.
    #[must_use]
    pub fn blocked(&self, now: u64) -> Option<u64> {
        self.retry_at.filter(|at| *at > now)
    }

    /// It is as wanted.
    pub fn settle(&mut self, now: u64) {
        self.settled = true;
        self.fault = None;
        self.retry_at = None;
        self.attempts = 0;
        self.replacement = Replacement::None;
        self.uncertain_until = None;
        self.former = None;
        self.taken = false;
        if self.quiet_at().is_some_and(|quiet| quiet <= now) {
            self.repairs.clear();
            self.slowed = 0;
            self.slow_until = None;
        }
    }

    /// A write was answered well.
    pub fn answered(&mut self) {
        self.retry_at = None;
        self.attempts = 0;
        self.uncertain_until = None;
        if self
            .fault
            .as_ref()
            .is_some_and(|fault| fault.state == ApplyState::Unavailable)
        {
            self.fault = None;
        }
    }

    /// Something else is wanted from here on.
    pub fn renew(&mut self) {
        self.settled = false;
        self.replacement = Replacement::None;
        // A refusal was of the old content.
        if self
            .fault
            .as_ref()
            .is_some_and(|fault| fault.state == ApplyState::Rejected)
        {
            self.retry_at = None;
            self.attempts = 0;
        }
    }

    /// What stood in the way may be gone: try at once.
    pub fn retry_now(&mut self) {
        self.retry_at = None;
        self.attempts = 0;
    }

    /// Drift was found. Whether it may be repaired now; otherwise when.
    ///
    /// # Errors
    /// Not before this time.
    pub fn repair(&mut self, now: u64, random: &mut StdRng) -> Result<(), u64> {
        if let Some(until) = self.slow_until.filter(|until| *until > now) {
            return Err(until);
        }
        self.forget_repairs(now);
        if self.slow_until.take().is_none() && self.repairs.len() >= REPAIRS_AT_ONCE {
            let until = now + pause(CONTENDED_PAUSE, self.slowed, random);
            self.slowed += 1;
            self.slow_until = Some(until);
            return Err(until);
        }
        self.settled = false;
        self.repairs.push_back(now);
        if self.repairs.len() > REPAIRS_AT_ONCE {
            self.repairs.pop_front();
        }
        Ok(())
    }

    /// Repairs of a contended object count until it has been quiet for long enough.
    fn forget_repairs(&mut self, now: u64) {
        let old = |at: &u64| now.saturating_sub(*at) >= REPAIR_WINDOW;
        while !self.contended() && self.repairs.front().is_some_and(old) {
            self.repairs.pop_front();
        }
    }

    /// Whether somebody keeps changing it.
    #[must_use]
    pub fn contended(&self) -> bool {
        self.slowed > 0
    }

    /// When a contended object may be called quiet.
    #[must_use]
    pub fn quiet_at(&self) -> Option<u64> {
        let last = self.repairs.back().filter(|_| self.contended())?;
        Some(self.slow_until.unwrap_or_default().max(last + REPAIR_WINDOW))
    }

    /// A write failed: what to say and when to try again.
    /// `stranger` is what to say where another object has the name.
    pub fn failed(&mut self, failure: &Failure, stranger: Fault, now: u64, random: &mut StdRng) {
        let attempts = self.attempts;
        self.attempts = attempts.saturating_add(1);
        self.taken = *failure == Failure::AlreadyExists;
        let (fault, wait) = match failure {
            // The watch has not shown it yet: it may well be our own.
            Failure::AlreadyExists if attempts == 0 => (None, pause(CONFLICT_PAUSE, 0, random)),
            Failure::AlreadyExists => (Some(stranger), jittered(PERSON_PAUSE, random)),
            Failure::NotFound => (None, 0),
            Failure::Conflict(_) => (None, pause(CONFLICT_PAUSE, attempts, random)),
            Failure::NamespaceMissing(message) => (
                Some(Fault::new(ApplyState::NamespaceMissing, message)),
                jittered(PERSON_PAUSE, random),
            ),
            Failure::Forbidden(message) => {
                let detail = format!("{message}; give the agent's role this right");
                (
                    Some(Fault::new(ApplyState::Forbidden, detail)),
                    jittered(PERSON_PAUSE, random),
                )
            }
            Failure::Rejected(message) => (
                Some(Fault::new(ApplyState::Rejected, message)),
                pause(REJECTED_PAUSE, attempts, random),
            ),
            Failure::Unavailable {
                message,
                retry_after_milliseconds,
            } => {
                self.uncertain_until = Some(now + UNCERTAIN);
                let asked = retry_after_milliseconds.unwrap_or_default().saturating_mul(MILLISECOND);
                let wait = pause(UNAVAILABLE_PAUSE, attempts, random).max(asked.min(REJECTED_PAUSE.1));
                (Some(Fault::new(ApplyState::Unavailable, message)), wait)
            }
        };
        if fault.is_some() {
            self.fault = fault;
        }
        self.retry_at = Some(now.saturating_add(wait));
    }

    /// A field of it cannot change: it is made anew, once.
    pub fn immutable(&mut self, what: &str, message: &str) {
        if self.replacement == Replacement::None {
            self.replacement = Replacement::Due;
            self.fault = None;
            self.retry_now();
            return;
        }
        let detail = format!("{message}; delete {what} by hand and the agent creates it anew");
        self.fault = Some(Fault::new(ApplyState::Rejected, detail));
    }

    /// An object that cannot be brought to what is wanted.
    pub fn reject(&mut self, detail: String, now: u64, random: &mut StdRng) {
        self.fault = Some(Fault::new(ApplyState::Rejected, detail));
        self.retry_at = Some(now + pause(REJECTED_PAUSE, self.attempts, random));
        self.attempts = self.attempts.saturating_add(1);
    }
}

/// Another object has the name; `adopt` is the command that hands it over.
#[must_use]
pub fn foreign(what: &str, adopt: &str) -> Fault {
    let detail = format!(
        "{what} exists and is not this agent's: it is left alone. Delete it and the agent creates its own, or hand it \
         over: {adopt}"
    );
    Fault::new(ApplyState::Foreign, detail)
}

/// When a label that somebody else holds is tried again, if no watch shows a change before.
pub const DECIDED_PAUSE: u64 = 300 * SECOND;

/// A pause between half of a bound and the bound, which doubles with each attempt up to the largest.
fn pause((first, largest): (u64, u64), attempts: u32, random: &mut StdRng) -> u64 {
    jittered(first.saturating_mul(1 << attempts.min(20)).min(largest), random)
}

fn jittered(bound: u64, random: &mut StdRng) -> u64 {
    random.random_range(bound / 2..=bound)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn random() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn five_repairs_are_made_at_once_and_the_sixth_waits() {
        let (mut progress, mut random) = (Progress::default(), random());
        for second in 0..5 {
            assert_eq!(progress.repair(second * SECOND, &mut random), Ok(()));
        }
        assert!(!progress.contended());
        let until = progress.repair(5 * SECOND, &mut random).unwrap_err();
        assert!(progress.contended());
        assert_eq!(progress.repair(until - 1, &mut random), Err(until));
        assert_eq!(progress.repair(until, &mut random), Ok(()));
        assert!(progress.repair(until + 1, &mut random).unwrap_err() > until);
    }

    #[test]
    fn repairs_far_apart_are_never_contention() {
        let (mut progress, mut random) = (Progress::default(), random());
        for minute in 0..20 {
            assert_eq!(progress.repair(minute * 13 * SECOND, &mut random), Ok(()), "{minute}");
        }
    }

    #[test]
    fn pauses_between_contended_repairs_grow_to_a_minute_and_end_with_quiet() {
        let (mut progress, mut random) = (Progress::default(), random());
        let (mut now, mut longest) = (0, 0);
        for _ in 0..30 {
            if let Err(until) = progress.repair(now, &mut random) {
                longest = longest.max(until - now);
                now = until;
            }
        }
        assert!((30 * SECOND..=60 * SECOND).contains(&longest), "{longest}");
        let quiet = progress.quiet_at().unwrap();
        progress.settle(quiet - 1);
        assert!(progress.contended());
        progress.settle(quiet.max(now));
        assert!(!progress.contended());
    }

    #[test]
    fn retry_after_of_the_api_server_is_honoured() {
        let (mut progress, mut random) = (Progress::default(), random());
        let failure = Failure::Unavailable {
            message: "busy".to_owned(),
            retry_after_milliseconds: Some(7_000),
        };
        progress.failed(&failure, foreign("x", "y"), 0, &mut random);
        assert_eq!(progress.blocked(0), Some(7 * SECOND));
        assert!(!progress.fault.unwrap().lasts());
    }

    #[test]
    fn unanswered_writes_are_tried_again_later_and_later_up_to_half_a_minute() {
        let (mut progress, mut random, mut now) = (Progress::default(), random(), 0);
        let failure = Failure::Unavailable {
            message: String::new(),
            retry_after_milliseconds: None,
        };
        let mut pauses = vec![];
        for _ in 0..12 {
            progress.failed(&failure, foreign("x", "y"), now, &mut random);
            let next = progress.blocked(now).unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses[0] <= 200 * MILLISECOND, "{pauses:?}");
        assert!(
            pauses[11] >= 15 * SECOND && pauses.iter().all(|pause| *pause <= 30 * SECOND),
            "{pauses:?}"
        );
    }
}
