//! Where pods should and should not run, in Kubernetes' types.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinity, PodAffinityTerm,
    PodAntiAffinity, PreferredSchedulingTerm, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use remote_istio::wire::v1;

use super::{some, some_map};

/// Nothing where nothing is asked for.
#[must_use]
pub fn affinity(affinity: &v1::Affinity) -> Option<Affinity> {
    let pods = |required: &[v1::PodTerm], preferred: &[v1::WeightedPodTerm]| {
        let required = some(required.iter().map(pod_term).collect());
        let preferred = some(preferred.iter().map(weighted_pod_term).collect());
        (required.is_some() || preferred.is_some()).then_some((required, preferred))
    };
    let converted = Affinity {
        node_affinity: node_affinity(affinity),
        pod_affinity: pods(&affinity.pod_required, &affinity.pod_preferred).map(|(required, preferred)| PodAffinity {
            required_during_scheduling_ignored_during_execution: required,
            preferred_during_scheduling_ignored_during_execution: preferred,
        }),
        pod_anti_affinity: pods(&affinity.pod_anti_required, &affinity.pod_anti_preferred).map(
            |(required, preferred)| PodAntiAffinity {
                required_during_scheduling_ignored_during_execution: required,
                preferred_during_scheduling_ignored_during_execution: preferred,
            },
        ),
    };
    (converted != Affinity::default()).then_some(converted)
}

fn node_affinity(affinity: &v1::Affinity) -> Option<NodeAffinity> {
    let terms: Vec<NodeSelectorTerm> = affinity.node_required.iter().map(node_term).collect();
    let weighted = |weighted: &v1::WeightedNodeTerm| PreferredSchedulingTerm {
        weight: weight(weighted.weight),
        preference: weighted.term.as_ref().map(node_term).unwrap_or_default(),
    };
    let converted = NodeAffinity {
        required_during_scheduling_ignored_during_execution: some(terms).map(|terms| NodeSelector {
            node_selector_terms: terms,
        }),
        preferred_during_scheduling_ignored_during_execution: some(
            affinity.node_preferred.iter().map(weighted).collect(),
        ),
    };
    (converted != NodeAffinity::default()).then_some(converted)
}

fn node_term(term: &v1::NodeTerm) -> NodeSelectorTerm {
    let requirement = |requirement: &v1::Requirement| NodeSelectorRequirement {
        key: requirement.key.clone(),
        operator: requirement.operator.clone(),
        values: some(requirement.values.clone()),
    };
    NodeSelectorTerm {
        match_expressions: some(term.labels.iter().map(requirement).collect()),
        match_fields: some(term.fields.iter().map(requirement).collect()),
    }
}

fn weighted_pod_term(weighted: &v1::WeightedPodTerm) -> WeightedPodAffinityTerm {
    WeightedPodAffinityTerm {
        weight: weight(weighted.weight),
        pod_affinity_term: weighted.term.as_ref().map(pod_term).unwrap_or_default(),
    }
}

fn pod_term(term: &v1::PodTerm) -> PodAffinityTerm {
    let requirement = |requirement: &v1::Requirement| LabelSelectorRequirement {
        key: requirement.key.clone(),
        operator: requirement.operator.clone(),
        values: some(requirement.values.clone()),
    };
    PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: some_map(term.match_labels.clone()),
            match_expressions: some(term.labels.iter().map(requirement).collect()),
        }),
        namespaces: some(term.namespaces.clone()),
        topology_key: term.topology_key.clone(),
        ..PodAffinityTerm::default()
    }
}

fn weight(weight: u32) -> i32 {
    i32::try_from(weight).unwrap_or(i32::MAX)
}
