//! How far each remote has come in a rollover, written to its record's status when it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use remote_istio::enrolment::Pin;
use remote_istio::identity::RemoteName;
use remote_istio::process::Backoff;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Identities, wait_until};
use crate::api_error;
use crate::crd::{RemoteIdentity, RemoteIdentityStatus};

/// One write.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Field manager of everything the hub writes.
const FIELD_MANAGER: &str = "remote-istio-hub";

/// After a write that failed, before the same remote's next one. At least the time between two that succeed.
const PAUSES: (Duration, Duration) = (BETWEEN_WRITES, Duration::from_secs(30));

/// Between two writes for one remote, whatever it says.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// After a write that failed, before the next remote's.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Reports {
    queue: Mutex<Queue>,
    noted: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Report {
    epoch: Option<u64>,
    signer: Option<Pin>,
}

impl Report {
    /// This, and where it says nothing, `older`.
    fn over(self, older: Self) -> Self {
        Self {
            epoch: self.epoch.or(older.epoch),
            signer: self.signer.or(older.signer),
        }
    }

    /// The status with this in it, if that is another.
    fn changes(self, status: Option<&RemoteIdentityStatus>) -> Option<RemoteIdentityStatus> {
        let known = status.cloned().unwrap_or_default();
        let epoch = self.epoch.map(|epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
        let wanted = RemoteIdentityStatus {
            trust_epoch: epoch.or(known.trust_epoch),
            signer: self.signer.map(|pin| pin.to_string()).or(known.signer.clone()),
        };
        (wanted != known).then_some(wanted)
    }
}

/// The newest word per remote, and when it may be written. Bounded by the remotes that have a certificate of ours.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<RemoteName, Waiting>,
    held: BTreeMap<RemoteName, Hold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    report: Report,
    due: Instant,
}

/// Why a remote's word must wait: the last write of it was a moment ago, or failed.
#[derive(Debug)]
struct Hold {
    until: Instant,
    backoff: Backoff,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Write(RemoteName, Report),
    At(Instant),
    Nothing,
}

impl Queue {
    fn note(&mut self, remote: &RemoteName, report: Report, now: Instant) {
        let due = self.held.get(remote).map_or(now, |hold| hold.until.max(now));
        let new = Waiting {
            report: Report::default(),
            due,
        };
        let waiting = self.waiting.entry(remote.clone()).or_insert(new);
        waiting.report = report.over(waiting.report);
    }

    /// Takes the word that is due for longest, so that every remote has its turn.
    fn next(&mut self, now: Instant) -> Next {
        let waiting = &self.waiting;
        self.held
            .retain(|name, hold| hold.until > now || waiting.contains_key(name));
        let first = self.waiting.iter().min_by_key(|(_, waiting)| waiting.due);
        let Some((remote, Waiting { report, due })) = first.map(|(remote, waiting)| (remote.clone(), *waiting)) else {
            return Next::Nothing;
        };
        if due > now {
            return Next::At(due);
        }
        self.waiting.remove(&remote);
        Next::Write(remote, report)
    }

    fn wrote(&mut self, remote: &RemoteName, now: Instant) {
        self.hold(remote, now, |backoff| {
            backoff.reset();
            BETWEEN_WRITES
        });
    }

    /// It waits again, behind what is due sooner; what was said meanwhile counts.
    fn failed(&mut self, remote: &RemoteName, report: Report, now: Instant) {
        self.hold(remote, now, |backoff| backoff.next_pause().max(BETWEEN_WRITES));
        let newer = self.waiting.remove(remote).map(|waiting| waiting.report);
        self.note(remote, newer.unwrap_or_default().over(report), now);
    }

    fn hold(&mut self, remote: &RemoteName, now: Instant, pause: impl Fn(&mut Backoff) -> Duration) {
        let hold = self.held.entry(remote.clone()).or_insert_with(|| Hold {
            until: now,
            backoff: Backoff::new(PAUSES, rand::random()),
        });
        hold.until = now + pause(&mut hold.backoff);
        if let Some(waiting) = self.waiting.get_mut(remote) {
            waiting.due = waiting.due.max(hold.until);
        }
    }
}

impl Reports {
    pub(super) fn note(&self, remote: &RemoteName, epoch: Option<u64>, signer: Option<Pin>) {
        let report = Report { epoch, signer };
        self.queue.lock().note(remote, report, Instant::now());
        self.noted.notify_one();
    }

    /// The next that is due.
    async fn next(&self) -> (RemoteName, Report) {
        loop {
            let next = self.queue.lock().next(Instant::now());
            let due = match next {
                Next::Write(remote, report) => return (remote, report),
                Next::At(due) => Some(due),
                Next::Nothing => None,
            };
            tokio::select! {
                () = self.noted.notified() => {}
                () = wait_until(due) => {}
            }
        }
    }

