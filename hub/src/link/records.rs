//! What the link must know of identities, wherever that comes from.

use std::fmt::Debug;
use std::sync::Arc;

use remote_istio::enrolment::{Pin, Trust};
use remote_istio::identity::RemoteName;
use remote_istio::tls::Peer;
use tokio::sync::watch;

use super::Hook;
use crate::crd::RemoteIdentity;
use crate::identities::Identities;

/// The records of the remotes' identities. Asked in the middle of sessions: nothing here may block.
pub trait Records: Debug + Send + Sync {
    /// What a name is bound to; nothing: no remote of that name has joined here.
    fn record(&self, remote: &RemoteName) -> Option<Arc<RemoteIdentity>>;
    /// The remote keeps the trust of this epoch.
    fn trust_kept(&self, remote: &RemoteName, epoch: u64);
    /// The remote connected by a certificate that this CA signed.
    fn certificate_used(&self, remote: &RemoteName, signer: Pin);
    /// Calls `hook` for each remote whose record changes, from now on.
    fn on_change(&self, hook: Hook);
}

/// No records at all: certificates come from elsewhere and nothing is bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRecords;

impl Records for NoRecords {
    fn record(&self, _: &RemoteName) -> Option<Arc<RemoteIdentity>> {
        None
    }

    fn trust_kept(&self, _: &RemoteName, _: u64) {}

    fn certificate_used(&self, _: &RemoteName, _: Pin) {}

    fn on_change(&self, _: Hook) {}
}

impl Records for Identities {
    fn record(&self, remote: &RemoteName) -> Option<Arc<RemoteIdentity>> {
        Self::record(self, remote)
    }

    fn trust_kept(&self, remote: &RemoteName, epoch: u64) {
        self.report_trust(remote, Some(epoch), None);
    }

    fn certificate_used(&self, remote: &RemoteName, signer: Pin) {
        self.report_trust(remote, None, Some(signer));
    }

    fn on_change(&self, hook: Hook) {
        Self::on_change(self, hook);
    }
}

/// The identities behind the sessions.
#[derive(Clone, Debug)]
pub struct Bindings {
    /// What names are bound to.
    pub records: Arc<dyn Records>,
    /// Whom agents should trust; nothing where certificates come from elsewhere.
    pub trust: Option<watch::Receiver<Arc<Trust>>>,
}

impl Bindings {
    /// Certificates come from elsewhere: no records, no trust to hand out.
    #[must_use]
    pub fn elsewhere() -> Self {
        Self {
            records: Arc::new(NoRecords),
            trust: None,
        }
    }

    /// UID of the cluster that the name is bound to.
    pub(super) fn bound(&self, remote: &RemoteName) -> Option<String> {
        let record = self.records.record(remote)?;
        Some(record.spec.cluster_uid.clone()).filter(|bound| !bound.is_empty())
    }

    /// Whom agents should trust now.
    pub(super) fn current_trust(&mut self) -> Option<Arc<Trust>> {
        Some(self.trust.as_mut()?.borrow_and_update().clone())
    }

    /// Notes which CA signed the certificate that a session was opened with. Not what was issued: the answer may have
    /// been lost.
    pub(super) fn note_signer(&self, remote: &RemoteName, peer: &Peer) {
        let Some(trust) = &self.trust else { return };
        let signer = peer.signer(&trust.borrow().roots);
        if let Some(signer) = signer {
            self.records.certificate_used(remote, signer);
        }
    }

    /// Waits for the next trust; for ever where there is none to come.
    pub(super) async fn next_trust(&mut self) -> Arc<Trust> {
        if let Some(trust) = &mut self.trust
            && trust.changed().await.is_ok()
        {
            return trust.borrow_and_update().clone();
        }
        std::future::pending().await
    }
}
