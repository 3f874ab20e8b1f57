use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinity, PodAffinityTerm,
    PodAntiAffinity, PreferredSchedulingTerm, ResourceClaim, Toleration, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use remote_istio::model::{Component, Version};
use remote_istio::wire::v1;

use super::*;
use crate::crd::{
    Component as Block, LostAction, Proxy, ProxyInit, PullPolicy, PullSecret, Quantity, Resources, WhenHubLost,
};

/// What the sample of the 2019 operator asks for, its services left out.
const SEED: &str = include_str!("../../../../tests/cluster/seed.yaml");

/// Everything the config lane says of components, for tests to compare whole.
#[derive(Clone, Debug, Default, PartialEq)]
struct Parameters {
    mesh: Option<v1::MeshConfig>,
    trust: Option<v1::MeshTrust>,
    citadel: Option<v1::Citadel>,
    injector: Option<v1::SidecarInjector>,
    rules: Option<v1::Rules>,
}

impl Parameters {
    /// Citadel and injector with one replica each: the seed's.
    fn of_seed() -> Self {
        let workload = || {
            Some(v1::Workload {
                replicas: Some(1),
                ..v1::Workload::default()
            })
        };
        Self {
            mesh: Some(v1::MeshConfig::default()),
            citadel: Some(v1::Citadel { workload: workload() }),
            injector: Some(v1::SidecarInjector {
                workload: workload(),
                include_ip_ranges: "*".to_owned(),
                ..v1::SidecarInjector::default()
            }),
            ..Self::default()
        }
    }

    fn held(index: &Index, remote: &str) -> Self {
        let mut found = Self::default();
        for (key, object) in lane(index, remote, Lane::Config).objects() {
            if !matches!(key, Key::Component { namespace, .. } if namespace == NAMESPACE) {
                continue;
            }
            match &object.body {
                Body::Mesh(mesh) => found.mesh = Some(*mesh),
                Body::Trust(trust) => found.trust = Some(trust.clone()),
                Body::Citadel(citadel) => found.citadel = Some(citadel.as_ref().clone()),
                Body::Injector(injector) => found.injector = Some(injector.as_ref().clone()),
                Body::Rules(rules) => found.rules = Some(*rules),
                other => panic!("{key} holds {other:?}"),
            }
        }
        found
    }

    fn citadel(&mut self) -> &mut v1::Workload {
        let workload = self.citadel.as_mut().and_then(|citadel| citadel.workload.as_mut());
        workload.expect("the seed has citadel")
    }

    fn injector(&mut self) -> &mut v1::SidecarInjector {
        self.injector.as_mut().expect("the seed has an injector")
    }

    fn proxy(&mut self) -> &mut v1::Proxy {
        self.injector().proxy.get_or_insert_default()
    }
}

fn seed() -> RemoteView {
    let mut object: RemoteIstio = serde_saphyr::from_str(SEED).expect("the sample");
    object.metadata.name = Some("r1".to_owned());
    object.metadata.uid = Some("uid-r1".to_owned());
    object.metadata.generation = Some(1);
    object.spec.enabled_services.clear();
    RemoteView::new(object).expect("a DNS label")
}

fn versions(index: &Index) -> BTreeMap<Key, Version> {
    let lane = lane(index, "r1", Lane::Config);
    let versions = lane.objects().iter();
    versions.map(|(key, object)| (key.clone(), object.version)).collect()
}

fn citadel(spec: &mut RemoteIstioSpec) -> &mut Block {
    spec.citadel.as_mut().expect("the seed has citadel")
}

fn block(spec: &mut RemoteIstioSpec) -> &mut Block {
    spec.sidecar_injector.as_mut().expect("the seed has an injector")
}

fn proxy(spec: &mut RemoteIstioSpec) -> &mut Proxy {
    spec.proxy.get_or_insert_default()
}

fn amounts() -> Resources {
    Resources {
        requests: [
            ("cpu".to_owned(), Quantity::Number(2)),
            ("memory".to_owned(), Quantity::Text("64Mi".to_owned())),
        ]
        .into(),
        limits: [("cpu".to_owned(), Quantity::Text("2500m".to_owned()))].into(),
        claims: Vec::new(),
    }
}

