use super::*;

fn named_pod(number: u8, grpc: u16) -> PodView {
    PodView {
        ports: vec![NamedPort {
            name: "grpc".to_owned(),
            number: grpc,
            protocol: Protocol::Tcp,
        }],
        ..pilot(number)
    }
}

fn port_of(index: &Index, address: &str) -> Vec<Port> {
    let set = set(index, "r1", "istio-pilot");
    let endpoint = &set.endpoints[&address.parse::<IpAddr>().expect("an address")];
    set.port_sets[endpoint.port_set as usize].clone()
}

#[test]
fn service_absent_on_central_is_no_problem_with_a_selector_and_has_no_ports() {
    let index = index(
        &[pilot(1)],
        &[],
        &[remote("r1", &[enabled("istio-pilot", "istio=pilot")])],
    );
    assert_eq!(problems(&index, "r1"), []);
    assert_eq!(intent(&index, "r1", "istio-pilot"), ServiceIntent::default());
    assert_eq!(set(&index, "r1", "istio-pilot").port_sets, Vec::<Vec<Port>>::new());
}

#[test]
fn without_a_selector_the_one_of_the_service_on_central_counts() {
    let services = [service("istio-pilot", "istio=pilot", &[])];
    let mut index = index(&[pilot(1)], &services, &[remote("r1", &[enabled("istio-pilot", "")])]);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1"]);
    let moved = service("istio-pilot", "istio=other", &[]);
    assert_eq!(index.service_applied(moved, 2), touched(&["r1"]));
    assert_eq!(addresses(&index, "r1", "istio-pilot"), [""; 0]);
    assert_eq!(problems(&index, "r1"), []);
}

#[test]
fn without_any_selector_no_pod_is_chosen_and_it_is_said() {
    let field = || "spec.enabledServices[0]".to_owned();
    let mut index = index(&[pilot(1)], &[], &[remote("r1", &[enabled("istio-pilot", "")])]);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), [""; 0]);
    assert_eq!(problems(&index, "r1"), [("ServiceNotFound", field(), true)]);
    index.service_applied(service("istio-pilot", "", &[]), 2);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), [""; 0]);
    assert_eq!(problems(&index, "r1"), [("NoSelector", field(), true)]);
    index.service_applied(service("istio-pilot", "istio=pilot", &[]), 3);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1"]);
    assert_eq!(problems(&index, "r1"), []);
    assert_eq!(
        index.service_deleted(NAMESPACE, "istio-pilot", 120, 4),
        touched(&["r1"])
    );
    assert_eq!(problems(&index, "r1"), [("ServiceNotFound", field(), true)]);
}

#[test]
fn endpoints_have_the_target_port_and_the_service_has_its_own() {
    let services = [service("istio-pilot", "", &[port("http", 80, Target::Number(8080))])];
    let remotes = [remote("r1", &[enabled("istio-pilot", "istio=pilot")])];
    let index = index(&[pilot(1)], &services, &remotes);
    assert_eq!(port_of(&index, "10.0.0.1"), [number("http", 8080)]);
    assert_eq!(intent(&index, "r1", "istio-pilot").ports, [number("http", 80)]);
}

#[test]
fn named_target_port_is_looked_up_on_each_pod() {
    let services = [service(
        "istio-pilot",
        "",
        &[port("grpc", 80, Target::Name("grpc".to_owned()))],
    )];
    let remotes = [remote("r1", &[enabled("istio-pilot", "istio=pilot")])];
    let pods = [named_pod(1, 15010), named_pod(2, 15011), named_pod(3, 15010), pilot(4)];
    let index = index(&pods, &services, &remotes);
    assert_eq!(port_of(&index, "10.0.0.1"), [number("grpc", 15010)]);
    assert_eq!(port_of(&index, "10.0.0.2"), [number("grpc", 15011)]);
    assert_eq!(port_of(&index, "10.0.0.3"), [number("grpc", 15010)]);
    assert_eq!(port_of(&index, "10.0.0.4"), []);
    assert_eq!(set(&index, "r1", "istio-pilot").port_sets.len(), 3);
}

