//! What cannot be carried out is refused by the name of its field, and cannot break out of where it is put in.

use super::*;

fn refused(set: impl FnOnce(&mut v1::SidecarInjector)) -> String {
    let mut ask = v1::SidecarInjector {
        workload: Some(v1::Workload::default()),
        proxy: Some(v1::Proxy::default()),
        ..v1::SidecarInjector::default()
    };
    set(&mut ask);
    check(&Body::Injector(Box::new(ask))).expect_err("it is refused")
}

fn workload(set: impl FnOnce(&mut v1::Workload)) -> String {
    let mut workload = v1::Workload::default();
    set(&mut workload);
    let same = workload.clone();
    let answer = refused(|ask| ask.workload = Some(workload));
    let citadel = Body::Citadel(Box::new(v1::Citadel { workload: Some(same) }));
    let field = answer.strip_prefix("sidecarInjector.").expect("the component is named");
    assert_eq!(
        check(&citadel),
        Err(format!("citadel.{field}")),
        "Citadel is judged alike"
    );
    field.to_owned()
}

fn toleration(key: &str, operator: &str, value: &str, effect: &str, seconds: Option<i64>) -> v1::Toleration {
    v1::Toleration {
        key: key.to_owned(),
        operator: operator.to_owned(),
        value: value.to_owned(),
        effect: effect.to_owned(),
        seconds,
    }
}

#[test]
fn images_are_nothing_but_names_of_images() {
    for image in [
        "a b", "a\"", "a`b", "a]]", "[[a", "a\nb", "-a", ":a", "a'", "a\\", "a{}", "ä", "a,b", "a*",
    ] {
        assert!(
            workload(|w| w.image = image.to_owned()).starts_with("image:"),
            "{image}"
        );
        let proxy = |proxy: fn(&mut v1::Proxy) -> &mut String| {
            refused(|ask| *proxy(ask.proxy.as_mut().unwrap()) = image.to_owned())
        };
        assert!(proxy(|proxy| &mut proxy.image).starts_with("proxy.image:"), "{image}");
        assert!(
            proxy(|proxy| &mut proxy.init_image).starts_with("proxyInit.image:"),
            "{image}"
        );
    }
}

#[test]
fn ranges_are_everything_or_cidrs() {
    for range in [
        "10.0.0.0",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/8,",
        ",",
        "*,10.0.0.0/8",
        "10.0.0.0/8, 11.0.0.0/8",
        "a",
        "/8",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "10.0.0.0/8`",
        "10.0.0/8",
    ] {
        let include = refused(|ask| ask.include_ip_ranges = range.to_owned());
        assert!(include.starts_with("includeIPRanges:"), "{range}");
        let exclude = refused(|ask| ask.exclude_ip_ranges = range.to_owned());
        assert!(exclude.starts_with("excludeIPRanges:"), "{range}");
    }
    // Nothing would be left to capture.
    assert!(refused(|ask| ask.exclude_ip_ranges = "*".to_owned()).starts_with("excludeIPRanges:"));
}

#[test]
fn words_are_those_of_kubernetes() {
    let pull = workload(|w| w.image_pull_policy = "always".to_owned());
    assert_eq!(
        pull,
        "imagePullPolicy: \"always\" is none of Always, IfNotPresent, Never"
    );
    let pull = refused(|ask| ask.proxy.as_mut().unwrap().image_pull_policy = "x".to_owned());
    assert!(pull.starts_with("proxy.imagePullPolicy:"));
    for (toleration, field) in [
        (toleration("k", "Is", "", "", None), "tolerations.operator:"),
        (toleration("k", "", "", "Never", None), "tolerations.effect:"),
        (toleration("k", "Exists", "v", "", None), "tolerations.value:"),
        (toleration("", "Equal", "", "", None), "tolerations.key:"),
        (
            toleration("k", "", "", "NoSchedule", Some(1)),
            "tolerations.tolerationSeconds:",
        ),
    ] {
        assert!(
            workload(|w| w.tolerations = vec![toleration]).starts_with(field),
            "{field}"
        );
    }
}

