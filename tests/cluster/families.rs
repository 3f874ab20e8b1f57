//! Remotes whose Services have addresses of the one family, of the other, or of both.

use serde_json::{Value, json};

use crate::mesh::{Clusters, Mesh, Setup, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// The addresses of a service by family of its slices.
async fn by_family(mesh: &Mesh<'_>) -> Vec<(String, String)> {
    let slices = mesh.remote(0).slices("istio-pilot").await;
    let of_slice = |slice: &Value| {
        let family = slice["addressType"].as_str().expect("a family").to_owned();
        let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.into_iter().map(move |endpoint| {
            let address = endpoint["addresses"][0].as_str().expect("an address").to_owned();
            (family.clone(), address)
        })
    };
    let mut addresses: Vec<_> = slices.iter().flat_map(of_slice).collect();
    addresses.sort();
    addresses
}

/// A remote with these ranges holds addresses of both families, and nothing of it is drift.
async fn holds_both(name: &str, ranges: &str, families: Value) {
    let clusters = Clusters::with_service_ranges(name, ranges).await;
    let mut mesh = Box::pin(Mesh::prepare(&clusters, name, 1, Setup::default())).await;
    mesh.start_hub().await;
    mesh.launch_agent(0).await;
    mesh.enable(PILOT).await;
    mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
    mesh.pod("pilot-b", "istio=pilot", "2001:db8::b").ready().await;
    let remote = mesh.remote(0);
    remote
        .until_addresses("istio-pilot", &["10.1.0.1", "2001:db8::b"])
        .await;
    mesh.until_ready(0).await;
    let pair = |family: &str, address: &str| (family.to_owned(), address.to_owned());
    assert_eq!(
        by_family(&mesh).await,
        [pair("IPv4", "10.1.0.1"), pair("IPv6", "2001:db8::b")]
    );
    let service = remote.object("Service", "istio-pilot").await.expect("there");
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(
        service["spec"]["ipFamilies"], families,
        "as the API server sets it: {service}"
    );
    remote.until_quiet().await;
    assert!(
        remote.metric("drift_repaired_total").await < 0.5,
        "{}",
        mesh.agent_log(0)
    );

    // The last address of a family goes, and comes back.
    mesh.delete_pod("pilot-a").await;
    remote.until_addresses("istio-pilot", &["2001:db8::b"]).await;
    mesh.pod("pilot-c", "istio=pilot", "10.1.0.3").ready().await;
    remote
        .until_addresses("istio-pilot", &["10.1.0.3", "2001:db8::b"])
        .await;
    mesh.until_ready(0).await;
}

// Turns red when: a headless Service or its slices are rendered for one family, or the API server's defaults are taken
// for drift.
#[test]
fn remote_of_ipv6_alone_holds_addresses_of_both_families() {
    run(holds_both("families-six", "fd00:10:90::/108", json!(["IPv6", "IPv4"])));
}

#[test]
fn remote_of_both_families_holds_addresses_of_both() {
    run(holds_both(
        "families-both",
        "10.97.0.0/16,fd00:10:97::/108",
        json!(["IPv4", "IPv6"]),
    ));
}

// Turns red when: only the first of a cluster's service ranges is kept clear.
#[test]
fn address_in_either_service_range_is_refused_and_the_others_go_on() {
    run(async {
        let name = "families-ranges";
        let clusters = Clusters::with_service_ranges(name, "10.98.0.0/16,fd00:10:98::/108").await;
        let mut mesh = Box::pin(Mesh::prepare(&clusters, name, 1, Setup::default())).await;
        mesh.start_hub().await;
        mesh.launch_agent(0).await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("four", "app=four"), ("six", "app=six")])
            .await;
        mesh.pod("four-a", "app=four", "10.98.0.9").ready().await;
        mesh.pod("six-a", "app=six", "fd00:10:98::9").ready().await;
        mesh.pod("pilot-a", "istio=pilot", "2001:db8::a").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["2001:db8::a"]).await;
        for address in ["10.98.0.9", "fd00:10:98::9"] {
            mesh.until_status(0, &format!("it says that {address} is refused"), |status| {
                status.to_string().contains(address)
            })
            .await;
        }
        for service in ["four", "six"] {
            assert_eq!(mesh.remote(0).slices(service).await, Vec::<Value>::new(), "{service}");
        }
    });
}
