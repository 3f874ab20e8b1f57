use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn found(resource_version: &str, holder: &str) -> Found {
    Found {
        resource_version: resource_version.to_owned(),
        record: Record {
            holder: holder.to_owned(),
            duration_seconds: 15,
            acquired_at: 5,
            renewed_at: 6,
            transitions: 2,
        },
    }
}

fn leader(now: u64) -> Election {
    let mut election = Election::new("me".to_owned());
    let write = election.judge(None, now, 1).expect("nobody leads");
    election.written(write, Written::Done("1".to_owned()), now);
    election
}

#[test]
fn absent_lease_is_created_and_gives_the_lead() {
    let mut election = Election::new("me".to_owned());
    let write = election.judge(None, 0, 77).expect("nobody leads");
    let record = Record {
        holder: "me".to_owned(),
        duration_seconds: 15,
        acquired_at: 77,
        renewed_at: 77,
        transitions: 0,
    };
    assert_eq!(write, Write { replaces: None, record });
    assert_eq!(election.leads_until(0), None, "not before the answer");
    election.written(write, Written::Done("1".to_owned()), 3 * SECOND);
    assert_eq!(election.leads_until(4 * SECOND), Some(13 * SECOND));
}

#[test]
fn lease_of_another_is_taken_only_after_it_was_seen_unchanged_for_its_duration() {
    let mut election = Election::new("me".to_owned());
    assert_eq!(election.judge(Some(found("7", "other")), 100 * SECOND, 1), None);
    assert_eq!(election.judge(Some(found("7", "other")), 114 * SECOND, 1), None);
    assert_eq!(
        election.judge(Some(found("8", "other")), 115 * SECOND, 1),
        None,
        "renewed"
    );
    assert_eq!(election.judge(Some(found("8", "other")), 129 * SECOND, 1), None);
    let write = election
        .judge(Some(found("8", "other")), 130 * SECOND, 9)
        .expect("expired");
    assert_eq!((write.replaces.as_deref(), write.record.transitions), (Some("8"), 3));
    assert_eq!((write.record.holder.as_str(), write.record.acquired_at), ("me", 9));
}

#[test]
fn released_lease_is_taken_at_once() {
    let mut election = Election::new("me".to_owned());
    assert!(election.judge(Some(found("7", "")), 0, 1).is_some());
}

#[test]
fn duration_of_another_is_honoured_within_reason() {
    for (asked, waits) in [(-1, 15), (1, 15), (30, 30), (1_000_000, 60)] {
        let mut election = Election::new("me".to_owned());
        let mut other = found("7", "other");
        other.record.duration_seconds = asked;
        assert_eq!(election.judge(Some(other.clone()), 0, 1), None);
        let just_before = waits * SECOND - 1;
        assert_eq!(election.judge(Some(other.clone()), just_before, 1), None, "{asked}");
        assert!(election.judge(Some(other), waits * SECOND, 1).is_some(), "{asked}");
    }
}

#[test]
fn leader_renews_without_reading_and_keeps_when_it_took_the_lease() {
    let mut election = leader(0);
    let write = election.renewal(2 * SECOND, 50).expect("leads");
    assert_eq!(write.replaces.as_deref(), Some("1"));
    assert_eq!((write.record.acquired_at, write.record.renewed_at), (1, 50));
    election.written(write, Written::Done("2".to_owned()), 2 * SECOND);
    assert_eq!(election.leads_until(3 * SECOND), Some(12 * SECOND));
}

#[test]
fn leader_without_an_answer_reads_first_and_ends_at_its_deadline() {
    let mut election = leader(0);
    let write = election.renewal(2 * SECOND, 50).expect("leads");
    election.written(write, Written::Unknown, 2 * SECOND);
    assert_eq!(election.renewal(4 * SECOND, 51), None, "reads first");
    assert_eq!(election.leads_until(4 * SECOND), Some(10 * SECOND));
    assert!(
        election.judge(Some(found("2", "me")), 5 * SECOND, 52).is_some(),
        "the write had been done"
    );
    assert_eq!(election.leads_until(10 * SECOND), None);
}

#[test]
fn leader_that_lost_the_write_stops_at_once() {
    let mut election = leader(0);
    let write = election.renewal(2 * SECOND, 50).expect("leads");
    election.written(write, Written::Lost, 2 * SECOND);
    assert_eq!(election.leads_until(2 * SECOND), None);
    let mut election = leader(0);
    assert_eq!(election.judge(Some(found("9", "other")), 3 * SECOND, 1), None);
    assert_eq!(election.leads_until(3 * SECOND), None);
}

#[test]
fn release_empties_the_holder_and_ends_the_lead() {
    let mut election = leader(0);
    let write = election.release(SECOND, 60).expect("leads");
    assert_eq!(
        (
            write.replaces.as_deref(),
            write.record.holder.as_str(),
            write.record.duration_seconds
        ),
        (Some("1"), "", 1)
    );
    assert_eq!(election.leads_until(SECOND), None);
    assert_eq!(Election::new("me".to_owned()).release(0, 0), None, "nothing to release");
}

/// The API server's side: compare and swap.
#[derive(Default)]
struct Store {
    lease: Option<Found>,
    writes: u64,
}

