//! Which labels of an object were set by this agent, read from `managedFields`. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

/// The operation of server-side apply; fields of the others are never given up by an apply.
const APPLY: &str = "Apply";

/// Labels that `manager` owns by server-side apply, by name.
#[must_use]
pub fn owned_labels(entries: &[ManagedFieldsEntry], manager: &str) -> BTreeSet<String> {
    entries
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(manager))
        .filter(|entry| entry.operation.as_deref() == Some(APPLY) && entry.subresource.is_none())
        .filter_map(|entry| entry.fields_v1.as_ref())
        .filter_map(|fields| fields.0.pointer("/f:metadata/f:labels").and_then(Value::as_object))
        .flat_map(|labels| labels.keys())
        .filter_map(|field| field.strip_prefix("f:"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> ManagedFieldsEntry {
        serde_json::from_value(json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        }))
        .expect("an entry")
    }

    fn labels(names: &[&str]) -> Value {
        let labels = names.iter().map(|name| (format!("f:{name}"), json!({})));
        json!({"f:metadata": {"f:labels": labels.collect::<serde_json::Map<_, _>>()}})
    }

    #[test]
    fn only_labels_this_manager_applied_are_owned() {
        let entries = [
            entry("kubectl-label", "Update", &labels(&["istio-injection", "team"])),
            entry("someone", "Apply", &labels(&["theirs"])),
            entry("agent", "Update", &labels(&["posted"])),
            entry(
                "agent",
                "Apply",
                &labels(&["istio-injection", "app.kubernetes.io/name"]),
            ),
        ];
        let expected = ["app.kubernetes.io/name", "istio-injection"].map(str::to_owned);
        assert_eq!(owned_labels(&entries, "agent"), BTreeSet::from(expected));
    }

    #[test]
    fn entries_without_labels_own_none() {
        let annotated = json!({"f:metadata": {"f:annotations": {"f:a": {}}}});
        assert_eq!(
            owned_labels(&[entry("agent", "Apply", &annotated)], "agent"),
            BTreeSet::new()
        );
        assert_eq!(owned_labels(&[], "agent"), BTreeSet::new());
    }
}
