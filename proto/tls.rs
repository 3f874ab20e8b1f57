//! Certificates of the link: read from three files, judged as a whole, replaced while running.
//!
//! Owns what a TLS handshake needs and nothing of connections. A change of the files becomes a *whole new*
//! configuration, and only if every part of it parses and the key fits the certificate; else the old one stays.
//! Sessions are never resumed: a resumed one would pass the check of the certificate by.

mod error;
mod files;
mod material;
mod peer;
mod verifier;

#[cfg(test)]
pub(crate) mod test_ca;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::identity::{self, Identity};

pub use error::{Problem, TlsError, TlsFile};
pub use files::CertificateFiles;
pub use peer::Peer;

use files::{Contents, Fingerprint};

/// The only protocol offered and taken on the link.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// Between two looks at the files. Secret mounts swap a link, so there is no event to wait for.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// One configuration: certificate, key and trust bundle that belong together.
#[derive(Debug)]
pub struct TlsConfig {
    /// For connections that were accepted: TLS 1.3, client certificate required, no tickets.
    pub server: Arc<ServerConfig>,
    /// For connections that were dialled: TLS 1.3, roots from the bundle only, no resumption.
    pub client: Arc<ClientConfig>,
    /// Who this process is, by its own certificate.
    pub own: OwnCertificate,
}

/// What this process's own certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// Whom it stands for.
    pub identity: Identity,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// When it ends.
    pub not_after: SystemTime,
}

/// How reloading went so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// New configurations taken since the start.
    pub reloads: u64,
    /// Distinct contents of the files that were refused since the start.
    pub refused: u64,
    /// Why the files as they are now are not in use; `None` while they are.
    pub error: Option<String>,
}

/// The current TLS configuration of this process, behind its files.
#[derive(Debug)]
pub struct TlsSource {
    files: CertificateFiles,
    trust_domain: String,
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
        if !identity::is_trust_domain(trust_domain) {
            let problem = Problem::TrustDomainName(trust_domain.to_owned());
            return Err(TlsError {
                file: TlsFile::Certificate,
                path: files.certificate,
                problem,
            });
        }
        let contents = files.read()?;
        let config = material::build(&files, &contents, trust_domain, SystemTime::now())?;
        if files.key_is_world_readable() {
            tracing::warn!(path = %files.key.display(), "the private key can be read by every user of this machine");
        }
        Ok(Arc::new(Self {
            files,
            trust_domain: trust_domain.to_owned(),
            current: ArcSwap::from_pointee(config),
            seen: Mutex::new(Seen {
                used: contents.fingerprint(),
                refused: None,
            }),
            status: watch::Sender::default(),
        }))
    }

    /// The newest configuration. A connection takes it once, at its handshake.
    #[must_use]
    pub fn current(&self) -> Arc<TlsConfig> {
        self.current.load_full()
    }

    /// The trust domain that every identity on the link must be of.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
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

    /// Looks at the files each second until `stop`. A half-written pair keeps the old configuration.
    pub async fn reload_loop(self: Arc<Self>, stop: CancellationToken) {
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

    /// Looks at the files once. Blocks on file I/O. Refused contents are tried again at each look, for time alone
    /// can make them good, and reported once.
    pub fn reload(&self) {
        let (fingerprint, result) = match self.files.read() {
            Ok(contents) => {
                let fingerprint = contents.fingerprint();
                if fingerprint == self.seen.lock().used {
                    self.back_in_use();
                    return;
                }
                let now = SystemTime::now();
                (
                    fingerprint,
                    material::build(&self.files, &contents, &self.trust_domain, now),
                )
            }
            Err(error) => (Contents::fingerprint_of_failure(&error), Err(error)),
        };
        match result {
            Ok(config) => self.take(config, fingerprint),
            Err(error) => self.refuse(&error, fingerprint),
        }
    }

    fn take(&self, config: TlsConfig, fingerprint: Fingerprint) {
        tracing::info!(serial = %config.own.serial, "certificate files changed, new connections use them");
        self.current.store(Arc::new(config));
        *self.seen.lock() = Seen {
            used: fingerprint,
            refused: None,
        };
        self.status.send_modify(|status| {
            status.reloads += 1;
            status.error = None;
        });
    }

    fn refuse(&self, error: &TlsError, fingerprint: Fingerprint) {
        if self.seen.lock().refused.replace(fingerprint) == Some(fingerprint) {
            return;
        }
        tracing::warn!(%error, "changed certificate files cannot be used, the old ones stay in use");
        self.status.send_modify(|status| {
            status.refused += 1;
            status.error = Some(error.to_string());
        });
    }

    fn back_in_use(&self) {
        self.seen.lock().refused = None;
        self.status.send_if_modified(|status| status.error.take().is_some());
    }
}