impl Store {
    fn write(&mut self, write: &Write) -> Written {
        if self.lease.as_ref().map(|lease| &lease.resource_version) != write.replaces.as_ref() {
            return Written::Lost;
        }
        self.writes += 1;
        let resource_version = self.writes.to_string();
        self.lease = Some(Found {
            resource_version: resource_version.clone(),
            record: write.record.clone(),
        });
        Written::Done(resource_version)
    }
}

/// One candidate's attempt: how long each half of each call takes, and whether the answer is lost.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    pause: u64,
    to_server: u64,
    from_server: u64,
    answer_lost: bool,
    stops: bool,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let call = || prop_oneof![8 => 0..SECOND, 2 => 0..20 * SECOND];
    (
        0..4 * SECOND,
        call(),
        call(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(pause, to_server, from_server, answer_lost, stops)| Attempt {
            pause,
            to_server,
            from_server,
            answer_lost,
            stops,
        })
}

/// A call on its way, at its next moment.
#[derive(Clone, Debug)]
enum Moment {
    Begin,
    ReadAtServer,
    ReadBack(Option<Found>),
    WriteAtServer(Write, u64),
    WriteBack(Write, Written, u64),
}

struct Candidate {
    election: Election,
    offset: u64,
    attempts: std::vec::IntoIter<Attempt>,
    current: Attempt,
    next: Option<(u64, Moment)>,
    /// Real times from and until which it believed to lead.
    leads: Vec<(u64, u64)>,
}

impl Candidate {
    fn new(name: &str, offset: u64, attempts: Vec<Attempt>) -> Self {
        let mut attempts = attempts.into_iter();
        let current = attempts.next().expect("at least one attempt");
        Self {
            election: Election::new(name.to_owned()),
            offset,
            attempts,
            current,
            next: Some((current.pause, Moment::Begin)),
            leads: Vec::new(),
        }
    }

    fn step(&mut self, store: &mut Store) {
        let Some((at, moment)) = self.next.take() else { return };
        let (now, wall) = (at + self.offset, i64::try_from(at / 1_000).expect("small"));
        let Attempt {
            to_server,
            from_server,
            answer_lost,
            stops,
            ..
        } = self.current;
        let following = match moment {
            Moment::Begin if stops => self
                .election
                .release(now, wall)
                .map(|write| (at + to_server, Moment::WriteAtServer(write, now))),
            Moment::Begin => Some(match self.election.renewal(now, wall) {
                Some(write) => (at + to_server, Moment::WriteAtServer(write, now)),
                None => (at + to_server, Moment::ReadAtServer),
            }),
            Moment::ReadAtServer => Some((at + from_server, Moment::ReadBack(store.lease.clone()))),
            Moment::ReadBack(found) => self
                .election
                .judge(found, now, wall)
                .map(|write| (at + to_server, Moment::WriteAtServer(write, now))),
            Moment::WriteAtServer(write, started) => {
                let outcome = store.write(&write);
                let outcome = if answer_lost { Written::Unknown } else { outcome };
                Some((at + from_server, Moment::WriteBack(write, outcome, started)))
            }
            Moment::WriteBack(write, outcome, started) => {
                // Whoever stepped down has no more use for the answer.
                if !write.record.holder.is_empty() {
                    self.election.written(write, outcome, started);
                }
                None
            }
        };
        self.note_lead(at);
        self.next = following.or_else(|| {
            self.current = self.attempts.next()?;
            Some((at + self.current.pause, Moment::Begin))
        });
    }

    /// From now on until the deadline it leads; what it believed before ends now at the latest.
    fn note_lead(&mut self, at: u64) {
        if let Some((_, until)) = self.leads.last_mut() {
            *until = (*until).min(at);
        }
        if let Some(until) = self.election.leads_until(at + self.offset) {
            self.leads.push((at, until - self.offset));
        }
    }
}

proptest! {
    #[test]
    fn two_candidates_never_lead_at_the_same_time(
        first in prop::collection::vec(attempt(), 1..60),
        second in prop::collection::vec(attempt(), 1..60),
        offsets in (0..1_000 * SECOND, 0..1_000 * SECOND),
    ) {
        let mut store = Store::default();
        let mut candidates = [Candidate::new("first", offsets.0, first), Candidate::new("second", offsets.1, second)];
        while let Some(soonest) = candidates
            .iter_mut()
            .filter(|candidate| candidate.next.is_some())
            .min_by_key(|candidate| candidate.next.as_ref().map(|(at, _)| *at))
        {
            soonest.step(&mut store);
        }
        for one in &candidates[0].leads {
            for other in &candidates[1].leads {
                prop_assert!(one.1 <= other.0 || other.1 <= one.0, "{one:?} and {other:?} overlap");
            }
        }
    }
}

#[test]
fn lead_passes_on_when_the_leader_falls_silent() {
    let prompt = Attempt {
        pause: 2 * SECOND,
        to_server: 0,
        from_server: 0,
        answer_lost: false,
        stops: false,
    };
    let mut store = Store::default();
    let mut first = Candidate::new("first", 0, vec![prompt; 3]);
    let mut second = Candidate::new("second", 9, vec![prompt; 20]);
    while first.next.is_some() {
        first.step(&mut store);
    }
    while second.next.is_some() {
        second.step(&mut store);
    }
    let holder = store.lease.map(|lease| (lease.record.holder, lease.record.transitions));
    assert_eq!(holder, Some(("second".to_owned(), 1)));
    assert!(!first.leads.is_empty() && !second.leads.is_empty());
}