fn sent_amounts() -> v1::Resources {
    let amounts = |amounts: &[(&str, &str)]| {
        let amounts = amounts
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned()));
        amounts.collect()
    };
    v1::Resources {
        requests: amounts(&[("cpu", "2"), ("memory", "64Mi")]),
        limits: amounts(&[("cpu", "2500m")]),
    }
}

fn toleration() -> Toleration {
    Toleration {
        key: Some("mesh".to_owned()),
        operator: Some("Equal".to_owned()),
        value: Some("yes".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(30),
    }
}

fn node_term(key: &str) -> NodeSelectorTerm {
    let requirement = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    NodeSelectorTerm {
        match_expressions: Some(vec![requirement(key, "In", &["a", "b"])]),
        match_fields: Some(vec![requirement("metadata.name", "NotIn", &["node-1"])]),
    }
}

fn pod_term(topology: &str) -> PodAffinityTerm {
    PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(labels("istio=citadel")),
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "track".to_owned(),
                operator: "Exists".to_owned(),
                values: None,
            }]),
        }),
        namespaces: Some(vec!["istio-system".to_owned()]),
        topology_key: topology.to_owned(),
        ..PodAffinityTerm::default()
    }
}

fn affinity() -> Affinity {
    let weighted = |weight, topology: &str| WeightedPodAffinityTerm {
        weight,
        pod_affinity_term: pod_term(topology),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![node_term("zone")],
            }),
            preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
                weight: 7,
                preference: node_term("disk"),
            }]),
        }),
        pod_affinity: Some(PodAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![pod_term("a")]),
            preferred_during_scheduling_ignored_during_execution: Some(vec![weighted(1, "b")]),
        }),
        pod_anti_affinity: Some(PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![pod_term("c")]),
            preferred_during_scheduling_ignored_during_execution: Some(vec![weighted(100, "d")]),
        }),
    }
}

fn sent_affinity() -> v1::Affinity {
    let requirement = |key: &str, operator: &str, values: &[&str]| v1::Requirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let node = |key: &str| v1::NodeTerm {
        labels: vec![requirement(key, "In", &["a", "b"])],
        fields: vec![requirement("metadata.name", "NotIn", &["node-1"])],
    };
    let pod = |topology: &str| v1::PodTerm {
        match_labels: labels("istio=citadel"),
        labels: vec![requirement("track", "Exists", &[])],
        namespaces: vec!["istio-system".to_owned()],
        topology_key: topology.to_owned(),
    };
    let weighted = |weight, topology: &str| v1::WeightedPodTerm {
        weight,
        term: Some(pod(topology)),
    };
    v1::Affinity {
        node_required: vec![node("zone")],
        node_preferred: vec![v1::WeightedNodeTerm {
            weight: 7,
            term: Some(node("disk")),
        }],
        pod_required: vec![pod("a")],
        pod_preferred: vec![weighted(1, "b")],
        pod_anti_required: vec![pod("c")],
        pod_anti_preferred: vec![weighted(100, "d")],
    }
}

