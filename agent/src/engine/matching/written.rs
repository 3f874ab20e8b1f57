//! Whether an object holds what was written into it, for kinds with many fields: they are compared as the API server
//! merges them. What stands beside what is written (defaults, things of others) does not count, so this alone cannot see
//! that something is no longer wanted: the annotation with the hash of the whole does.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::engine::components::quantity;

/// Lists that are merged entry by entry, and what tells entries apart.
const MERGED: [(&str, &str); 8] = [
    ("containers", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
    ("webhooks", "name"),
];

/// Fields that are one value: whatever somebody adds within changes what was written.
const WHOLE: [&str; 6] = [
    "affinity",
    "drop",
    "matchExpressions",
    "matchLabels",
    "nodeSelector",
    "tolerations",
];

/// Fields that hold quantities by name.
const QUANTITIES: [&str; 2] = ["limits", "requests"];

/// Whether `observed` holds all of `wanted`.
pub fn holds(wanted: &impl Serialize, observed: &impl Serialize) -> bool {
    match (serde_json::to_value(wanted), serde_json::to_value(observed)) {
        (Ok(wanted), Ok(observed)) => value("webhooks", &wanted, &observed),
        // What cannot be written as JSON cannot have been read from it.
        _ => false,
    }
}

fn value(field: &str, wanted: &Value, observed: &Value) -> bool {
    if WHOLE.contains(&field) {
        return cleaned(wanted) == cleaned(observed);
    }
    match (wanted, observed) {
        (wanted, Value::Null) => is_empty(wanted),
        (Value::Null, _) => true,
        (Value::Object(wanted), Value::Object(observed)) => wanted.iter().all(|(name, wanted)| {
            let observed = observed.get(name).unwrap_or(&Value::Null);
            if QUANTITIES.contains(&field) {
                amount(wanted, observed)
            } else {
                value(name, wanted, observed)
            }
        }),
        (Value::Array(wanted), Value::Array(observed)) => match merge_key(field) {
            Some(key) => wanted.iter().all(|wanted| {
                let same = |observed: &&Value| observed.get(key) == wanted.get(key);
                observed
                    .iter()
                    .find(same)
                    .is_some_and(|observed| value("", wanted, observed))
            }),
            None => {
                wanted.len() == observed.len()
                    && wanted
                        .iter()
                        .zip(observed)
                        .all(|(wanted, observed)| value("", wanted, observed))
            }
        },
        (wanted, observed) => wanted == observed,
    }
}

fn merge_key(field: &str) -> Option<&'static str> {
    MERGED.iter().find(|(list, _)| *list == field).map(|(_, key)| *key)
}

/// The API server writes quantities its own way.
fn amount(wanted: &Value, observed: &Value) -> bool {
    let read = |value: &Value| value.as_str().and_then(quantity);
    wanted == observed || (read(wanted).is_some() && read(wanted) == read(observed))
}

/// Absent and empty are the same to the API server.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Without what is empty.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept: Map<String, Value> = map
                .iter()
                .filter(|(_, value)| !is_empty(value))
                .map(|(name, value)| (name.clone(), cleaned(value)))
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Array(list) => Value::Array(list.iter().map(cleaned).collect()),
        Value::String(text) if text.is_empty() => Value::Null,
        other => other.clone(),
    }
}
