//! What is known of a `RemoteIstio` that was let go while its remote was away. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use remote_istio::identity::RemoteName;
use remote_istio::model::{Component, Key};
use serde::{Deserialize, Serialize};

use crate::crd::{DeletionPolicy, RemoteIstio};

/// Keys that one tombstone names; of more only the number is kept, so that many tombstones fit into one object.
const KEYS_MAX: usize = 40;

/// Keys that are named where people are told.
const KEYS_TOLD: usize = 5;

/// What is known of a `RemoteIstio` that was let go while its remote was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// UID of the `RemoteIstio`.
    pub uid: String,
    /// Its last generation.
    pub generation: i64,
    /// What it wanted to become of what stands in the remote.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// UID of the cluster whose agent it was; empty where that is not known.
    #[serde(default)]
    pub cluster_uid: String,
    /// When it was let go, as a time of the API.
    #[serde(default)]
    pub at: String,
    /// The hub replica that let it go, on behalf of whoever set the annotation.
    #[serde(default)]
    pub replica: String,
    /// What stands in the remote, by the last spec and status.
    #[serde(default)]
    pub keys: Vec<String>,
    /// How many more there are.
    #[serde(default)]
    pub further_keys: usize,
}

impl Tombstone {
    /// The tombstone of a resource that `replica` lets go at `at`.
    #[must_use]
    pub fn of(remote: &RemoteIstio, cluster_uid: &str, replica: &str, at: String) -> Self {
        let mut keys: Vec<String> = keys(remote).iter().map(ToString::to_string).collect();
        let further_keys = keys.len().saturating_sub(KEYS_MAX);
        keys.truncate(KEYS_MAX);
        Self {
            uid: remote.metadata.uid.clone().unwrap_or_default(),
            generation: remote.metadata.generation.unwrap_or_default(),
            deletion_policy: remote.spec.deletion_policy.unwrap_or_default(),
            cluster_uid: cluster_uid.to_owned(),
            at,
            replica: replica.to_owned(),
            keys,
            further_keys,
        }
    }

    /// Whether what the agents let go of stays in the remote.
    #[must_use]
    pub fn orphans(&self) -> bool {
        self.deletion_policy == DeletionPolicy::Orphan
    }

    /// Whether it speaks of the agent of this cluster: another one that joined under the name is left alone.
    #[must_use]
    pub fn concerns(&self, cluster_uid: &str) -> bool {
        self.cluster_uid.is_empty() || self.cluster_uid == cluster_uid
    }

    /// As one entry of the `ConfigMap`.
    ///
    /// # Panics
    /// Never: texts and numbers alone are always JSON.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers alone are always JSON")
    }

    /// It with the number of its keys alone.
    #[must_use]
    pub fn without_keys(&self) -> Self {
        Self {
            keys: Vec::new(),
            further_keys: self.keys.len() + self.further_keys,
            ..self.clone()
        }
    }

    /// What stands in the remote, in a few words.
    #[must_use]
    pub fn told(&self) -> String {
        let named = self.keys.iter().take(KEYS_TOLD).map(String::as_str).collect::<Vec<_>>();
        let more = self.keys.len() - named.len() + self.further_keys;
        match (named.as_slice(), more) {
            ([], 0) => "nothing that is known".to_owned(),
            ([], more) => format!("{more} in all, not named here"),
            (named, 0) => named.join(", "),
            (named, more) => format!("{} and {more} more", named.join(", ")),
        }
    }
}

/// Reads the entries of the `ConfigMap`. Those that do not read come with why: nobody is told to let go of anything by
/// them.
#[must_use]
pub(super) fn read(data: &BTreeMap<String, String>) -> (BTreeMap<RemoteName, Tombstone>, Vec<(String, String)>) {
    let (mut tombstones, mut unread) = (BTreeMap::new(), Vec::new());
    for (name, text) in data {
        let tombstone = serde_json::from_str::<Tombstone>(text);
        match (RemoteName::new(name), tombstone) {
            (Some(remote), Ok(tombstone)) if !tombstone.uid.is_empty() => {
                tombstones.insert(remote, tombstone);
            }
            (None, _) => unread.push((name.clone(), "its key is no name of a remote".to_owned())),
            (_, Ok(_)) => unread.push((name.clone(), "it names no uid".to_owned())),
            (_, Err(error)) => unread.push((name.clone(), error.to_string())),
        }
    }
    (tombstones, unread)
}

/// By the spec, and by the status where the spec cannot be read.
fn keys(remote: &RemoteIstio) -> BTreeSet<Key> {
    let (spec, own) = (&remote.spec, remote.namespace().unwrap_or_default());
    let enabled = spec.enabled_services.iter().map(|service| {
        let namespace = service.namespace.as_deref().unwrap_or(&own);
        (namespace.to_owned(), service.name.clone())
    });
    let status = remote.status.iter().flat_map(|status| &status.services);
    let stored = status.map(|service| (service.namespace.clone(), service.name.clone()));
    let mut keys = BTreeSet::new();
    for (namespace, name) in enabled.chain(stored) {
        keys.insert(Key::endpoints(&namespace, &name));
        keys.insert(Key::service(&namespace, &name));
    }
    keys.extend(spec.auto_injection_namespaces.iter().map(|name| Key::injection(name)));
    let has_component = spec.citadel.is_some() || spec.sidecar_injector.is_some();
    let components = [
        (has_component, Component::Mesh),
        (spec.citadel.is_some(), Component::Citadel),
        (spec.sidecar_injector.is_some(), Component::Injector),
    ];
    let components = components.into_iter().filter(|(wanted, _)| *wanted);
    keys.extend(components.map(|(_, component)| Key::component(component, &own)));
    keys
}
