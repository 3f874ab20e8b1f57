//! From joining to leaving, and everything in between that must not harm: pause, loss of the hub, deletion while away.

use std::time::Duration;

use serde_json::{Value, json};
use support::deploy;
use support::eventually::{eventually, eventually_within, seen};
use support::mesh_ca::MeshCa;

use crate::mesh::{CITADEL, Clusters, INJECTOR, Mesh, Setup, changes, run, seed_spec, whole};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// Where the hub keeps what it forgot by force.
const TOMBSTONES: &str = "remote-istio-gone";

/// The owner's labels.
const OWNER: &str = "istio.banzaicloud.io/owner";

/// After the shortest time that a rule for a lost hub can have, and some more.
const STALE: Duration = Duration::from_mins(3);

// Turns red when: anything of ours is left: a label, a Secret, a record, an object without a namespace.
#[test]
fn remote_is_after_leaving_as_it_was_before_joining() {
    run(async {
        let name = "leaving";
        let clusters = Clusters::private(name).await;
        let admin = clusters.remote(0).admin();
        deploy::namespace(&admin, name).await.expect("a namespace");
        deploy::namespace(&admin, "leaving-app").await.expect("a namespace");
        let before = whole(&admin).await;
        assert!(before.len() > 30, "{} objects", before.len());

        let mut mesh = Box::pin(Mesh::prepare(&clusters, name, 1, Setup::components())).await;
        mesh.start_hub().await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.launch_agent(0).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.create_remote_istio(0, seed_spec("leaving-app")).await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        for deployment in [CITADEL, INJECTOR] {
            remote.until_object("Deployment", deployment, |_| true).await;
        }
        remote
            .until_label("leaving-app", "istio-injection", Some("enabled"))
            .await;
        remote.until_quiet().await;
        let joined = changes(&before, &remote.whole_cluster().await);
        assert!(joined.len() > 30, "{joined:?}");

        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        mesh.remote(0).until_quiet().await;
        mesh.remote_mut(0).terminate_agent().await;
        mesh.remote(0).uninstall().await;
        let after = mesh.remote(0).whole_cluster().await;
        assert_eq!(changes(&before, &after), Vec::<String>::new());
    });
}

// Turns red when: orphans are deleted, or keep the labels by which they would be taken for ours.
#[test]
fn orphaned_objects_stay_and_are_no_longer_ours() {
    run(async {
        let mesh = Mesh::started("orphan", Setup::components()).await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        let remote = mesh.remote(0);
        remote.create_namespace("orphan-app", json!({})).await;
        let mut spec = seed_spec("orphan-app");
        spec["deletionPolicy"] = json!("Orphan");
        mesh.create_remote_istio(0, spec).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        remote.until_object("Deployment", CITADEL, |_| true).await;
        remote.until_object("Deployment", INJECTOR, |_| true).await;
        remote
            .until_label("orphan-app", "istio-injection", Some("enabled"))
            .await;
        remote.until_quiet().await;
        let audit = remote.audit().await;
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        remote.until_nothing_is_owned().await;
        for (kind, name) in [
            ("Service", "istio-pilot"),
            ("Deployment", CITADEL),
            ("Deployment", INJECTOR),
            ("ConfigMap", "istio"),
        ] {
            let object = remote
                .object(kind, name)
                .await
                .unwrap_or_else(|| panic!("{kind} {name} is gone"));
            assert_eq!(object["metadata"]["labels"][OWNER], Value::Null, "{object}");
        }
        assert_eq!(remote.addresses("istio-pilot").await.len(), 1);
        assert_eq!(
            remote.read_label("orphan-app", "istio-injection").await.as_deref(),
            Some("enabled")
        );
        let deletes = |event: &crate::audit::Event| {
            event.is_ours && event.verb == "delete" && event.succeeded && event.resource != "configmaps"
        };
        assert_eq!(format!("{:?}", audit.since(deletes).await), "[]", "only our records go");
    });
}