/// A field of a spec, its edit, and what it must change of what is sent.
type Row = (&'static str, fn(&mut RemoteIstioSpec), fn(&mut Parameters));

const FIELDS_OF_BLOCKS: [Row; 16] = [
    (
        "citadel.image",
        |spec| citadel(spec).image = Some("mirror.example/istio/citadel:1".to_owned()),
        |sent| sent.citadel().image = "mirror.example/istio/citadel:1".to_owned(),
    ),
    (
        "citadel.replicaCount",
        |spec| citadel(spec).replica_count = Some(0),
        |sent| sent.citadel().replicas = Some(0),
    ),
    (
        "citadel.replicaCount not given",
        |spec| citadel(spec).replica_count = None,
        |sent| sent.citadel().replicas = None,
    ),
    (
        "citadel.imagePullPolicy",
        |spec| citadel(spec).image_pull_policy = Some(PullPolicy::Always),
        |sent| sent.citadel().image_pull_policy = "Always".to_owned(),
    ),
    (
        "citadel.imagePullSecrets",
        |spec| {
            let name = "pull.secret".to_owned();
            citadel(spec).image_pull_secrets = vec![PullSecret { name }];
        },
        |sent| sent.citadel().image_pull_secrets = vec!["pull.secret".to_owned()],
    ),
    (
        "citadel.nodeSelector",
        |spec| citadel(spec).node_selector = labels("disk=fast"),
        |sent| sent.citadel().node_selector = labels("disk=fast"),
    ),
    (
        "citadel.tolerations",
        |spec| citadel(spec).tolerations = vec![toleration()],
        |sent| {
            sent.citadel().tolerations = vec![v1::Toleration {
                key: "mesh".to_owned(),
                operator: "Equal".to_owned(),
                value: "yes".to_owned(),
                effect: "NoExecute".to_owned(),
                seconds: Some(30),
            }];
        },
    ),
    (
        "citadel.affinity",
        |spec| citadel(spec).affinity = Some(affinity()),
        |sent| sent.citadel().affinity = Some(sent_affinity()),
    ),
    (
        "citadel.resources",
        |spec| citadel(spec).resources = Some(amounts()),
        |sent| sent.citadel().resources = Some(sent_amounts()),
    ),
    (
        "citadel not given",
        |spec| spec.citadel = None,
        |sent| sent.citadel = None,
    ),
    (
        "sidecarInjector.image",
        |spec| block(spec).image = Some("istio/sidecar_injector:1.0.8".to_owned()),
        |sent| {
            let workload = sent.injector().workload.as_mut().expect("a workload");
            workload.image = "istio/sidecar_injector:1.0.8".to_owned();
        },
    ),
    (
        "sidecarInjector.replicaCount",
        |spec| block(spec).replica_count = Some(3),
        |sent| sent.injector().workload.as_mut().expect("a workload").replicas = Some(3),
    ),
    (
        "sidecarInjector.affinity",
        |spec| block(spec).affinity = Some(affinity()),
        |sent| sent.injector().workload.as_mut().expect("a workload").affinity = Some(sent_affinity()),
    ),
    (
        "sidecarInjector not given",
        |spec| spec.sidecar_injector = None,
        |sent| sent.injector = None,
    ),
    (
        "neither block given",
        |spec| (spec.citadel, spec.sidecar_injector) = (None, None),
        |sent| *sent = Parameters::default(),
    ),
    (
        "citadel.affinity that says nothing",
        |spec| citadel(spec).affinity = Some(Affinity::default()),
        |_| {},
    ),
];

const FIELDS_BESIDE_THEM: [Row; 14] = [
    (
        "includeIPRanges",
        |spec| spec.include_ip_ranges = Some("10.0.0.0/8, 172.16.0.0/12".to_owned()),
        |sent| sent.injector().include_ip_ranges = "10.0.0.0/8,172.16.0.0/12".to_owned(),
    ),
    (
        "includeIPRanges not given",
        |spec| spec.include_ip_ranges = None,
        |_| {},
    ),
    (
        "excludeIPRanges",
        |spec| spec.exclude_ip_ranges = Some("10.1.0.0/16".to_owned()),
        |sent| sent.injector().exclude_ip_ranges = "10.1.0.0/16".to_owned(),
    ),
    (
        "controlPlaneSecurityEnabled",
        |spec| spec.control_plane_security_enabled = Some(true),
        |sent| {
            sent.mesh = Some(v1::MeshConfig {
                control_plane_security: true,
            });
        },
    ),
    (
        "proxy.image",
        |spec| proxy(spec).image = Some("istio/proxyv2:1.0.8".to_owned()),
        |sent| sent.proxy().image = "istio/proxyv2:1.0.8".to_owned(),
    ),
    (
        "proxy.imagePullPolicy",
        |spec| proxy(spec).image_pull_policy = Some(PullPolicy::Never),
        |sent| sent.proxy().image_pull_policy = "Never".to_owned(),
    ),
    (
        "proxy.privileged",
        |spec| proxy(spec).privileged = Some(true),
        |sent| sent.proxy().privileged = true,
    ),
    (
        "proxy.resources",
        |spec| proxy(spec).resources = Some(amounts()),
        |sent| sent.proxy().resources = Some(sent_amounts()),
    ),
    (
        "proxyInit.image",
        |spec| {
            spec.proxy_init = Some(ProxyInit {
                image: Some("istio/proxy_init:1.0.8".to_owned()),
            });
        },
        |sent| sent.proxy().init_image = "istio/proxy_init:1.0.8".to_owned(),
    ),
    (
        "proxy that says nothing",
        |spec| spec.proxy = Some(Proxy::default()),
        |_| {},
    ),
    (
        "whenHubLost: NotReady",
        |spec| spec.when_hub_lost = Some(lost(LostAction::NotReady, Some("1h"))),
        |sent| sent.rules = Some(rules(v1::StaleAction::NotReady, 3_600)),
    ),
    (
        "whenHubLost: Withdraw",
        |spec| spec.when_hub_lost = Some(lost(LostAction::Withdraw, None)),
        |sent| sent.rules = Some(rules(v1::StaleAction::Withdraw, 600)),
    ),
    (
        "whenHubLost: Keep",
        |spec| spec.when_hub_lost = Some(lost(LostAction::Keep, Some("5m"))),
        |_| {},
    ),
    (
        "autoInjectionNamespaces",
        |spec| spec.auto_injection_namespaces.clear(),
        |_| {},
    ),
];

fn lost(action: LostAction, after: Option<&str>) -> WhenHubLost {
    WhenHubLost {
        action,
        after: after.map(str::to_owned),
    }
}

fn rules(action: v1::StaleAction, stale_after_seconds: u32) -> v1::Rules {
    v1::Rules {
        stale_action: action.into(),
        stale_after_seconds,
    }
}

#[test]
fn sample_of_2019_gives_mesh_citadel_and_injector_and_no_problem() {
    let index = index(&[], &[], &[seed()]);
    assert_eq!(Parameters::held(&index, "r1"), Parameters::of_seed());
    assert_eq!(problems(&index, "r1"), []);
    let keys = versions(&index).into_keys().map(|key| key.to_string());
    let expected = [
        "injection/default",
        "mesh/istio-system",
        "citadel/istio-system",
        "injector/istio-system",
    ];
    assert_eq!(keys.collect::<Vec<_>>(), expected);
}

#[test]
fn each_field_changes_the_parameter_it_should_and_no_other() {
    for (field, edit, expect) in FIELDS_OF_BLOCKS.iter().chain(&FIELDS_BESIDE_THEM) {
        let mut index = index(&[], &[], &[seed()]);
        let before = versions(&index);
        index.remote_applied(edited(&seed(), |object| edit(&mut object.spec)), 2);
        let mut expected = Parameters::of_seed();
        expect(&mut expected);
        assert_eq!(Parameters::held(&index, "r1"), expected, "{field}");
        assert_eq!(problems(&index, "r1"), [], "{field}");
        let after = versions(&index);
        let seed = Parameters::of_seed();
        for (component, is_same) in [
            (Component::Mesh, expected.mesh == seed.mesh),
            (Component::Citadel, expected.citadel == seed.citadel),
            (Component::Injector, expected.injector == seed.injector),
        ] {
            let key = Key::component(component, NAMESPACE);
            assert_eq!(
                before.get(&key) == after.get(&key),
                is_same,
                "version of {key} at {field}"
            );
        }
    }
}

/// A field of a spec, its edit, and the reason it is refused with.
type Refusal = (&'static str, fn(&mut RemoteIstioSpec), &'static str);

fn refused_term(term: PodAffinityTerm) -> Affinity {
    Affinity {
        pod_affinity: Some(PodAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAffinity::default()
        }),
        ..Affinity::default()
    }
}

