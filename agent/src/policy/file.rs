//! What a policy file says. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use remote_istio::limits;
use remote_istio::model::is_dns_label;
use remote_istio::policy::{EVERY_NAMESPACE, KUBERNETES_NAMESPACES, Policy, Range, Runs, image};
use serde::Deserialize;

/// A text that is no policy.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read as YAML of these keys.
    #[error("is no policy: {0}")]
    Yaml(String),
    /// A value that cannot be.
    #[error("{key}: {problem}")]
    Value {
        /// Of the file.
        key: &'static str,
        /// What is wrong with which value, and what to write instead.
        problem: String,
    },
}

/// A key that is not given is as if there were no file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyFile {
    components: Option<Vec<String>>,
    namespaces: Option<Vec<String>>,
    image_registries: Option<Vec<String>>,
    endpoint_ranges: Option<Vec<String>>,
    injection_namespaces: Option<Vec<String>>,
    most_removals: Option<u32>,
    privileged_proxy: Option<bool>,
}

/// The policy of a file's text; an empty one says nothing. `service_namespaces`: those the agent watches, which are
/// allowed where the file names none, and beside which it can allow none.
///
/// # Errors
/// What is wrong with it, by key.
pub fn policy(text: &str, service_namespaces: &BTreeSet<String>) -> Result<Policy, FileError> {
    let file: PolicyFile = if is_empty(text) {
        PolicyFile::default()
    } else {
        serde_saphyr::from_str(text).map_err(|error| FileError::Yaml(one_line(&error)))?
    };
    let defaults = Policy::default();
    Ok(Policy {
        components: list("components", file.components, component)?.unwrap_or_default(),
        namespaces: list("namespaces", file.namespaces, |name| served(name, service_namespaces))?
            .unwrap_or_else(|| service_namespaces.clone()),
        image_registries: list("imageRegistries", file.image_registries, registry)?
            .unwrap_or(defaults.image_registries),
        endpoint_ranges: list("endpointRanges", file.endpoint_ranges, range)?.unwrap_or_default(),
        refused_ranges: BTreeSet::new(),
        injection_namespaces: list("injectionNamespaces", file.injection_namespaces, injected)?
            .unwrap_or(defaults.injection_namespaces),
        most_removals: file.most_removals.map(most_removals).transpose()?,
        privileged_proxy: file.privileged_proxy.unwrap_or(false),
    })
}

/// Comments and marks of documents alone say nothing.
fn is_empty(text: &str) -> bool {
    let says_nothing = |line: &str| line.is_empty() || line.starts_with('#') || line == "---" || line == "{}";
    text.lines().map(str::trim).all(says_nothing)
}

fn list<T: Ord>(
    key: &'static str,
    texts: Option<Vec<String>>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<BTreeSet<T>>, FileError> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.len() > limits::POLICY_ENTRIES {
        let problem = format!(
            "{} entries, at most {} are allowed",
            texts.len(),
            limits::POLICY_ENTRIES
        );
        return Err(FileError::Value { key, problem });
    }
    let read = texts.iter().map(|text| read(text)).collect::<Result<_, _>>();
    read.map(Some).map_err(|problem| FileError::Value { key, problem })
}

fn component(word: &str) -> Result<Runs, String> {
    Runs::from_word(word).ok_or_else(|| {
        let known = Runs::ALL.map(Runs::as_str).join(", ");
        format!("{word:?} is none; there are {known}")
    })
}

fn namespace(name: &str) -> Result<String, String> {
    if !is_dns_label(name) {
        return Err(format!("{name:?} is not a namespace's name"));
    }
    if KUBERNETES_NAMESPACES.contains(&name) {
        return Err(format!(
            "{name:?} is a namespace of Kubernetes itself, which nothing is written into: take it out"
        ));
    }
    Ok(name.to_owned())
}

fn served(name: &str, service_namespaces: &BTreeSet<String>) -> Result<String, String> {
    let name = namespace(name)?;
    if service_namespaces.contains(&name) {
        return Ok(name);
    }
    Err(format!(
        "{name:?} is not watched by the agent: name it in its flag --service-namespaces too, and bind its role there"
    ))
}