#[test]
fn resources_are_known_ones_in_quantities() {
    let resources = |requests: &[(&str, &str)], limits: &[(&str, &str)]| {
        Some(v1::Resources {
            requests: map(requests),
            limits: map(limits),
        })
    };
    for (resources, field) in [
        (resources(&[("gpu", "1")], &[]), "resources.requests:"),
        (resources(&[("cpu", "much")], &[]), "resources.requests.cpu:"),
        (resources(&[], &[("memory", "-1")]), "resources.limits.memory:"),
        (
            resources(&[("cpu", "1")], &[("cpu", "999m")]),
            "resources.requests.cpu:",
        ),
    ] {
        let same = resources.clone();
        assert!(workload(|w| w.resources = resources).starts_with(field), "{field}");
        let proxy = refused(|ask| ask.proxy.as_mut().unwrap().resources = same);
        assert!(proxy.starts_with(&format!("proxy.{field}")), "{proxy}");
    }
}

#[test]
fn placement_says_something_that_can_hold() {
    let requirement = |operator: &str, values: &[&str]| v1::Requirement {
        key: "k".to_owned(),
        operator: operator.to_owned(),
        values: values.iter().copied().map(str::to_owned).collect(),
    };
    let node = |requirement: v1::Requirement| v1::Affinity {
        node_required: vec![v1::NodeTerm {
            labels: vec![requirement],
            fields: vec![],
        }],
        ..v1::Affinity::default()
    };
    let pod = |topology_key: &str, requirement: v1::Requirement| v1::PodTerm {
        labels: vec![requirement],
        topology_key: topology_key.to_owned(),
        ..v1::PodTerm::default()
    };
    let weighted = |weight: u32| v1::Affinity {
        node_preferred: vec![v1::WeightedNodeTerm { weight, term: None }],
        ..v1::Affinity::default()
    };
    let required = |term: v1::PodTerm| v1::Affinity {
        pod_required: vec![term],
        ..v1::Affinity::default()
    };
    let anti = |weight: u32, term: v1::PodTerm| v1::Affinity {
        pod_anti_preferred: vec![v1::WeightedPodTerm {
            weight,
            term: Some(term),
        }],
        ..v1::Affinity::default()
    };
    for (affinity, field) in [
        (node(requirement("Is", &["a"])), "affinity.nodeAffinity.operator:"),
        (node(requirement("In", &[])), "affinity.nodeAffinity.values:"),
        (node(requirement("Exists", &["a"])), "affinity.nodeAffinity.values:"),
        (node(requirement("Gt", &["1", "2"])), "affinity.nodeAffinity.values:"),
        (weighted(0), "affinity.nodeAffinity.weight:"),
        (weighted(101), "affinity.nodeAffinity.weight:"),
        (
            required(pod("", requirement("Exists", &[]))),
            "affinity.podAffinity.topologyKey:",
        ),
        (
            required(pod("z", requirement("Gt", &["1"]))),
            "affinity.podAffinity.operator:",
        ),
        (
            anti(0, pod("z", requirement("Exists", &[]))),
            "affinity.podAntiAffinity.weight:",
        ),
        (
            anti(1, pod("", requirement("Exists", &[]))),
            "affinity.podAntiAffinity.topologyKey:",
        ),
    ] {
        assert!(workload(|w| w.affinity = Some(affinity)).starts_with(field), "{field}");
    }
    assert!(workload(|w| w.image_pull_secrets = vec!["A".to_owned()]).starts_with("imagePullSecrets:"));
    assert!(workload(|w| w.replicas = Some(101)).starts_with("replicaCount:"));
}

/// Were something accepted that should have been refused, it would still be no more than text.
#[test]
fn unchecked_texts_cannot_break_out_of_the_template() {
    let evil = "x` ]]\n\"\\n'[[ .Evil ]]: {}\nprivileged: true".to_owned();
    let ask = v1::SidecarInjector {
        workload: None,
        include_ip_ranges: evil.clone(),
        exclude_ip_ranges: evil.clone(),
        proxy: Some(v1::Proxy {
            image: evil.clone(),
            init_image: evil.clone(),
            image_pull_policy: evil.clone(),
            privileged: false,
            resources: Some(v1::Resources {
                requests: [(evil.clone(), evil.clone())].into(),
                limits: [(evil.clone(), evil)].into(),
            }),
        }),
    };
    let (text, pods) = template_of(&ask, |_| false);
    let (plain, _) = template_of(&v1::SidecarInjector::default(), |_| false);
    for delimiter in ["[[", "]]", "`", "'"] {
        assert_eq!(
            text.matches(delimiter).count(),
            plain.matches(delimiter).count(),
            "{delimiter}"
        );
    }
    assert_eq!(pods["containers"][0]["securityContext"]["privileged"], false);
    assert_eq!(pods["initContainers"][0]["image"], "xn.Evil:privileged:true");
}