const TERM: &str = "spec.citadel.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";

const REFUSED: [Refusal; 17] = [
    (
        "spec.citadel.image",
        |spec| citadel(spec).image = Some("a b".to_owned()),
        "InvalidImage",
    ),
    (
        "spec.citadel.replicaCount",
        |spec| citadel(spec).replica_count = Some(-1),
        "InvalidReplicas",
    ),
    (
        "spec.citadel.imagePullSecrets[0].name",
        |spec| citadel(spec).image_pull_secrets = vec![PullSecret { name: "A".to_owned() }],
        "InvalidName",
    ),
    (
        "spec.citadel.tolerations[0].operator",
        |spec| {
            let operator = Some("Gt".to_owned());
            citadel(spec).tolerations = vec![Toleration {
                operator,
                ..toleration()
            }];
        },
        "InvalidPlacement",
    ),
    (
        "spec.citadel.tolerations[0].effect",
        |spec| {
            let effect = Some("Never".to_owned());
            citadel(spec).tolerations = vec![Toleration { effect, ..toleration() }];
        },
        "InvalidPlacement",
    ),
    (
        "spec.citadel.resources.claims",
        |spec| {
            let mut resources = amounts();
            resources.claims = vec![ResourceClaim::default()];
            citadel(spec).resources = Some(resources);
        },
        "UnsupportedField",
    ),
    (
        "spec.citadel.resources.limits[nvidia.com/gpu]",
        |spec| {
            let mut resources = amounts();
            resources
                .limits
                .insert("nvidia.com/gpu".to_owned(), Quantity::Number(1));
            citadel(spec).resources = Some(resources);
        },
        "UnsupportedField",
    ),
    (
        "spec.citadel.resources.requests[cpu]",
        |spec| {
            let mut resources = amounts();
            resources
                .requests
                .insert("cpu".to_owned(), Quantity::Text("much".to_owned()));
            citadel(spec).resources = Some(resources);
        },
        "InvalidQuantity",
    ),
    (
        "namespaceSelector",
        |spec| {
            let term = PodAffinityTerm {
                namespace_selector: Some(LabelSelector::default()),
                ..pod_term("a")
            };
            citadel(spec).affinity = Some(refused_term(term));
        },
        "UnsupportedField",
    ),
    (
        "matchLabelKeys",
        |spec| {
            let term = PodAffinityTerm {
                match_label_keys: Some(Vec::new()),
                ..pod_term("a")
            };
            citadel(spec).affinity = Some(refused_term(term));
        },
        "UnsupportedField",
    ),
    (
        "mismatchLabelKeys",
        |spec| {
            let term = PodAffinityTerm {
                mismatch_label_keys: Some(Vec::new()),
                ..pod_term("a")
            };
            citadel(spec).affinity = Some(refused_term(term));
        },
        "UnsupportedField",
    ),
    (
        "labelSelector",
        |spec| {
            let term = PodAffinityTerm {
                label_selector: None,
                ..pod_term("a")
            };
            citadel(spec).affinity = Some(refused_term(term));
        },
        "InvalidPlacement",
    ),
    (
        "spec.citadel",
        |spec| citadel(spec).node_selector = [("a".to_owned(), "x".repeat(40_000))].into(),
        "TooLarge",
    ),
    (
        "spec.includeIPRanges",
        |spec| spec.include_ip_ranges = Some("10.0.0.0/33".to_owned()),
        "InvalidRanges",
    ),
    (
        "spec.excludeIPRanges",
        |spec| spec.exclude_ip_ranges = Some("*".to_owned()),
        "InvalidRanges",
    ),
    (
        "spec.proxyInit.image",
        |spec| {
            spec.proxy_init = Some(ProxyInit {
                image: Some("ä".to_owned()),
            });
        },
        "InvalidImage",
    ),
    (
        "spec.whenHubLost.after",
        |spec| spec.when_hub_lost = Some(lost(LostAction::Withdraw, Some("1s"))),
        "InvalidDuration",
    ),
];