/// Deletes a `RemoteIstio` whose remote is away, by force.
async fn force(mesh: &Mesh<'_>) {
    mesh.delete_remote_istio(0).await;
    mesh.until_status(0, "it says what it waits for", |status| {
        status.to_string().contains("istio.banzaicloud.io/force-delete")
    })
    .await;
    let annotation = json!({"metadata": {"annotations": {"istio.banzaicloud.io/force-delete": "true"}}});
    mesh.central_merge("RemoteIstio", &mesh.remote_name(0), &annotation)
        .await;
    mesh.until_remote_istio_is_gone(0).await;
}

async fn until_tombstone(mesh: &Mesh<'_>, there: bool) -> String {
    let name = mesh.remote_name(0);
    eventually(&format!("the tombstone is there: {there}"), || async {
        let all = mesh.central_object("ConfigMap", TOMBSTONES).await.unwrap_or_default();
        let stone = all["data"][&name].as_str().map(str::to_owned);
        seen(stone.is_some() == there, stone)
            .map(Option::unwrap_or_default)
            .map_err(|seen| format!("{seen}\n{}", mesh.hub_log()))
    })
    .await
}

// Turns red when: no tombstone is written, or the agent that comes back is not cleared by it.
#[test]
fn remote_deleted_by_force_while_away_is_cleared_when_it_comes_back() {
    run(async {
        let mut mesh = Mesh::start("left-behind").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.until_sessions(0).await;
        force(&mesh).await;
        let stone = until_tombstone(&mesh, true).await;
        assert!(stone.contains("istio-pilot"), "it says what is left there: {stone}");
        mesh.remote(0)
            .object("Service", "istio-pilot")
            .await
            .expect("nobody has told it");
        mesh.launch_agent(0).await;
        mesh.remote(0).until_nothing_is_owned().await;
        mesh.remote(0).until_absent("Service", "istio-pilot").await;
        until_tombstone(&mesh, false).await;
    });
}

// Turns red when: the tombstone of the old clears what the new wants, or the new leaves what only the old had.
#[test]
fn new_resource_under_the_name_of_one_deleted_by_force_is_not_harmed() {
    run(async {
        let mut mesh = Mesh::start("recreated").await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("istio-policy", "istio=policy")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.pod("policy-a", "istio=policy", "10.1.1.1").ready().await;
        mesh.until_ready(0).await;
        let pilot = mesh.remote(0).object("Service", "istio-pilot").await.expect("there");
        mesh.remote_mut(0).kill_agent().await;
        mesh.until_sessions(0).await;
        force(&mesh).await;
        until_tombstone(&mesh, true).await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("zipkin", "app=jaeger")])
            .await;
        mesh.pod("jaeger-a", "app=jaeger", "10.1.2.1").ready().await;
        let log = mesh.remote(0).record("istio-pilot").await;
        mesh.launch_agent(0).await;
        let remote = mesh.remote(0);
        remote.until_addresses("zipkin", &["10.1.2.1"]).await;
        remote.until_absent("Service", "istio-policy").await;
        mesh.until_ready(0).await;
        until_tombstone(&mesh, false).await;
        let now = remote.object("Service", "istio-pilot").await.expect("kept");
        assert_eq!(
            now["metadata"]["uid"], pilot["metadata"]["uid"],
            "what both have is kept"
        );
        assert_eq!(remote.addresses("istio-pilot").await.len(), 1);
        assert!(
            log.sizes().iter().all(|size| *size == 1),
            "not for a moment: {:?}",
            log.history()
        );
    });
}

