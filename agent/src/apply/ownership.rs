//! Field ownership after a POST, made whole at the first apply. Pure.
//!
//! The API server books what a POST set under the operation `Update`, and what an apply sets under `Apply`, also when
//! both bear one manager's name. An apply then takes nothing away that the POST had set, for the other entry still
//! owns it: a port that went would stay for ever. So both entries are joined into the one of `Apply`, once per
//! object, and the apply that follows takes away what is no longer wanted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Value, json};

use super::FIELD_MANAGER;

/// The merge patch that joins the agent's two entries; where nothing was applied yet, the one of the POST becomes that of
/// an apply. The version in it makes it fail when the object has changed since.
pub(super) fn joined(metadata: &ObjectMeta) -> Option<Value> {
    let entries = metadata.managed_fields.as_ref()?;
    let ours = |entry: &ManagedFieldsEntry, operation: &str| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some(operation)
            && entry.subresource.is_none()
    };
    let posted = entries.iter().find(|entry| ours(entry, "Update"))?;
    let posted_fields = posted.fields_v1.as_ref()?;
    let mut kept: Vec<ManagedFieldsEntry> = entries.iter().filter(|entry| !ours(entry, "Update")).cloned().collect();
    if let Some(applied) = kept.iter_mut().find(|entry| ours(entry, "Apply")) {
        if applied.api_version != posted.api_version {
            return None;
        }
        let FieldsV1(fields) = applied.fields_v1.as_mut()?;
        unite(fields, &posted_fields.0);
    } else {
        kept.push(ManagedFieldsEntry {
            operation: Some("Apply".to_owned()),
            ..posted.clone()
        });
    }
    let version = metadata.resource_version.as_deref()?;
    Some(json!({"metadata": {"resourceVersion": version, "managedFields": kept}}))
}

/// Field sets are nested objects: the union holds every path of both.
fn unite(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else {
        return;
    };
    for (field, below) in from {
        unite(into.entry(field.as_str()).or_insert_with(|| json!({})), below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    }

    fn metadata(entries: &[Value]) -> ObjectMeta {
        serde_json::from_value(json!({"resourceVersion": "7", "managedFields": entries})).expect("metadata")
    }

    #[test]
    fn entries_of_post_and_apply_become_one_with_the_fields_of_both() {
        let applied = json!({"f:spec": {"f:ports": {".": {}, "k:1": {".": {}}}}});
        let posted = json!({"f:spec": {"f:ports": {"k:2": {".": {}}}, "f:type": {}}});
        let union = json!({"f:spec": {"f:ports": {".": {}, "k:1": {".": {}}, "k:2": {".": {}}}, "f:type": {}}});
        let other = entry("kubectl", "Update", &json!({"f:metadata": {}}));
        let before = metadata(&[
            entry(FIELD_MANAGER, "Apply", &applied),
            other.clone(),
            entry(FIELD_MANAGER, "Update", &posted),
        ]);
        let after = json!({"metadata": {
            "resourceVersion": "7",
            "managedFields": [entry(FIELD_MANAGER, "Apply", &union), other],
        }});
        assert_eq!(joined(&before), Some(after));
    }

    #[test]
    fn what_was_only_posted_becomes_what_was_applied() {
        let fields = json!({"f:spec": {"f:ports": {"k:1": {".": {}}}}});
        let other = entry("other", "Update", &fields);
        let before = metadata(&[entry(FIELD_MANAGER, "Update", &fields), other.clone()]);
        let after = json!({"metadata": {
            "resourceVersion": "7",
            "managedFields": [other, entry(FIELD_MANAGER, "Apply", &fields)],
        }});
        assert_eq!(joined(&before), Some(after));
    }

    #[test]
    fn nothing_is_joined_where_nothing_was_posted() {
        let fields = json!({"f:spec": {}});
        let one = [
            entry(FIELD_MANAGER, "Apply", &fields),
            entry("other", "Update", &fields),
        ];
        assert_eq!(joined(&metadata(&one)), None);
    }
}