#[test]
fn each_field_that_cannot_be_carried_out_is_named_and_everything_stays_as_it_was_read_last() {
    for (field, edit, reason) in REFUSED {
        let mut index = index(&[], &[], &[seed()]);
        let before = lane(&index, "r1", Lane::Config);
        index.remote_applied(edited(&seed(), |object| edit(&mut object.spec)), 2);
        let field = if field.starts_with("spec.") {
            field.to_owned()
        } else {
            format!("{TERM}.{field}")
        };
        assert_eq!(problems(&index, "r1"), [(reason, field.clone(), true)]);
        assert!(Arc::ptr_eq(&before, &lane(&index, "r1", Lane::Config)), "{field}");
    }
}

#[test]
fn block_that_never_could_be_read_is_not_sent_and_the_other_goes_on() {
    let view = edited(&seed(), |object| citadel(&mut object.spec).replica_count = Some(-1));
    let index = index(&[], &[], &[view]);
    let expected = Parameters {
        citadel: None,
        ..Parameters::of_seed()
    };
    assert_eq!(Parameters::held(&index, "r1"), expected);
}

#[test]
fn fields_of_a_block_that_is_not_there_are_refused_by_name() {
    let view = edited(&remote("r1", &[]), |object| {
        object.spec.include_ip_ranges = Some("*".to_owned());
        object.spec.exclude_ip_ranges = Some(String::new());
        object.spec.control_plane_security_enabled = Some(false);
    });
    let mut index = index(&[], &[], std::slice::from_ref(&view));
    assert_eq!(problems(&index, "r1"), []);
    let asking = edited(&view, |object| {
        object.spec.include_ip_ranges = Some("10.0.0.0/8".to_owned());
        object.spec.exclude_ip_ranges = Some("10.1.0.0/16".to_owned());
        object.spec.control_plane_security_enabled = Some(true);
        object.spec.proxy = Some(Proxy::default());
        object.spec.proxy_init = Some(ProxyInit::default());
    });
    index.remote_applied(asking, 2);
    let expected = [
        "spec.includeIPRanges",
        "spec.excludeIPRanges",
        "spec.controlPlaneSecurityEnabled",
        "spec.proxy",
        "spec.proxyInit",
    ];
    assert_eq!(
        problems(&index, "r1"),
        expected.map(|field| ("NoEffect", field.to_owned(), true))
    );
}