    /// Writes for ever, one after the other.
    pub(super) async fn write(&self, identities: &Identities, api: &Api<RemoteIdentity>) {
        loop {
            let (remote, report) = self.next().await;
            // Without a record there is nothing to compare with: certificates come from elsewhere.
            let Some(record) = identities.record(&remote) else {
                continue;
            };
            let Some(status) = report.changes(record.status.as_ref()) else {
                continue;
            };
            match write(api, &remote, &status).await {
                Ok(written) => {
                    if let Some(written) = written {
                        identities.wrote(written);
                    }
                    self.queue.lock().wrote(&remote, Instant::now());
                }
                Err(error) => {
                    tracing::warn!(%remote, %error, "the trust a remote keeps could not be noted, trying again");
                    self.queue.lock().failed(&remote, report, Instant::now());
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }
}

/// Nothing if the record is gone.
async fn write(
    api: &Api<RemoteIdentity>,
    remote: &RemoteName,
    status: &RemoteIdentityStatus,
) -> Result<Option<RemoteIdentity>, String> {
    let patch = Patch::Merge(json!({"status": status}));
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let call = api.patch_status(remote.as_str(), &parameters, &patch);
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(Ok(written)) => Ok(Some(written)),
        Ok(Err(error)) if api_error::code(&error) == 404 => Ok(None),
        Ok(Err(error)) => Err(api_error::message(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(epoch: i64, signer: Pin) -> RemoteIdentityStatus {
        RemoteIdentityStatus {
            trust_epoch: Some(epoch),
            signer: Some(signer.to_string()),
        }
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_not_said_stays() {
        let (old, new) = (Pin::of_key_info(b"old"), Pin::of_key_info(b"new"));
        let known = status(1, old);
        let report = |epoch, signer| Report { epoch, signer }.changes(Some(&known));
        assert_eq!(report(Some(1), Some(old)), None);
        assert_eq!(report(Some(1), None), None);
        assert_eq!(report(Some(2), None), Some(status(2, old)));
        assert_eq!(report(None, Some(new)), Some(status(1, new)));
    }

    #[test]
    fn two_words_of_one_remote_wait_as_one() {
        let remote = RemoteName::new("remote-1").expect("a name");
        let signer = Pin::of_key_info(b"new");
        let reports = Reports::default();
        reports.note(&remote, Some(1), None);
        reports.note(&remote, None, Some(signer));
        reports.note(&remote, Some(2), None);
        let report = Report {
            epoch: Some(2),
            signer: Some(signer),
        };
        let next = reports.queue.lock().next(Instant::now());
        assert_eq!(next, Next::Write(remote, report));
    }

    fn named(name: &str) -> RemoteName {
        RemoteName::new(name).expect("a name")
    }

    fn epoch(epoch: u64) -> Report {
        Report {
            epoch: Some(epoch),
            signer: None,
        }
    }

    #[test]
    fn remote_whose_write_always_fails_holds_up_no_other() {
        let (broken, good) = (named("a"), named("b"));
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.note(&broken, epoch(1), now);
        queue.note(&good, epoch(1), now);
        assert_eq!(queue.next(now), Next::Write(broken.clone(), epoch(1)));
        queue.failed(&broken, epoch(1), now);
        assert_eq!(queue.next(now), Next::Write(good.clone(), epoch(1)));
        queue.wrote(&good, now);
        let Next::At(again) = queue.next(now) else {
            panic!("it is tried again");
        };
        assert!(again >= now + BETWEEN_WRITES, "and not at once");
        // What it said meanwhile is what is written.
        queue.note(&broken, epoch(2), now);
        assert_eq!(queue.next(again), Next::Write(broken.clone(), epoch(2)));
        let pauses = (0..10).map(|_| {
            queue.failed(&broken, epoch(2), now);
            match queue.next(now) {
                Next::At(due) => due - now,
                next => panic!("{next:?}"),
            }
        });
        let longest = pauses.max().expect("ten pauses");
        assert!(longest > 4 * BETWEEN_WRITES, "the pauses grow, to {longest:?}");
        assert_eq!(queue.next(now + PAUSES.1), Next::Write(broken, epoch(2)));
    }

    #[test]
    fn remote_that_says_something_else_all_the_time_is_written_once_a_second() {
        let remote = named("a");
        let mut queue = Queue::default();
        let start = Instant::now();
        let mut written = 0;
        for tenth in 0..100_u32 {
            let now = start + tenth * Duration::from_millis(100);
            queue.note(&remote, epoch(u64::from(tenth)), now);
            if let Next::Write(remote, _) = queue.next(now) {
                written += 1;
                queue.wrote(&remote, now);
            }
        }
        assert_eq!(written, 10);
        let later = start + Duration::from_mins(1);
        queue.next(later);
        queue.next(later);
        assert_eq!((queue.waiting.len(), queue.held.len()), (0, 0), "nothing is remembered");
    }
}
