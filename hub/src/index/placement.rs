//! Where components run: node selectors, tolerations and affinities of the spec, as the wire says them. What it cannot
//! say is refused by name.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PreferredSchedulingTerm, Toleration,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use remote_istio::wire::v1;

use super::components::Reader;

const WEIGHTS: std::ops::RangeInclusive<i32> = 1..=100;

const OF_NODES: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
const OF_PODS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
const OF_TAINTS: [&str; 3] = ["", "Equal", "Exists"];
const EFFECTS: [&str; 4] = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn tolerations(tolerations: &[Toleration], field: &str, reader: &mut Reader) -> Vec<v1::Toleration> {
    let read = |(index, toleration): (usize, &Toleration)| {
        let field = format!("{field}[{index}]");
        let operator = toleration.operator.clone().unwrap_or_default();
        let effect = toleration.effect.clone().unwrap_or_default();
        one_of(&operator, &OF_TAINTS, || format!("{field}.operator"), reader);
        one_of(&effect, &EFFECTS, || format!("{field}.effect"), reader);
        v1::Toleration {
            key: toleration.key.clone().unwrap_or_default(),
            operator,
            value: toleration.value.clone().unwrap_or_default(),
            effect,
            seconds: toleration.toleration_seconds,
        }
    };
    tolerations.iter().enumerate().map(read).collect()
}

/// Nothing where it says nothing.
pub(super) fn affinity(affinity: &Affinity, field: &str, reader: &mut Reader) -> Option<v1::Affinity> {
    let mut read = v1::Affinity::default();
    if let Some(nodes) = &affinity.node_affinity {
        let field = format!("{field}.nodeAffinity");
        if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
            let field = format!("{field}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                reader.refuse(
                    "InvalidPlacement",
                    &field,
                    "is empty: no node fits, give a term or remove it",
                );
            }
            let terms = required.node_selector_terms.iter().enumerate();
            read.node_required = terms
                .map(|(index, term)| node_term(term, &format!("{field}[{index}]"), reader))
                .collect();
        }
        let field = format!("{field}.preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = nodes.preferred_during_scheduling_ignored_during_execution.iter();
        read.node_preferred = preferred
            .flatten()
            .enumerate()
            .map(|(index, term)| weighted_node_term(term, &format!("{field}[{index}]"), reader))
            .collect();
    }
    if let Some(pods) = &affinity.pod_affinity {
        let field = format!("{field}.podAffinity");
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        read.pod_required = pod_terms(required, &field, reader);
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        read.pod_preferred = weighted_pod_terms(preferred, &field, reader);
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let field = format!("{field}.podAntiAffinity");
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        read.pod_anti_required = pod_terms(required, &field, reader);
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        read.pod_anti_preferred = weighted_pod_terms(preferred, &field, reader);
    }
    (read != v1::Affinity::default()).then_some(read)
}

fn weighted_node_term(term: &PreferredSchedulingTerm, field: &str, reader: &mut Reader) -> v1::WeightedNodeTerm {
    v1::WeightedNodeTerm {
        weight: weight(term.weight, field, reader),
        term: Some(node_term(&term.preference, &format!("{field}.preference"), reader)),
    }
}

fn node_term(term: &NodeSelectorTerm, field: &str, reader: &mut Reader) -> v1::NodeTerm {
    let mut read = |requirements: &Option<Vec<NodeSelectorRequirement>>, name: &str| {
        let requirements = requirements.iter().flatten().enumerate();
        requirements
            .map(|(index, requirement)| {
                let field = || format!("{field}.{name}[{index}].operator");
                one_of(&requirement.operator, &OF_NODES, field, reader);
                v1::Requirement {
                    key: requirement.key.clone(),
                    operator: requirement.operator.clone(),
                    values: requirement.values.clone().unwrap_or_default(),
                }
            })
            .collect()
    };
    v1::NodeTerm {
        labels: read(&term.match_expressions, "matchExpressions"),
        fields: read(&term.match_fields, "matchFields"),
    }
}

fn pod_terms(terms: Option<&[PodAffinityTerm]>, field: &str, reader: &mut Reader) -> Vec<v1::PodTerm> {
    let field = format!("{field}.requiredDuringSchedulingIgnoredDuringExecution");
    let terms = terms.unwrap_or_default().iter().enumerate();
    terms
        .map(|(index, term)| pod_term(term, &format!("{field}[{index}]"), reader))
        .collect()
}

fn weighted_pod_terms(
    terms: Option<&[WeightedPodAffinityTerm]>,
    field: &str,
    reader: &mut Reader,
) -> Vec<v1::WeightedPodTerm> {
    let field = format!("{field}.preferredDuringSchedulingIgnoredDuringExecution");
    let read = |(index, term): (usize, &WeightedPodAffinityTerm)| {
        let field = format!("{field}[{index}]");
        v1::WeightedPodTerm {
            weight: weight(term.weight, &field, reader),
            term: Some(pod_term(
                &term.pod_affinity_term,
                &format!("{field}.podAffinityTerm"),
                reader,
            )),
        }
    };
    terms.unwrap_or_default().iter().enumerate().map(read).collect()
}

fn pod_term(term: &PodAffinityTerm, field: &str, reader: &mut Reader) -> v1::PodTerm {
    for (is_set, name) in [
        (term.namespace_selector.is_some(), "namespaceSelector"),
        (term.match_label_keys.is_some(), "matchLabelKeys"),
        (term.mismatch_label_keys.is_some(), "mismatchLabelKeys"),
    ] {
        if is_set {
            let message = "cannot be carried out: use labelSelector, namespaces and topologyKey";
            reader.refuse("UnsupportedField", &format!("{field}.{name}"), message);
        }
    }
    if term.label_selector.is_none() {
        let message = "is missing, so that no pod fits: give one";
        reader.refuse("InvalidPlacement", &format!("{field}.labelSelector"), message);
    }
    let selector = term.label_selector.clone().unwrap_or_default();
    let requirement = |(index, requirement): (usize, LabelSelectorRequirement)| {
        let field = || format!("{field}.labelSelector.matchExpressions[{index}].operator");
        one_of(&requirement.operator, &OF_PODS, field, reader);
        v1::Requirement {
            key: requirement.key,
            operator: requirement.operator,
            values: requirement.values.unwrap_or_default(),
        }
    };
    let requirements = selector.match_expressions.into_iter().flatten().enumerate();
    v1::PodTerm {
        labels: requirements.map(requirement).collect(),
        match_labels: selector.match_labels.unwrap_or_default(),
        namespaces: term.namespaces.clone().unwrap_or_default(),
        topology_key: term.topology_key.clone(),
    }
}

fn weight(weight: i32, field: &str, reader: &mut Reader) -> u32 {
    if !WEIGHTS.contains(&weight) {
        let message = format!("{weight} is no weight: use 1 to 100");
        reader.refuse("InvalidPlacement", &format!("{field}.weight"), message);
    }
    weight.unsigned_abs()
}

fn one_of(word: &str, words: &[&str], field: impl FnOnce() -> String, reader: &mut Reader) {
    if !words.contains(&word) {
        let known: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
        let short: String = word.chars().take(100).collect();
        let message = format!("{short:?} cannot be carried out: use {}", known.join(", "));
        reader.refuse("InvalidPlacement", &field(), message);
    }
}