fn trust(signer: u8) -> v1::MeshTrust {
    v1::MeshTrust {
        signer: vec![signer; 32],
        roots: vec![vec![1, 2, 3]],
    }
}

#[test]
fn trust_is_sent_to_remotes_with_citadel_and_to_no_other() {
    let bare = edited(&seed(), |object| object.spec.citadel = None);
    let mut other = RemoteIstio::clone(&bare.object);
    other.metadata.name = Some("r2".to_owned());
    let mut index = index(&[], &[], &[seed(), RemoteView::new(other).expect("a name")]);
    assert_eq!(desired(&index, "r1").mesh_ca, Some(MeshCaState::NotGranted));
    assert_eq!(desired(&index, "r2").mesh_ca, None);
    let found = index.mesh_trust(MeshCaState::Ready, Some(trust(1)), 7);
    assert_eq!(found, touched(&["r1"]));
    assert_eq!(Parameters::held(&index, "r1").trust, Some(trust(1)));
    assert_eq!(Parameters::held(&index, "r2").trust, None);
    assert_eq!(desired(&index, "r1").mesh_ca, Some(MeshCaState::Ready));
    let key = Key::component(Component::Trust, NAMESPACE);
    assert_eq!(object(&index, "r1", &key).and_then(|object| object.caused_at), Some(7));

    assert_eq!(index.mesh_trust(MeshCaState::Ready, Some(trust(1)), 8), touched(&[]));
    assert_eq!(
        index.mesh_trust(MeshCaState::Ready, Some(trust(2)), 9),
        touched(&["r1"])
    );
    assert_eq!(Parameters::held(&index, "r1").trust, Some(trust(2)));
    index.remote_applied(edited(&bare, |object| object.metadata.name = Some("r1".to_owned())), 10);
    assert_eq!(Parameters::held(&index, "r1").trust, None);
}

#[test]
fn hub_that_signs_sends_no_remote_with_citadel_anything_before_it_looked_for_the_ca() {
    let mut index = empty().awaiting_mesh_trust();
    let bare = remote("r2", &[]);
    index.remotes_listed(vec![seed(), bare], 1);
    assert_eq!(desired(&index, "r1").lanes, BTreeMap::new());
    assert_eq!(desired(&index, "r1").mesh_ca, Some(MeshCaState::Unknown));
    assert!(desired(&index, "r2").lanes.contains_key(&Lane::Config));
    let unreadable = MeshCaState::Unreadable("no role".to_owned());
    assert_eq!(index.mesh_trust(unreadable.clone(), None, 2), touched(&["r1"]));
    assert_eq!(desired(&index, "r1").lanes, BTreeMap::new());
    assert_eq!(desired(&index, "r1").mesh_ca, Some(unreadable));
    let missing = MeshCaState::Missing("no Secret".to_owned());
    assert_eq!(index.mesh_trust(missing, None, 2), touched(&["r1"]));
    assert_eq!(Parameters::held(&index, "r1"), Parameters::of_seed());
}

#[test]
fn remote_that_is_deleted_is_not_concerned_by_the_mesh_ca() {
    let mut index = empty().awaiting_mesh_trust();
    index.remotes_listed(vec![deleting(&seed())], 1);
    withdrawn(&mut index, "r1");
    let published = desired(&index, "r1");
    assert_eq!((published.lanes.len(), published.mesh_ca.clone()), (2, None));
}
