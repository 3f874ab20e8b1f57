//! What a hub publishes of its link for the commands: whom to trust, where to join. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;

use remote_istio::enrolment::Pin;
use remote_istio::transport::HubAddress;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::authority::LINK_CONFIG_MAP;

/// The public part of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// One of them must stand in the chain that a hub shows; never empty.
    pub(super) pins: Vec<Pin>,
    /// Whom remotes trust; never empty.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Where remotes find the hub once they joined; never empty.
    pub(super) hubs: Vec<HubAddress>,
    /// Where remotes join; never empty.
    pub(super) enrolments: Vec<HubAddress>,
    /// Of all identities.
    pub(super) trust_domain: String,
}

/// What is wrong with what the hub published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublishedError {
    /// An entry is none.
    #[error("ConfigMap {LINK_CONFIG_MAP} cannot be used, {key} is {found:?}; delete it, the hub writes it anew")]
    Entry {
        /// Its name.
        key: &'static str,
        /// What stands there.
        found: String,
    },
    /// Remotes cannot find the hub yet.
    #[error(
        "the hub has no public address yet, for its Service {service} has none: see what `kubectl -n {namespace} get service \
         {service}` says under EXTERNAL-IP; where nothing gives load balancers addresses, expose the hub another way \
         (docs/install.md)"
    )]
    NoAddress {
        /// Of the hub.
        namespace: String,
        /// Whose load balancer it waits for.
        service: String,
    },
}

impl Published {
    /// `namespace`: of the hub.
    pub(super) fn read(data: &BTreeMap<String, String>, namespace: &str) -> Result<Self, PublishedError> {
        let text = |key| data.get(key).map(String::as_str).unwrap_or_default().trim().to_owned();
        let service = text("public-service");
        if !service.is_empty() && (text("hubs").is_empty() || text("enrolments").is_empty()) {
            let namespace = namespace.to_owned();
            return Err(PublishedError::NoAddress { namespace, service });
        }
        Ok(Self {
            pins: list("pin", &text("pin"))?,
            roots: roots(&text("ca.crt"))?,
            hubs: list("hubs", &text("hubs"))?,
            enrolments: list("enrolments", &text("enrolments"))?,
            trust_domain: text("trust-domain"),
        })
    }
}

fn roots(text: &str) -> Result<Vec<CertificateDer<'static>>, PublishedError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let read = read.ok().filter(|roots| !roots.is_empty());
    read.ok_or_else(|| wrong("ca.crt", text))
}

fn wrong(key: &'static str, text: &str) -> PublishedError {
    PublishedError::Entry {
        key,
        found: text.chars().take(100).collect(),
    }
}

/// Entries with blanks, line ends or commas between; at least one.
fn list<T: FromStr>(key: &'static str, text: &str) -> Result<Vec<T>, PublishedError> {
    let entries = text.split(|sign: char| sign.is_whitespace() || sign == ',');
    let read = entries
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.parse().ok());
    let read: Option<Vec<T>> = read.collect();
    read.filter(|read| !read.is_empty()).ok_or_else(|| wrong(key, text))
}

#[cfg(test)]
mod tests {
    use remote_istio::enrolment::certificate_pem;

    use super::*;

    fn data(pin: &str, enrolments: &str) -> BTreeMap<String, String> {
        let root = certificate_pem(b"a root");
        let pairs = [
            ("pin", pin),
            ("ca.crt", root.as_str()),
            ("hubs", "a.test:8444"),
            ("enrolments", enrolments),
            ("trust-domain", "mesh.test"),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn lists_may_stand_in_lines_or_with_commas() {
        let (one, two) = (Pin::of_key_info(b"1"), Pin::of_key_info(b"2"));
        let expected = Published {
            pins: vec![one, two],
            roots: vec![CertificateDer::from(b"a root".to_vec())],
            hubs: vec!["a.test:8444".parse().expect("an address")],
            enrolments: vec![
                "a.test:8443".parse().expect("an address"),
                "b.test:8443".parse().expect("an address"),
            ],
            trust_domain: "mesh.test".to_owned(),
        };
        let lines = data(&format!("{one}\n{two}\n"), "a.test:8443\nb.test:8443");
        let commas = data(&format!("{one},{two}"), "a.test:8443, b.test:8443");
        assert_eq!(Published::read(&lines, "mesh"), Ok(expected.clone()));
        assert_eq!(Published::read(&commas, "mesh"), Ok(expected));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let pin = Pin::of_key_info(b"1").to_string();
        for (pin, enrolments, key) in [
            ("", "a.test:8443", "pin"),
            ("sha256:00", "a.test:8443", "pin"),
            (pin.as_str(), "", "enrolments"),
            (pin.as_str(), "a.test", "enrolments"),
        ] {
            let error = Published::read(&data(pin, enrolments), "mesh").expect_err(key);
            assert!(error.to_string().contains(&format!(", {key} is ")), "{error}");
        }
    }
}