// Turns red when: a deletion does not wait for the remote, or does not say so.
#[test]
fn deletion_waits_for_a_remote_that_is_away_and_says_so() {
    run(async {
        let mut mesh = Mesh::start("waiting").await;
        mesh.enable(PILOT).await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.until_sessions(0).await;
        mesh.delete_remote_istio(0).await;
        mesh.until_status(0, "it says what it waits for", |status| {
            status.to_string().contains("istio.banzaicloud.io/force-delete")
        })
        .await;
        assert!(mesh.remote_istio(&mesh.remote_name(0)).await.is_some());
        mesh.launch_agent(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        mesh.remote(0).until_nothing_is_owned().await;
    });
}

// Turns red when: a paused remote is written to, or one that goes on is not.
#[test]
fn paused_remote_is_left_as_it_is_until_it_goes_on() {
    run(async {
        let mut mesh = Mesh::start("paused").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.merge_spec(0, json!({"paused": true})).await;
        mesh.until_status(0, "it says that it is paused", |status| {
            status.to_string().contains("Paused")
        })
        .await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;
        let audit = remote.audit().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.merge_spec(
            0,
            json!({"enabledServices": [
                {"name": "istio-pilot", "labelSelector": "istio=pilot"},
                {"name": "zipkin", "labelSelector": "app=jaeger"},
            ]}),
        )
        .await;
        remote.until_quiet().await;
        // A hub that starts anew does not know what a paused remote holds, and takes nothing from it.
        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.until_sessions(1).await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;
        let written = audit.since(|event| event.is_ours && event.resource != "leases").await;
        assert_eq!(format!("{written:?}"), "[]");
        assert_eq!(remote.addresses("istio-pilot").await.len(), 1);
        mesh.merge_spec(0, json!({"paused": false})).await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;
        remote.until_object("Service", "zipkin", |_| true).await;
        mesh.until_ready(0).await;
        // Deleted while it is paused, it is cleared all the same.
        mesh.merge_spec(0, json!({"paused": true})).await;
        mesh.until_status(0, "it says that it is paused", |status| {
            status.to_string().contains("Paused")
        })
        .await;
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        remote.until_nothing_is_owned().await;
    });
}

/// How many ready and how many other addresses a service has in the remote.
async fn counts(mesh: &Mesh<'_>) -> (usize, usize) {
    let slices = mesh.remote(0).slices("istio-pilot").await;
    let endpoints: Vec<&Value> = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .collect();
    let ready = endpoints
        .iter()
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .count();
    (ready, endpoints.len() - ready)
}

/// Loses the hub under one rule until the counts are these, restarts the agent, and finds the hub again. F72.
async fn loses_the_hub(name: &str, action: &str, stale: (usize, usize)) {
    let mut mesh = Mesh::start(name).await;
    mesh.create_remote_istio(
        0,
        json!({
            "enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot"}],
            "whenHubLost": {"action": action, "after": "1m"},
        }),
    )
    .await;
    mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
    mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
    mesh.remote(0)
        .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"])
        .await;
    mesh.until_ready(0).await;
    mesh.remote(0).until_quiet().await;
    mesh.kill_hub().await;
    let until = async |mesh: &Mesh<'_>, wanted: (usize, usize)| {
        eventually_within(STALE, &format!("ready and other addresses are {wanted:?}"), || async {
            let now = counts(mesh).await;
            seen(now == wanted, now).map_err(|seen| format!("{seen} with the agent's log\n{}", mesh.agent_log(0)))
        })
        .await;
    };
    until(&mesh, stale).await;
    assert!(
        mesh.remote(0).object("Service", "istio-pilot").await.is_some(),
        "the service stays"
    );
    // What was accepted is not forgotten: neither by a restart in this time, nor when the hub is back.
    mesh.remote_mut(0).kill_agent().await;
    mesh.launch_agent(0).await;
    mesh.start_hub().await;
    until(&mesh, (2, 0)).await;
    mesh.until_ready(0).await;
}

// Turns red when: the rule is not carried out, or its effect is kept as what was accepted.
#[test]
fn endpoints_are_marked_not_ready_when_the_hub_is_lost_for_long_and_come_back_with_it() {
    run(loses_the_hub("stale-not-ready", "NotReady", (0, 2)));
}

// Turns red when: the rule is not carried out, or its effect is kept as what was accepted.
#[test]
fn endpoints_are_withdrawn_when_the_hub_is_lost_for_long_and_come_back_with_it() {
    run(loses_the_hub("stale-withdrawn", "Withdraw", (0, 0)));
}
