//! The current TLS configuration of a process, and how it is replaced.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, NotAdmitted};
use super::build::Base;
use super::error::{Problem, TlsError, TlsFile};
use super::files::CertificateFiles;
use super::material::{Fingerprint, Material};
use super::origin::Origin;
use super::peer::Peer;
use super::{OwnCertificate, ReloadStatus, TlsConfig};
use crate::identity;

/// Between two looks at the files. Secret mounts swap a link, so there is no event to wait for.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The current TLS configuration of this process, behind its files or behind whoever hands over new material.
#[derive(Debug)]
pub struct TlsSource {
    base: Base,
    current: ArcSwap<TlsConfig>,
    seen: Mutex<Seen>,
    status: watch::Sender<ReloadStatus>,
}

/// Which contents were already judged, so that each distinct one is reported once.
#[derive(Debug)]
struct Seen {
    used: Fingerprint,
    refused: Option<Fingerprint>,
}

impl TlsSource {
    /// Reads and checks the files. Blocks on file I/O; meant for the start of a process.
    ///
    /// # Errors
    /// A file is missing, empty or holds something else than it should; the key does not belong to the
    /// certificate; the certificate is not valid now or stands for nobody in this trust domain.
    pub fn load(files: CertificateFiles, trust_domain: &str) -> Result<Arc<Self>, TlsError> {
        Self::load_at(files, trust_domain, Arc::new(DefaultTimeProvider))
    }

    /// The same by another wall clock.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_at(
        files: CertificateFiles,
        trust_domain: &str,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Arc<Self>, TlsError> {
        let material = files.read()?;
        let is_world_readable = files.key_is_world_readable();
        let path = files.key.clone();
        let source = Self::start(Origin::Files(files), trust_domain, clock, &material)?;
        if is_world_readable {
            tracing::warn!(path = %path.display(), "the private key can be read by every user of this machine");
        }
        Ok(source)
    }

    /// Checks what is handed over. `origin` is what messages name, for example
    /// `Secret istio-system/remote-istio-agent-identity`.
    ///
    /// # Errors
    /// As [`Self::load`], without files.
    pub fn from_material(material: &Material, origin: &str, trust_domain: &str) -> Result<Arc<Self>, TlsError> {
        Self::from_material_at(material, origin, trust_domain, Arc::new(DefaultTimeProvider))
    }

    /// The same by another wall clock.
    ///
    /// # Errors
    /// As [`Self::from_material`].
    pub fn from_material_at(
        material: &Material,
        origin: &str,
        trust_domain: &str,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Arc<Self>, TlsError> {
        Self::start(Origin::Given(origin.to_owned()), trust_domain, clock, material)
    }

    fn start(
        origin: Origin,
        trust_domain: &str,
        clock: Arc<dyn TimeProvider>,
        material: &Material,
    ) -> Result<Arc<Self>, TlsError> {
        if !identity::is_trust_domain(trust_domain) {
            let problem = Problem::TrustDomainName(trust_domain.to_owned());
            return Err(origin.error(TlsFile::Certificate, problem));
        }
        let base = Base {
            origin,
            trust_domain: trust_domain.to_owned(),
            clock,
            gate: Arc::default(),
        };
        let config = base.build(material, wall_clock(&*base.clock))?;
        Ok(Arc::new(Self::with_config(base, config, material)))
    }

    pub(super) fn with_config(base: Base, config: TlsConfig, material: &Material) -> Self {
        Self {
            base,
            current: ArcSwap::from_pointee(config),
            seen: Mutex::new(Seen {
                used: material.fingerprint(),
                refused: None,
            }),
            status: watch::Sender::default(),
        }
    }

    /// From here on, who connects must also be admitted. Of servers only.
    pub fn set_admission(&self, admission: Arc<dyn Admission>) {
        self.base.gate.set(admission);
    }

    /// Registers an accepted connection with the admission, and asks it once more.
    pub(crate) fn enter(&self, peer: &Arc<Peer>) -> Result<(), NotAdmitted> {
        self.base.gate.enter(peer)
    }

    /// The wall clock's time, as the checks of certificates see it.
    pub(crate) fn now(&self) -> SystemTime {
        wall_clock(&*self.base.clock)
    }

    /// The newest configuration. A connection takes it once, at its handshake.
    #[must_use]
    pub fn current(&self) -> Arc<TlsConfig> {
        self.current.load_full()
    }

    /// The trust domain that every identity on the link must be of.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.base.trust_domain
    }

