//! What a certificate says, read by nothing of the product.

use std::time::{Duration, SystemTime};

use support::ca::Pair;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Of one certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    /// Alternative names.
    pub names: Vec<String>,
    /// `client` and `server`.
    pub usages: Vec<&'static str>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Serial number, hex.
    pub serial: String,
    /// From when it counts.
    pub not_before: SystemTime,
    /// Until when it counts.
    pub not_after: SystemTime,
}

impl Facts {
    /// Of the first certificate of a PEM text.
    pub fn of(pem: &str) -> Self {
        let pair = Pair {
            certificate: pem.to_owned(),
            key: String::new(),
        };
        Self::of_der(&pair.der().expect("a certificate"))
    }

    /// Of a certificate, DER.
    pub fn of_der(der: &[u8]) -> Self {
        let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
        let mut facts = Self {
            names: Vec::new(),
            usages: Vec::new(),
            is_ca: certificate.is_ca(),
            serial: certificate.raw_serial_as_string(),
            not_before: moment(certificate.validity().not_before.timestamp()),
            not_after: moment(certificate.validity().not_after.timestamp()),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    facts.names = names.general_names.iter().map(shown).collect();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    facts.usages.extend(usage.client_auth.then_some("client"));
                    facts.usages.extend(usage.server_auth.then_some("server"));
                }
                _ => {}
            }
        }
        facts
    }
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) => (*text).to_owned(),
        GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
        other => format!("{other:?}"),
    }
}

fn moment(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).expect("after 1970"))
}
