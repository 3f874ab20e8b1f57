//! Whose certificates count: what is known of each remote's identity, asked in every handshake, and held against the
//! connections that are open.

mod cut;
mod judge;
mod report;
mod sink;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use remote_istio::enrolment::Pin;
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::tls::{Admission, LeafFacts, NotAdmitted, Peer, TlsSource};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::cut::Connections;
pub use self::judge::judge;
use self::report::Reports;
use self::sink::RecordSink;
use crate::crd::RemoteIdentity;
use crate::events::{Events, Kind, Reason, Subject};
use crate::metrics::PREFIX;
use crate::watch::{Change, Mirror, Statistics, WatchStatistics, follow};

/// From the moment a session is told of its end to the cut of its connection.
const CUT_AFTER: Duration = Duration::from_millis(500);

/// Wakes whoever must look at a remote again. Must not block and must not call back here, except to read.
pub type Hook = Box<dyn Fn(&RemoteName) + Send + Sync>;

/// Told that a remote's sessions must end and why, shortly before its connections are cut. Must not block.
pub type CutHook = Box<dyn Fn(&RemoteName, NotAdmitted) + Send + Sync>;

/// What the identities need to know of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the records are.
    pub namespace: String,
    /// Whether a remote without a record may connect: its certificate comes from elsewhere.
    pub unknown_allowed: bool,
}

/// The identities of all remotes.
pub struct Identities {
    settings: Settings,
    tls: OnceLock<Weak<TlsSource>>,
    records: RwLock<Mirror<RemoteIdentity>>,
    connections: Mutex<Connections>,
    cut_wanted: Notify,
    reports: Reports,
    hooks: RwLock<Vec<Hook>>,
    cut_hooks: RwLock<Vec<CutHook>>,
    listed: watch::Sender<bool>,
    statistics: Arc<Statistics>,
    events: Arc<Events>,
    revoked: Gauge,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("settings", &self.settings)
            .field("listed", &*self.listed.borrow())
            .finish_non_exhaustive()
    }
}

impl Identities {
    /// Nobody is known before [`Identities::run`].
    #[must_use]
    pub fn new(settings: Settings, events: Arc<Events>, registry: &mut Registry) -> Arc<Self> {
        let watched = WatchStatistics::new("remoteidentities", &settings.namespace);
        let revoked = Gauge::default();
        let prefixed = registry.sub_registry_with_prefix(PREFIX);
        prefixed.register(
            "identities_revoked",
            "Remotes whose certificates were revoked",
            revoked.clone(),
        );
        Arc::new(Self {
            settings,
            tls: OnceLock::new(),
            records: RwLock::default(),
            connections: Mutex::default(),
            cut_wanted: Notify::new(),
            reports: Reports::default(),
            hooks: RwLock::default(),
            cut_hooks: RwLock::default(),
            listed: watch::Sender::new(false),
            statistics: Arc::new(Statistics::new(vec![watched])),
            events,
            revoked,
        })
    }

