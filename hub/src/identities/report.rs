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

use super::Identities;
use crate::api_error;
use crate::crd::{RemoteIdentity, RemoteIdentityStatus};

/// One write.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Field manager of everything the hub writes.
const FIELD_MANAGER: &str = "remote-istio-hub";

/// After a write that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What is to be written: the newest word per remote. Bounded by the remotes that have a certificate of ours.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: Mutex<BTreeMap<RemoteName, Report>>,
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

impl Reports {
    pub(super) fn note(&self, remote: &RemoteName, epoch: Option<u64>, signer: Option<Pin>) {
        let report = Report { epoch, signer };
        let mut waiting = self.waiting.lock();
        let waits = waiting.entry(remote.clone()).or_default();
        *waits = report.over(*waits);
        self.noted.notify_one();
    }

    fn put_back(&self, remote: RemoteName, report: Report) {
        let mut waiting = self.waiting.lock();
        let newer = waiting.get(&remote).copied().unwrap_or_default();
        waiting.insert(remote, newer.over(report));
    }

    /// Writes for ever, one after the other.
    pub(super) async fn write(&self, identities: &Identities, api: &Api<RemoteIdentity>) {
        let mut backoff = Backoff::new(PAUSES, rand::random());
        loop {
            let next = self.waiting.lock().pop_first();
            let Some((remote, report)) = next else {
                self.noted.notified().await;
                continue;
            };
            // Without a record there is nothing to compare with: certificates come from elsewhere.
            let Some(record) = identities.record(&remote) else {
                continue;
            };
            let Some(status) = report.changes(record.status.as_ref()) else {
                continue;
            };
            match write(api, &remote, &status).await {
                Ok(Some(written)) => {
                    backoff.reset();
                    identities.wrote(written);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%remote, %error, "the trust a remote keeps could not be noted, trying again");
                    self.put_back(remote, report);
                    tokio::time::sleep(backoff.next_pause()).await;
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
        assert_eq!(reports.waiting.lock().clone(), BTreeMap::from([(remote, report)]));
    }
}