    /// Whether the chain that was shown when a connection was opened leads to a root of the newest trust bundle. That
    /// its certificate has ended meanwhile is another matter, which ends the connection anyway.
    #[must_use]
    pub fn vouches_for(&self, peer: &Peer) -> bool {
        let Some((leaf, above)) = peer.presented().split_first() else {
            return false;
        };
        let at = self.now().max(peer.not_before).min(peer.not_after);
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        self.current.load().clients.verify_client_cert(leaf, above, at).is_ok()
    }

    /// What this process's own certificate says now.
    #[must_use]
    pub fn own(&self) -> OwnCertificate {
        self.current.load().own.clone()
    }

    /// How reloading goes: for metrics, and to reconnect with a new certificate.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status.subscribe()
    }

    /// Looks at the files each second until `stop`. A half-written pair keeps the old configuration. Only waits for
    /// `stop` where there are no files.
    pub async fn reload_loop(self: Arc<Self>, stop: CancellationToken) {
        if !matches!(self.base.origin, Origin::Files(_)) {
            stop.cancelled().await;
            return;
        }
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let source = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || source.reload()).await.is_err() {
                tracing::error!("looking at the certificate files failed, the old configuration stays");
            }
        }
    }

    /// Looks at the files once, if there are any. Blocks on file I/O. Refused contents are tried again at each look,
    /// for time alone can make them good, and reported once.
    pub fn reload(&self) {
        let Origin::Files(files) = &self.base.origin else {
            return;
        };
        match files.read() {
            // Told to the log and to the watchers of the status.
            Ok(material) => drop(self.replace(&material)),
            Err(error) => self.refuse(&mut self.seen.lock(), &error, Fingerprint::of_failure(&error)),
        }
    }

    /// Takes new material, whole or not at all. New connections use it. Open ones stay as they are, unless the
    /// admission asks whether the new bundle [vouches for](Self::vouches_for) them.
    ///
    /// # Errors
    /// What is wrong with it; the old configuration stays.
    pub fn replace(&self, material: &Material) -> Result<(), TlsError> {
        let fingerprint = material.fingerprint();
        let mut seen = self.seen.lock();
        if fingerprint == seen.used {
            self.back_in_use(&mut seen);
            return Ok(());
        }
        match self.base.build(material, self.now()) {
            Ok(config) => {
                self.take(&mut seen, config, fingerprint);
                Ok(())
            }
            Err(error) => {
                self.refuse(&mut seen, &error, fingerprint);
                Err(error)
            }
        }
    }

    fn take(&self, seen: &mut Seen, config: TlsConfig, fingerprint: Fingerprint) {
        tracing::info!(serial = %config.own.serial, "certificate replaced, new connections use the new one");
        self.current.store(Arc::new(config));
        *seen = Seen {
            used: fingerprint,
            refused: None,
        };
        self.status.send_modify(|status| {
            status.reloads += 1;
            status.error = None;
        });
    }

    fn refuse(&self, seen: &mut Seen, error: &TlsError, fingerprint: Fingerprint) {
        if seen.refused.replace(fingerprint) == Some(fingerprint) {
            return;
        }
        tracing::warn!(%error, "the new certificate cannot be used, the old one stays in use");
        self.status.send_modify(|status| {
            status.refused += 1;
            status.error = Some(error.to_string());
        });
    }

    fn back_in_use(&self, seen: &mut Seen) {
        seen.refused = None;
        self.status.send_if_modified(|status| status.error.take().is_some());
    }
}

/// The only place where TLS asks for the wall clock's time.
pub(super) fn wall_clock(clock: &dyn TimeProvider) -> SystemTime {
    clock.current_time().map_or_else(SystemTime::now, |now| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
    })
}
