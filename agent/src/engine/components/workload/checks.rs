//! Whether the parameters of a component say something that can be carried out.

use std::collections::BTreeMap;

use remote_istio::limits::IMAGE_MAX_BYTES;
use remote_istio::model::is_dns_subdomain;
use remote_istio::wire::v1;

use super::super::quantity;

/// More pods than any of these components has a use for.
pub const REPLICAS_MAX: u32 = 100;

/// What a container may ask for.
const RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const TOLERATION_OPERATORS: [&str; 2] = ["Equal", "Exists"];
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
const NODE_OPERATORS: [&str; 6] = ["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"];
const LABEL_OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];

/// Whether the workload of a component can be run as it says.
///
/// # Errors
/// The field, after the name of the component, and what is wrong with it.
pub fn check(component: &str, workload: Option<&v1::Workload>) -> Result<(), String> {
    let judged = workload.map_or(Ok(()), check_workload);
    judged.map_err(|error| format!("{component}.{error}"))
}

fn check_workload(workload: &v1::Workload) -> Result<(), String> {
    image("image", &workload.image)?;
    let replicas = workload.replicas.unwrap_or(1);
    if replicas > REPLICAS_MAX {
        return Err(format!("replicaCount: {replicas} are more than {REPLICAS_MAX}"));
    }
    pull_policy("imagePullPolicy", &workload.image_pull_policy)?;
    for name in &workload.image_pull_secrets {
        if !is_dns_subdomain(name) {
            return Err(format!("imagePullSecrets: {name:?} is no name of a secret"));
        }
    }
    resources("resources", workload.resources.as_ref())?;
    workload.tolerations.iter().try_for_each(toleration)?;
    workload.affinity.as_ref().map_or(Ok(()), affinity)
}

/// Whether a text can be the name of an image, and of nothing else: it becomes part of the injection template.
///
/// # Errors
/// The field and what is wrong with it.
pub fn image(field: &str, image: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    let starts = image.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    if starts && image.len() <= IMAGE_MAX_BYTES && image.bytes().all(allowed) {
        Ok(())
    } else {
        Err(format!("{field}: {image:?} is no name of an image"))
    }
}

/// Whether a pull policy is one of Kubernetes'.
///
/// # Errors
/// The field and the words it may hold.
pub fn pull_policy(field: &str, policy: &str) -> Result<(), String> {
    word(field, policy, &PULL_POLICIES, true)
}

/// Whether resources are known ones, in quantities, and no request is over its limit.
///
/// # Errors
/// The field and what is wrong with it.
pub fn resources(field: &str, resources: Option<&v1::Resources>) -> Result<(), String> {
    let Some(resources) = resources else {
        return Ok(());
    };
    let amounts = |kind: &str, amounts: &BTreeMap<String, String>| {
        amounts.iter().try_for_each(|(name, amount)| {
            word(&format!("{field}.{kind}"), name, &RESOURCES, false)?;
            quantity(amount)
                .map(|_| ())
                .ok_or_else(|| format!("{field}.{kind}.{name}: {amount:?} is no quantity"))
        })
    };
    amounts("requests", &resources.requests)?;
    amounts("limits", &resources.limits)?;
    for name in RESOURCES {
        let (request, limit) = (resources.requests.get(name), resources.limits.get(name));
        if let (Some(request), Some(limit)) = (request, limit)
            && quantity(request) > quantity(limit)
        {
            return Err(format!(
                "{field}.requests.{name}: {request} is more than the limit, {limit}"
            ));
        }
    }
    Ok(())
}

fn toleration(toleration: &v1::Toleration) -> Result<(), String> {
    word(
        "tolerations.operator",
        &toleration.operator,
        &TOLERATION_OPERATORS,
        true,
    )?;
    word("tolerations.effect", &toleration.effect, &EFFECTS, true)?;
    let exists = toleration.operator == "Exists";
    if exists && !toleration.value.is_empty() {
        return Err("tolerations.value: operator Exists takes none".to_owned());
    }
    if !exists && toleration.key.is_empty() {
        return Err("tolerations.key: only operator Exists goes without".to_owned());
    }
    if toleration.seconds.is_some() && toleration.effect != "NoExecute" {
        return Err("tolerations.tolerationSeconds: only effect NoExecute takes them".to_owned());
    }
    Ok(())
}

fn affinity(affinity: &v1::Affinity) -> Result<(), String> {
    let node = |field: &str, term: &v1::NodeTerm| {
        let mut requirements = term.labels.iter().chain(&term.fields);
        requirements.try_for_each(|one| requirement(field, one, &NODE_OPERATORS))
    };
    for term in &affinity.node_required {
        node("affinity.nodeAffinity", term)?;
    }
    for weighted in &affinity.node_preferred {
        weight("affinity.nodeAffinity", weighted.weight)?;
        node("affinity.nodeAffinity", &weighted.term.clone().unwrap_or_default())?;
    }
    let both = [
        ("affinity.podAffinity", &affinity.pod_required, &affinity.pod_preferred),
        (
            "affinity.podAntiAffinity",
            &affinity.pod_anti_required,
            &affinity.pod_anti_preferred,
        ),
    ];
    for (field, required, preferred) in both {
        required.iter().try_for_each(|term| pod_term(field, term))?;
        for weighted in preferred {
            weight(field, weighted.weight)?;
            pod_term(field, &weighted.term.clone().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn pod_term(field: &str, term: &v1::PodTerm) -> Result<(), String> {
    if term.topology_key.is_empty() {
        return Err(format!("{field}.topologyKey: must be given"));
    }
    term.labels
        .iter()
        .try_for_each(|one| requirement(field, one, &LABEL_OPERATORS))
}

fn requirement(field: &str, requirement: &v1::Requirement, operators: &[&str]) -> Result<(), String> {
    word(&format!("{field}.operator"), &requirement.operator, operators, false)?;
    let fits = match requirement.operator.as_str() {
        "Exists" | "DoesNotExist" => requirement.values.is_empty(),
        "Gt" | "Lt" => requirement.values.len() == 1,
        _ => !requirement.values.is_empty(),
    };
    if fits {
        Ok(())
    } else {
        let (operator, count) = (&requirement.operator, requirement.values.len());
        Err(format!(
            "{field}.values: operator {operator} does not take {count} of them"
        ))
    }
}

fn weight(field: &str, weight: u32) -> Result<(), String> {
    if (1..=100).contains(&weight) {
        Ok(())
    } else {
        Err(format!("{field}.weight: {weight} is not within 1 and 100"))
    }
}

fn word(field: &str, given: &str, words: &[&str], optional: bool) -> Result<(), String> {
    if words.contains(&given) || (optional && given.is_empty()) {
        Ok(())
    } else {
        Err(format!("{field}: {given:?} is none of {}", words.join(", ")))
    }
}
