//! How far the pods of a component are, read from its Deployment. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use remote_istio::wire::v1::Replicas;

/// What a Deployment's status says.
#[must_use]
pub fn replicas(deployment: &Deployment) -> Replicas {
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    let desired = deployment.spec.replicas.or(Some(1));
    // Of an older specification it would say that everything is up to date.
    let is_current = status.observed_generation >= deployment.metadata.generation;
    Replicas {
        desired: count(desired),
        updated: if is_current { count(status.updated_replicas) } else { 0 },
        available: count(status.available_replicas),
    }
}

/// Why its pods are not as they should be; nothing when they are.
#[must_use]
pub fn complaint(deployment: &Deployment) -> Option<String> {
    let Replicas {
        desired,
        updated,
        available,
    } = replicas(deployment);
    if updated >= desired && available >= desired {
        return None;
    }
    let counts = if available < desired {
        format!("{available} of {desired} pods are available")
    } else {
        format!("{updated} of {desired} pods are of the latest template")
    };
    let said: Vec<String> = conditions(deployment);
    Some(if said.is_empty() {
        counts
    } else {
        format!("{counts}: {}", said.join("; "))
    })
}

/// Whether a condition's field, which every API server sets, holds this word.
fn is(field: Option<&String>, word: &str) -> bool {
    field.is_some_and(|field| field == word)
}

/// The Deployment's own conditions that say that something is wrong, the gravest first.
fn conditions(deployment: &Deployment) -> Vec<String> {
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let bad = [
        ("ReplicaFailure", "True"),
        ("Progressing", "False"),
        ("Available", "False"),
    ];
    bad.into_iter()
        .filter_map(|(kind, status)| {
            let condition = conditions
                .clone()
                .find(|condition| is(condition.type_.as_ref(), kind) && is(condition.status.as_ref(), status))?;
            condition.message.clone().filter(|message| !message.is_empty())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(status: &serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn status_of_an_older_generation_counts_nothing_as_updated() {
        let status = json!({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2});
        let expected = Replicas {
            desired: 2,
            updated: 0,
            available: 2,
        };
        assert_eq!(replicas(&deployment(&status)), expected);
        let complaint = complaint(&deployment(&status));
        assert_eq!(complaint.as_deref(), Some("0 of 2 pods are of the latest template"));
    }

    #[test]
    fn the_deployments_own_words_say_why_the_gravest_first() {
        let status = json!({
            "observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 1,
            "conditions": [
                {"type": "Available", "status": "False", "message": "minimum not met"},
                {"type": "Progressing", "status": "True", "message": "fine"},
                {"type": "ReplicaFailure", "status": "True", "message": "quota"},
            ],
        });
        let expected = "1 of 2 pods are available: quota; minimum not met";
        assert_eq!(complaint(&deployment(&status)).as_deref(), Some(expected));
    }

    #[test]
    fn pods_that_are_all_there_are_nothing_to_complain_of() {
        let status = json!({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(complaint(&deployment(&status)), None);
    }
}
