//! Why a connection failed, kept where it can be read after the RPC's own error has lost it.
//!
//! TLS 1.3 tells a client late: its handshake is over before the hub has judged its certificate. What the RPC then
//! reports is «transport error»; the truth is in the first failed read.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::AlertDescription;

/// The first failure of one connection, shared between the stream and whoever asks.
#[derive(Clone, Debug, Default)]
pub struct LinkError {
    first: Arc<Mutex<Option<Failure>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Alert(AlertDescription),
    Closed,
    Other(String),
}

impl LinkError {
    /// What happened, in words for a person on call; `None` while the connection has not failed.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        self.first.lock().as_ref().map(|failure| match failure {
            Failure::Alert(alert) => explain_alert(*alert),
            Failure::Closed => "the other end closed the connection".to_owned(),
            Failure::Other(text) => text.clone(),
        })
    }

    /// Whether the other end refused this end's certificate: trying again at once cannot help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(&*self.first.lock(), Some(Failure::Alert(alert)) if refuses_certificate(*alert))
    }

    pub(super) fn note(&self, error: &io::Error) {
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                let mut first = self.first.lock();
                // A write may fail before the alert that caused it is read.
                if !matches!(*first, Some(Failure::Alert(_))) {
                    *first = Some(Failure::Alert(*alert));
                }
            }
            _ => {
                self.first
                    .lock()
                    .get_or_insert_with(|| Failure::Other(error.to_string()));
            }
        }
    }

    pub(super) fn note_closed(&self) {
        self.first.lock().get_or_insert(Failure::Closed);
    }
}

/// The TLS error inside an I/O error, if it is one.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// What a hub's alert means for the agent that received it.
pub(super) fn explain_alert(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::UnknownCA => {
            "the hub does not trust the CA that signed this agent's certificate: it is signed by another CA; join \
             again with a new token (`remote-istio-hub token create`), or compare the hub's --trust-bundle with the \
             certificate's issuer"
        }
        // Two hubs' CAs may bear the same name; then only the signature tells them apart.
        AlertDescription::DecryptError => {
            "the hub does not trust the CA that signed this agent's certificate: it is signed by another CA of the \
             same name; join again with a new token (`remote-istio-hub token create`), or compare the hub's \
             --trust-bundle with the certificate's issuer"
        }
        AlertDescription::BadCertificate => "the hub cannot read this agent's certificate; issue it again",
        AlertDescription::CertificateExpired => {
            "this agent's certificate has expired or is not valid yet by the hub's clock; renew it, and compare the \
             clocks"
        }
        AlertDescription::CertificateRevoked => {
            "certificate revoked: the hub takes this remote no longer; if it should come back, join again with a new \
             token (`remote-istio-hub token create`)"
        }
        AlertDescription::CertificateRequired => {
            "the hub requires a client certificate here and received none: is this the enrolment port?"
        }
        AlertDescription::AccessDenied => {
            "unknown to this hub: the certificate is good, but no remote of this name has joined here; join with a \
             new token (`remote-istio-hub token create`), or dial the hub it belongs to"
        }
        AlertDescription::CertificateUnknown => {
            "the hub knows the CA but not the identity: the certificate must carry exactly one URI \
             spiffe://TRUST-DOMAIN/remote/NAME of the hub's trust domain"
        }
        AlertDescription::UnsupportedCertificate => {
            "this agent's certificate is not made for clients: it lacks the extended key usage clientAuth"
        }
        AlertDescription::NoApplicationProtocol => {
            "the other end does not speak HTTP/2 here: is this a port of the hub?"
        }
        AlertDescription::ProtocolVersion => "the other end does not speak TLS 1.3",
        other => return format!("the other end refused the connection with the TLS alert {other:?}"),
    };
    words.to_owned()
}

fn refuses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::UnsupportedCertificate
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(alert: AlertDescription) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert))
    }

    #[test]
    fn alert_replaces_the_broken_pipe_it_caused_and_nothing_replaces_the_alert() {
        let error = LinkError::default();
        assert_eq!(error.explain(), None);
        error.note(&io::Error::new(io::ErrorKind::BrokenPipe, "broken pipe"));
        assert_eq!(error.explain().as_deref(), Some("broken pipe"));
        assert!(!error.is_refusal());
        error.note(&alert(AlertDescription::UnknownCA));
        error.note(&io::Error::other("later"));
        error.note_closed();
        assert!(
            error
                .explain()
                .expect("noted")
                .starts_with("the hub does not trust the CA")
        );
        assert!(error.is_refusal());
    }
}