    /// Watches the records, cuts connections and writes reports, until `stop`. `watches` must let a watch be silent
    /// for longer than two minutes.
    pub async fn run(self: Arc<Self>, watches: Client, calls: Client, stop: CancellationToken) {
        let api: Api<DeserializeGuard<RemoteIdentity>> = Api::namespaced(watches, &self.settings.namespace);
        let written = Api::namespaced(calls, &self.settings.namespace);
        let sink = || RecordSink(Arc::clone(&self));
        let watches = self.statistics.watches().iter();
        let following = join_all(watches.map(|watch| follow(api.clone(), sink(), watch, &self.statistics)));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = following => {}
            () = self.cut_when_due() => {}
            () = self.cut_when_roots_change() => {}
            () = self.reports.write(&self, &written) => {}
        }
    }

    /// Guards the connections that `tls` accepts: asked in its handshakes from now on, and once they are open, whenever
    /// its trust bundle is another, for a CA that is trusted no longer must not leave connections behind.
    pub fn guard(self: &Arc<Self>, tls: &Arc<TlsSource>) {
        // Weak, for the source holds its admission. One hub has one.
        if self.tls.set(Arc::downgrade(tls)).is_ok() {
            tls.set_admission(Arc::clone(self) as Arc<dyn Admission>);
        }
    }

    /// Whether the records have been listed once. Agents must not be judged earlier.
    #[must_use]
    pub fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    /// What the watch behind this has seen.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// What is known of a remote.
    #[must_use]
    pub fn record(&self, remote: &RemoteName) -> Option<Arc<RemoteIdentity>> {
        self.records.read().get(remote.as_str())
    }

    /// Calls `hook` for each remote whose record changes from now on.
    pub fn on_change(&self, hook: Hook) {
        self.hooks.write().push(hook);
    }

    /// Calls `hook` for each remote that has open connections and whose certificates count no longer.
    pub fn on_cut(&self, hook: CutHook) {
        self.cut_hooks.write().push(hook);
    }

    /// Takes the answer to a write at once, for the watch comes later.
    pub fn wrote(&self, record: RemoteIdentity) {
        let change = self.records.write().applied(record);
        self.changed(change);
    }

    /// Notes how far a remote has come in a rollover: the epoch of the trust it keeps, the CA that signed the certificate
    /// it uses. Written when it differs from what is known, soon and not at once.
    pub fn report_trust(&self, remote: &RemoteName, epoch: Option<u64>, signer: Option<Pin>) {
        self.reports.note(remote, epoch, signer);
    }

    /// Whether the owner of a certificate may connect now.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, leaf: &LeafFacts) -> Result<(), NotAdmitted> {
        let Identity::Remote(remote) = &leaf.identity else {
            return Ok(());
        };
        let record = self.record(remote);
        let spec = record.as_deref().map(|record| &record.spec);
        judge(spec, leaf.not_before, self.settings.unknown_allowed)
    }

    fn changed(&self, changes: impl IntoIterator<Item = Change<RemoteIdentity>>) {
        let mut remotes = Vec::new();
        for change in changes {
            if let Some(remote) = RemoteName::new(&change.name) {
                self.tell_of_revocation(&remote, &change);
                remotes.push(remote);
            }
        }
        if remotes.is_empty() {
            return;
        }
        let is_revoked = |record: &&Arc<RemoteIdentity>| record.spec.revoked.is_some();
        let revoked = self.records.read().objects().filter(is_revoked).count();
        self.revoked.set(i64::try_from(revoked).unwrap_or(i64::MAX));
        for remote in &remotes {
            self.condemn(remote);
            self.hooks.read().iter().for_each(|hook| hook(remote));
        }
    }

    /// Ends what is open and may not be any more: the sessions first, then the connections.
    fn condemn(&self, remote: &RemoteName) {
        let due = Instant::now() + CUT_AFTER;
        let condemned = self
            .connections
            .lock()
            .condemn(remote, due, |peer| self.admit_open(peer));
        let Some(condemned) = condemned else {
            return;
        };
        let reason = condemned.reason;
        tracing::info!(%remote, %reason, connections = condemned.connections, "connections are cut");
        // Who has joined anew keeps its session; what is cut is left over from before.
        if !condemned.others_stay {
            self.cut_hooks.read().iter().for_each(|hook| hook(remote, reason));
        }
        self.cut_wanted.notify_one();
    }

    /// Each replica sees it; the event has one name for all. What the first list says is no news.
    fn tell_of_revocation(&self, remote: &RemoteName, change: &Change<RemoteIdentity>) {
        let revocation = |record: &Option<Arc<RemoteIdentity>>| record.as_ref().and_then(|r| r.spec.revoked.clone());
        let Some(revoked) = revocation(&change.after) else {
            return;
        };
        if revocation(&change.before).is_some() || !*self.listed.borrow() {
            return;
        }
        let at = revoked.at.0.as_second();
        let reason = match revoked.reason.as_str() {
            "" => "no reason was given",
            reason => reason,
        };
        tracing::info!(%remote, %reason, "identity revoked");
        self.events.publish_once(
            Subject::Remote(remote.clone()),
            Kind::Warning,
            Reason::Revoked,
            format!("the certificates of remote {remote} count no longer: {reason}"),
            &format!("{remote}.revoked.{at:x}"),
        );
    }

    async fn cut_when_roots_change(&self) {
        let tls = self.tls.get().and_then(Weak::upgrade);
        let Some(mut changes) = tls.map(|tls| tls.status()) else {
            return std::future::pending().await;
        };
        loop {
            changes.borrow_and_update();
            let remotes = self.connections.lock().remotes();
            for remote in &remotes {
                self.condemn(remote);
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn cut_when_due(&self) {
        loop {
            let next = self.connections.lock().cut_due(Instant::now());
            tokio::select! {
                () = self.cut_wanted.notified() => {}
                () = wait_until(next) => {}
            }
        }
    }
}

impl Admission for Identities {
    fn admit(&self, peer: &LeafFacts) -> Result<(), NotAdmitted> {
        Self::admit(self, peer)
    }

    fn admit_open(&self, peer: &Peer) -> Result<(), NotAdmitted> {
        Self::admit(self, &peer.facts())?;
        let tls = self.tls.get().and_then(Weak::upgrade);
        match tls {
            Some(tls) if !tls.vouches_for(peer) => Err(NotAdmitted::AnotherCa),
            _ => Ok(()),
        }
    }

    fn opened(&self, peer: &Arc<Peer>) {
        if let Identity::Remote(remote) = &peer.identity {
            self.connections.lock().opened(remote, peer);
        }
    }
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// A certificate's or the clock's time in whole seconds, as a record holds it.
#[must_use]
pub(crate) fn timestamp(time: SystemTime) -> jiff::Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

/// A record's time as a certificate takes it. What lies before 1970 counts as 1970.
#[must_use]
pub(crate) fn system_time(time: jiff::Timestamp) -> SystemTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