#[test]
fn ports_of_the_entry_win_over_those_of_central() {
    let services = [service("istio-pilot", "", &[port("http", 80, Target::Number(8080))])];
    let own = EnabledService {
        ports: vec![ServicePort {
            name: Some("grpc".to_owned()),
            port: 15010,
            target_port: Some(TargetPort::Number(15011)),
            app_protocol: Some("grpc".to_owned()),
            protocol: None,
        }],
        ..enabled("istio-pilot", "istio=pilot")
    };
    let mut index = index(&[pilot(1)], &services, &[remote("r1", &[own])]);
    let with_protocol = |number: Port| Port {
        app_protocol: "grpc".to_owned(),
        ..number
    };
    assert_eq!(port_of(&index, "10.0.0.1"), [with_protocol(number("grpc", 15011))]);
    assert_eq!(
        intent(&index, "r1", "istio-pilot").ports,
        [with_protocol(number("grpc", 15010))]
    );
    let other = service("istio-pilot", "", &[port("http", 81, Target::Number(81))]);
    assert_eq!(index.service_applied(other, 2), touched(&[]));
}

#[test]
fn changed_ports_of_central_reach_both_lanes() {
    let services = [service("istio-pilot", "", &[port("http", 80, Target::Number(8080))])];
    let remotes = [remote("r1", &[enabled("istio-pilot", "istio=pilot")])];
    let mut index = index(&[pilot(1)], &services, &remotes);
    let moved = service("istio-pilot", "", &[port("http", 81, Target::Number(8081))]);
    assert_eq!(index.service_applied(moved, 2), touched(&["r1"]));
    assert_eq!(port_of(&index, "10.0.0.1"), [number("http", 8081)]);
    assert_eq!(intent(&index, "r1", "istio-pilot").ports, [number("http", 81)]);
    assert_eq!(index.services_listed(NAMESPACE, vec![], 150, 3), touched(&["r1"]));
    assert_eq!(intent(&index, "r1", "istio-pilot"), ServiceIntent::default());
}

#[test]
fn static_addresses_are_added_and_need_no_selector() {
    let both = EnabledService {
        pod_ips: vec!["10.9.9.9".to_owned(), "fd00::9".to_owned()],
        ..enabled("istio-pilot", "istio=pilot")
    };
    let alone = EnabledService {
        pod_ips: vec!["10.9.9.9".to_owned()],
        ..enabled("zipkin", "")
    };
    let mut index = index(&[pilot(1)], &[], &[remote("r1", &[both, alone])]);
    assert_eq!(
        addresses(&index, "r1", "istio-pilot"),
        ["10.0.0.1", "10.9.9.9", "fd00::9"]
    );
    assert_eq!(addresses(&index, "r1", "zipkin"), ["10.9.9.9"]);
    assert_eq!(problems(&index, "r1"), []);
    index.pod_deleted(NAMESPACE, "pilot-1", 120, 2);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.9.9.9", "fd00::9"]);
}

#[test]
fn address_that_no_other_cluster_reaches_is_left_out_and_named() {
    let texts = [
        "127.0.0.1",
        "10.9.9.9",
        "fe80::1",
        "pilot",
        "224.0.0.1",
        "::",
        "::ffff:127.0.0.1",
    ];
    let service = EnabledService {
        pod_ips: texts.map(str::to_owned).into(),
        ..enabled("istio-pilot", "istio=pilot")
    };
    let index = index(&[], &[], &[remote("r1", &[service])]);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.9.9.9"]);
    let expected =
        [0, 2, 3, 4, 5, 6].map(|at| ("InvalidAddress", format!("spec.enabledServices[0].podIPs[{at}]"), true));
    assert_eq!(problems(&index, "r1"), expected);
}

#[test]
fn ports_that_differ_on_too_many_pods_are_a_problem_and_the_set_stays() {
    let services = [service(
        "istio-pilot",
        "",
        &[port("grpc", 80, Target::Name("grpc".to_owned()))],
    )];
    let remotes = [remote("r1", &[enabled("istio-pilot", "istio=pilot")])];
    let mut index = index(&[named_pod(1, 1001)], &services, &remotes);
    let pods = (1..=17)
        .map(|number| named_pod(number, 1000 + u16::from(number)))
        .collect();
    index.pods_listed(NAMESPACE, pods, 150, 2);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1"]);
    assert_eq!(
        problems(&index, "r1"),
        [("TooManyPorts", "spec.enabledServices[0]".to_owned(), true)]
    );
}