fn injected(name: &str) -> Result<String, String> {
    if name == EVERY_NAMESPACE {
        return Ok(name.to_owned());
    }
    namespace(name)
}

fn registry(prefix: &str) -> Result<String, String> {
    let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
    if image::is_name(trimmed) {
        return Ok(image::normalised_prefix(trimmed));
    }
    Err(format!(
        "{prefix:?} is no beginning of an image's name; write registry.example/team, or the whole name of an image"
    ))
}

fn range(text: &str) -> Result<Range, String> {
    Range::from_str(text).map_err(|error| error.to_string())
}

fn most_removals(most: u32) -> Result<u32, FileError> {
    if most > 0 {
        return Ok(most);
    }
    Err(FileError::Value {
        key: "mostRemovals",
        problem: "0 would let nothing be removed without a person's release; write 1 or more, or leave it out"
            .to_owned(),
    })
}

/// The text of a parser's error in one line, cut to what a person reads.
fn one_line(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    limits::detail(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served_namespaces() -> BTreeSet<String> {
        ["istio-system", "shop"].map(str::to_owned).into()
    }

    fn read(text: &str) -> Result<Policy, String> {
        policy(text, &served_namespaces()).map_err(|error| error.to_string())
    }

    #[test]
    fn empty_file_is_as_none() {
        let expected = Policy {
            namespaces: served_namespaces(),
            ..Policy::default()
        };
        for text in ["", "\n", "# nothing yet\n", "---\n{}\n"] {
            assert_eq!(read(text), Ok(expected.clone()), "{text:?}");
        }
    }

    #[test]
    fn every_key_is_taken() {
        let text = "
components: [citadel, sidecarInjector]
namespaces: [shop]
imageRegistries:
- docker.io/istio
- registry.example:5000/mesh/
- quay
endpointRanges: [10.0.0.0/8, 192.168.1.7]
injectionNamespaces: [shop, web]
mostRemovals: 25
privilegedProxy: true
";
        let expected = Policy {
            components: Runs::ALL.into(),
            namespaces: ["shop".to_owned()].into(),
            image_registries: ["docker.io/istio", "registry.example:5000/mesh", "docker.io/quay"]
                .map(str::to_owned)
                .into(),
            endpoint_ranges: ["10.0.0.0/8", "192.168.1.7/32"]
                .map(|text| text.parse().unwrap())
                .into(),
            refused_ranges: BTreeSet::new(),
            injection_namespaces: ["shop", "web"].map(str::to_owned).into(),
            most_removals: Some(25),
            privileged_proxy: true,
        };
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn list_that_is_given_and_empty_allows_nothing() {
        let none = read("namespaces: []\nimageRegistries: []\ninjectionNamespaces: []\n").unwrap();
        let expected = Policy {
            image_registries: BTreeSet::new(),
            injection_namespaces: BTreeSet::new(),
            ..Policy::default()
        };
        assert_eq!(none, expected);
    }

    #[test]
    fn what_is_wrong_is_said_by_its_key() {
        for (text, key) in [
            ("component: [citadel]", "component"),
            ("components: citadel", "components"),
            ("components: [pilot]", "components: \"pilot\""),
            ("namespaces: [other]", "--service-namespaces"),
            ("namespaces: [Shop]", "namespaces: \"Shop\""),
            (
                "injectionNamespaces: [kube-system]",
                "injectionNamespaces: \"kube-system\"",
            ),
            ("imageRegistries: ['']", "imageRegistries: \"\""),
            ("imageRegistries: ['a b']", "imageRegistries: \"a b\""),
            ("endpointRanges: [10.0.0.1/8]", "endpointRanges: \"10.0.0.1/8\""),
            ("mostRemovals: 0", "mostRemovals: 0"),
            ("mostRemovals: -1", "mostRemovals"),
            ("privilegedProxy: perhaps", "privilegedProxy"),
            ("components: [citadel", "is no policy"),
            ("- components", "is no policy"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
