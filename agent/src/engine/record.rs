//! Records: one `ConfigMap` per key in the agent's own namespace, with what was accepted and which objects it made.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prost::Message as _;
use remote_istio::convert;
use remote_istio::lane::Payload;
use remote_istio::model::{Key, Object};
use remote_istio::wire::v1;
use serde::{Deserialize, Serialize};

use super::{Kind, ObjectName, Settings, names};

/// Objects of a key by name, with their UID; none while one is being created.
pub type Inventory = BTreeMap<ObjectName, Option<String>>;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// What was accepted last; of a removed key, what it was.
    pub object: Arc<Object>,
    /// The key was removed and its objects are to go.
    pub removed: bool,
    /// With `removed`: they stay where they are, and are nobody's.
    pub orphaned: bool,
    /// Boot id of the hub it came from.
    pub source: String,
    /// Release of the agent that accepted it.
    pub release: String,
    /// Rises with each change of the key.
    pub sequence: u64,
    /// What was made of it.
    pub inventory: Inventory,
}

/// Why a record does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field is missing or unreadable.
    #[error("its field {0} is missing or unreadable")]
    Field(&'static str),
    /// The object in it does not read.
    #[error("the object in it is unreadable: {0}")]
    Object(String),
    /// Stands under the name of another key.
    #[error("it is not named after the key {0} that it holds")]
    Name(Key),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    kind: String,
    namespace: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

const ACCEPTED: &str = "accepted";
const REMOVED: &str = "removed";
const ORPHANED: &str = "orphaned";

/// The word for what becomes of the key's objects.
#[must_use]
pub fn state_word(removed: bool, orphaned: bool) -> &'static str {
    match (removed, orphaned) {
        (false, _) => ACCEPTED,
        (true, false) => REMOVED,
        (true, true) => ORPHANED,
    }
}

/// Kinds that an inventory can hold.
const KINDS: [(Kind, &str); 6] = [
    (Kind::MutatingWebhook, "MutatingWebhookConfiguration"),
    (Kind::Deployment, "Deployment"),
    (Kind::ConfigMap, "ConfigMap"),
    (Kind::Service, "Service"),
    (Kind::EndpointSlice, "EndpointSlice"),
    (Kind::Endpoints, "Endpoints"),
];

impl Record {
    /// The record as it is written. The same fields every time: one that is left out might stay.
    #[must_use]
    pub fn write(&self, settings: &Settings) -> ConfigMap {
        let name = names::record(settings, &self.key);
        let data = [
            ("key", self.key.to_string()),
            ("version", self.object.version.to_string()),
            ("release", self.release.clone()),
            ("source", self.source.clone()),
            ("sequence", self.sequence.to_string()),
            ("state", state_word(self.removed, self.orphaned).to_owned()),
            ("inventory", write_inventory(&self.inventory)),
        ];
        let object = convert::write_upsert(&self.key, &self.object).encode_to_vec();
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(name.namespace),
                name: Some(name.name),
                labels: Some(names::owner_labels(settings)),
                ..ObjectMeta::default()
            },
            data: Some(
                data.into_iter()
                    .map(|(field, value)| (field.to_owned(), value))
                    .collect(),
            ),
            binary_data: Some(BTreeMap::from([("object".to_owned(), ByteString(object))])),
            immutable: None,
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// It is not as this or a compatible release writes them.
    pub fn read(settings: &Settings, map: &ConfigMap) -> Result<Self, RecordError> {
        let field = |name: &'static str| {
            map.data
                .as_ref()
                .and_then(|data| data.get(name))
                .cloned()
                .ok_or(RecordError::Field(name))
        };
        let key: Key = field("key")?.parse().map_err(|_| RecordError::Field("key"))?;
        if map.metadata.name.as_deref() != Some(names::record(settings, &key).name.as_str()) {
            return Err(RecordError::Name(key));
        }
        let (removed, orphaned) = match field("state")?.as_str() {
            ACCEPTED => (false, false),
            REMOVED => (true, false),
            ORPHANED => (true, true),
            _ => return Err(RecordError::Field("state")),
        };
        let object = read_object(map, &key)?;
        if field("version")? != object.version.to_string() {
            return Err(RecordError::Field("version"));
        }
        let sequence = field("sequence")?.parse().map_err(|_| RecordError::Field("sequence"))?;
        let inventory = read_inventory(&field("inventory")?).ok_or(RecordError::Field("inventory"))?;
        Ok(Self {
            key,
            object,
            removed,
            orphaned,
            source: field("source")?,
            release: field("release")?,
            sequence,
            inventory,
        })
    }
}

fn read_object(map: &ConfigMap, key: &Key) -> Result<Arc<Object>, RecordError> {
    let bytes = map
        .binary_data
        .as_ref()
        .and_then(|data| data.get("object"))
        .ok_or(RecordError::Field("object"))?;
    let upsert = v1::Upsert::decode(bytes.0.as_slice()).map_err(|error| RecordError::Object(error.to_string()))?;
    if upsert.key != key.to_string() {
        return Err(RecordError::Field("key"));
    }
    match convert::read_upsert(key.lane(), key, upsert) {
        Ok(Payload::Full(object)) => Ok(object),
        Ok(Payload::Patch { .. }) => Err(RecordError::Object("it is a patch".to_owned())),
        Err((_, detail)) => Err(RecordError::Object(detail)),
    }
}

/// Whether an observed record says that this object is being created.
#[must_use]
pub fn announces(map: &ConfigMap, object: &ObjectName) -> bool {
    let inventory = map
        .data
        .as_ref()
        .and_then(|data| read_inventory(data.get("inventory")?));
    inventory.is_some_and(|inventory| inventory.get(object) == Some(&None))
}

/// Whether an observed record speaks of this sequence, in this state (see [`state_word`]) and by this release.
#[must_use]
pub fn carries(map: &ConfigMap, sequence: u64, state: &str, release: &str) -> bool {
    let field = |name: &str| map.data.as_ref().and_then(|data| data.get(name)).map(String::as_str);
    field("sequence").and_then(|text| text.parse().ok()) == Some(sequence)
        && field("state") == Some(state)
        && field("release") == Some(release)
}

fn write_inventory(inventory: &Inventory) -> String {
    let word = |kind: Kind| {
        KINDS
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, word)| (*word).to_owned())
    };
    let entry = |(object, uid): (&ObjectName, &Option<String>)| {
        let ObjectName { kind, namespace, name } = object.clone();
        Some(Entry {
            kind: word(kind)?,
            namespace,
            name,
            uid: uid.clone(),
        })
    };
    let entries: Vec<Entry> = inventory.iter().filter_map(entry).collect();
    serde_json::to_string(&entries).expect("a list of strings always serializes")
}

fn read_inventory(text: &str) -> Option<Inventory> {
    let entries: Vec<Entry> = serde_json::from_str(text).ok()?;
    let read = |Entry {
                    kind,
                    namespace,
                    name,
                    uid,
                }: Entry| {
        let (kind, _) = KINDS.into_iter().find(|(_, word)| *word == kind)?;
        Some((ObjectName { kind, namespace, name }, uid))
    };
    entries.into_iter().map(read).collect()
}
