//! A policy as it travels and as it is kept on central.

use std::collections::BTreeSet;

use prost::Message as _;

use super::{EVERY_NAMESPACE, Policy, Range, RangeError, Runs};
use crate::limits;
use crate::model::{Canonical, Version};
use crate::wire::v1;

/// A policy that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More than is taken.
    #[error("{what}: {count}, at most {limit} are allowed")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A range that cannot be read.
    #[error("{field}: {error}")]
    Range {
        /// The list it stands in.
        field: &'static str,
        /// What is wrong.
        error: RangeError,
    },
}

impl Policy {
    /// Reads a policy of an agent. Components that this release does not know are left out: it asks for none of them.
    ///
    /// # Errors
    /// It breaks a limit, or a range cannot be read.
    pub fn read(wire: &v1::Policy) -> Result<Self, PolicyError> {
        bounded(wire)?;
        let ranges = |field, texts: &[String]| -> Result<BTreeSet<Range>, PolicyError> {
            let range = |text: &String| text.parse().map_err(|error| PolicyError::Range { field, error });
            texts.iter().map(range).collect()
        };
        Ok(Self {
            components: wire
                .components
                .iter()
                .filter_map(|word| Runs::from_word(word))
                .collect(),
            namespaces: wire.namespaces.iter().cloned().collect(),
            image_registries: wire.image_registries.iter().cloned().collect(),
            endpoint_ranges: ranges("endpointRanges", &wire.endpoint_ranges)?,
            refused_ranges: ranges("refusedRanges", &wire.refused_ranges)?,
            injection_namespaces: wire.injection_namespaces.iter().cloned().collect(),
            most_removals: (wire.most_removals > 0).then_some(wire.most_removals),
            privileged_proxy: wire.privileged_proxy,
        })
    }

    /// As it travels.
    #[must_use]
    pub fn to_wire(&self) -> v1::Policy {
        let contents = contents(self);
        v1::Policy {
            digest: digest(&contents).as_bytes().to_vec(),
            ..contents
        }
    }

    /// Whether it is small enough to travel.
    ///
    /// # Errors
    /// Which list is too long, or that all of it is too large.
    pub fn check_size(&self) -> Result<(), PolicyError> {
        bounded(&contents(self))
    }

    /// Whether every namespace may be injected that is not Kubernetes' own or the agent's.
    #[must_use]
    pub fn injects_every_namespace(&self) -> bool {
        self.injection_namespaces.contains(EVERY_NAMESPACE)
    }
}

/// All of it but the digest, lists in order.
pub(super) fn contents(policy: &Policy) -> v1::Policy {
    fn texts<T: ToString>(set: &BTreeSet<T>) -> Vec<String> {
        set.iter().map(T::to_string).collect()
    }
    v1::Policy {
        digest: Vec::new(),
        components: policy.components.iter().map(|runs| runs.as_str().to_owned()).collect(),
        namespaces: texts(&policy.namespaces),
        image_registries: texts(&policy.image_registries),
        endpoint_ranges: texts(&policy.endpoint_ranges),
        refused_ranges: texts(&policy.refused_ranges),
        injection_namespaces: texts(&policy.injection_namespaces),
        most_removals: policy.most_removals.unwrap_or(0),
        privileged_proxy: policy.privileged_proxy,
    }
}

/// `contents`: without a digest.
pub(super) fn digest(contents: &v1::Policy) -> Version {
    Canonical::new("policy").bytes(&contents.encode_to_vec()).version()
}

fn bounded(wire: &v1::Policy) -> Result<(), PolicyError> {
    let lists = [
        ("entries of components", &wire.components),
        ("entries of namespaces", &wire.namespaces),
        ("entries of imageRegistries", &wire.image_registries),
        ("entries of endpointRanges", &wire.endpoint_ranges),
        ("entries of refusedRanges", &wire.refused_ranges),
        ("entries of injectionNamespaces", &wire.injection_namespaces),
    ];
    let counts = lists
        .into_iter()
        .map(|(what, list)| (what, list.len(), limits::POLICY_ENTRIES))
        .chain([("bytes of a policy", wire.encoded_len(), limits::POLICY_MAX_BYTES)]);
    for (what, count, limit) in counts {
        if count > limit {
            return Err(PolicyError::TooMuch { what, count, limit });
        }
    }
    Ok(())
}
