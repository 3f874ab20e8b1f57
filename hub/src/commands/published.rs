//! What a hub publishes of its link for the commands: whom to trust, where to join. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;

use remote_istio::enrolment::Pin;
use remote_istio::transport::HubAddress;

use crate::authority::LINK_CONFIG_MAP;

/// The public part of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// One of them must stand in the chain that a hub shows; never empty.
    pub(super) pins: Vec<Pin>,
    /// Where remotes join; never empty.
    pub(super) enrolments: Vec<HubAddress>,
    /// Of all identities.
    pub(super) trust_domain: String,
}

/// What is wrong with what the hub published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ConfigMap {LINK_CONFIG_MAP} cannot be used, {key} is {found:?}; delete it, the hub writes it anew")]
pub(super) struct PublishedError {
    key: &'static str,
    found: String,
}

impl Published {
    pub(super) fn read(data: &BTreeMap<String, String>) -> Result<Self, PublishedError> {
        let text = |key| data.get(key).map(String::as_str).unwrap_or_default().trim().to_owned();
        Ok(Self {
            pins: list("pin", &text("pin"))?,
            enrolments: list("enrolments", &text("enrolments"))?,
            trust_domain: text("trust-domain"),
        })
    }
}

/// Entries with blanks, line ends or commas between; at least one.
fn list<T: FromStr>(key: &'static str, text: &str) -> Result<Vec<T>, PublishedError> {
    let wrong = || PublishedError {
        key,
        found: text.chars().take(100).collect(),
    };
    let entries = text.split(|sign: char| sign.is_whitespace() || sign == ',');
    let read = entries
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.parse().ok());
    let read: Option<Vec<T>> = read.collect();
    read.filter(|read| !read.is_empty()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pin: &str, enrolments: &str) -> BTreeMap<String, String> {
        let pairs = [("pin", pin), ("enrolments", enrolments), ("trust-domain", "mesh.test")];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn lists_may_stand_in_lines_or_with_commas() {
        let (one, two) = (Pin::of_key_info(b"1"), Pin::of_key_info(b"2"));
        let expected = Published {
            pins: vec![one, two],
            enrolments: vec![
                "a.test:8443".parse().expect("an address"),
                "b.test:8443".parse().expect("an address"),
            ],
            trust_domain: "mesh.test".to_owned(),
        };
        let lines = data(&format!("{one}\n{two}\n"), "a.test:8443\nb.test:8443");
        let commas = data(&format!("{one},{two}"), "a.test:8443, b.test:8443");
        assert_eq!(Published::read(&lines), Ok(expected.clone()));
        assert_eq!(Published::read(&commas), Ok(expected));
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
            let error = Published::read(&data(pin, enrolments)).expect_err(key);
            assert_eq!(error.key, key);
        }
    }
}
