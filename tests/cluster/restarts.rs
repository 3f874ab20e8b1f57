//! Either end dies at a bad moment and comes back.

use remote_istio::wire::v1;
use support::eventually::{eventually, seen};
use support::peer::hello;
use support::proxy::Traffic;

use crate::mesh::{Mesh, run};

/// What the hub must have listed before it serves.
const LISTED: [&str; 3] = ["pods", "services", "remoteistios"];

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn hub_killed_in_a_change_and_restarted_with_half_filled_caches_removes_nothing() {
    run(async {
        let mut mesh = Mesh::start("half-filled").await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("istio-policy", "istio=policy")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.pod("policy-a", "istio=policy", "10.1.1.1").ready().await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;
        remote.until_addresses("istio-policy", &["10.1.1.1"]).await;
        mesh.until_ready(0).await;
        let pilot = remote.record("istio-pilot").await;
        let policy = remote.record("istio-policy").await;

        // The change is on its way when the hub dies.
        remote.link.set(Traffic::Hold);
        mesh.delete_pod("pilot-a").await;
        mesh.kill_hub().await;
        mesh.remote(0).link.set(Traffic::Pass);
        mesh.pod("pilot-c", "istio=pilot", "10.1.0.3").ready().await;

        // Each start has all but one of its caches filled, and that one never.
        for missing in LISTED {
            mesh.forbid_hub_to("list", missing).await;
            mesh.launch_hub();
            eventually("all the other lists are there", || async {
                let lists = mesh.hub_lists().await.unwrap_or_default();
                let filled = LISTED
                    .into_iter()
                    .filter(|kind| lists.get(*kind).is_some_and(|count| *count > 0.0));
                let filled: Vec<_> = filled.collect();
                seen(filled.len() == 2 && !filled.contains(&missing), filled)
            })
            .await;
            assert!(!mesh.hub_is_ready().await, "without {missing}");
            mesh.kill_hub().await;
        }
        mesh.permit_hub().await;
        mesh.start_hub().await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.2", "10.1.0.3"]).await;
        pilot.until(&["10.1.0.2", "10.1.0.3"]).await;
        assert!(
            pilot.history().iter().all(|set| set.contains("10.1.0.2")),
            "a pod that lived through it all was missing: {:?}",
            pilot.history()
        );
        assert_eq!(policy.sizes(), [1], "nothing happened to it: {:?}", policy.history());
        assert_eq!((pilot.deletions(), policy.deletions()), (0, 0));
    });
}

#[test]
fn agent_killed_after_the_write_and_before_its_answer_writes_it_no_second_time() {
    run(async {
        let mut mesh = Mesh::start("unanswered").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;

        mesh.remote(0).api.set(Traffic::HoldAnswers);
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.remote(0)
            .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"])
            .await;
        let written = mesh.remote(0).slices("istio-pilot").await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.remote(0).api.set(Traffic::Pass);
        mesh.start_agent(0).await;
        mesh.until_ready(0).await;
        // The next change has arrived: everything before it is over.
        mesh.enable_also(0, "istio-policy", "istio=policy").await;
        mesh.remote(0).until_addresses("istio-policy", &[]).await;
        let now = mesh.remote(0).slices("istio-pilot").await;
        assert_eq!(now, written, "what stood there was right already");
    });
}

#[test]
fn agent_killed_before_its_write_arrives_makes_it_after_its_restart() {
    run(async {
        let mut mesh = Mesh::start("unwritten").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;

        mesh.remote(0).api.set(Traffic::Hold);
        mesh.delete_pod("pilot-a").await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.until_condition(0, "Ready", "False").await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.remote(0).api.cut();
        mesh.remote(0).api.set(Traffic::Pass);
        assert_eq!(
            mesh.remote(0)
                .addresses("istio-pilot")
                .await
                .into_iter()
                .collect::<Vec<_>>(),
            ["10.1.0.1"],
            "the write has not arrived"
        );
        mesh.start_agent(0).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.2"]).await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn agent_killed_between_accept_and_apply_applies_after_its_restart_without_the_hub() {
    run(async {
        let mut mesh = Mesh::start("accepted").await;
        mesh.remote(0).forbid("services", "create").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_condition(0, "Accepted", "True").await;
        mesh.until_condition(0, "Applied", "False").await;
        mesh.kill_hub().await;
        mesh.remote_mut(0).kill_agent().await;
        assert!(mesh.remote(0).object("Service", "istio-pilot").await.is_none());

        mesh.remote(0).permit_all().await;
        mesh.launch_agent(0).await;
        let remote = mesh.remote(0);
        remote.until_object("Service", "istio-pilot", |_| true).await;
        mesh.start_hub().await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn restart_of_either_end_rewrites_nothing_when_nothing_changed() {
    run(async {
        let mut mesh = Mesh::start("unchanged").await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("zipkin", "app=jaeger")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote(0).until_quiet().await;
        let before = mesh.remote(0).everything().await;

        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.until_sessions(1).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.until_sessions(0).await;
        mesh.start_agent(0).await;
        mesh.until_sessions(1).await;
        mesh.until_ready(0).await;
        assert_eq!(mesh.remote(0).everything().await, before);

        // Two sessions, and not a single delta in either lane.
        for lane in ["lane=\"endpoints\"", "lane=\"config\""] {
            let sent = mesh.hub_metric("frames_total", &["direction=\"sent\"", lane]).await;
            assert!(sent < 1.0, "{sent} frames with state on {lane}");
        }
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.remote(0)
            .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"])
            .await;
    });
}

#[test]
fn agent_that_comes_back_with_what_is_desired_is_sent_only_what_changes_next() {
    run(async {
        let mesh = Mesh::without_agents("same-hash").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let mut first = mesh
            .scripted_agent("same-hash-0", hello("boot", 1))
            .await
            .expect("a session");
        first.welcome().await.expect("welcomed");
        let mut lanes = Vec::new();
        for _ in 0..2 {
            let delta = first.delta().await.expect("a snapshot of each lane");
            assert!(delta.complete, "{delta:?}");
            first.accept(&delta).await.expect("sent");
            lanes.push(v1::LaneState {
                lane: delta.lane,
                hash: delta.next_hash.clone(),
                objects: 1,
            });
        }
        drop(first);

        let again = v1::Hello {
            lanes: lanes.clone(),
            settled: true,
            connection: 2,
            ..hello("boot", 1)
        };
        let mut second = mesh.scripted_agent("same-hash-0", again).await.expect("a session");
        second.welcome().await.expect("welcomed");
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        let delta = second.delta().await.expect("the change");
        let keys: Vec<&str> = delta.upserts.iter().map(|upsert| upsert.key.as_str()).collect();
        assert_eq!((delta.complete, keys), (false, vec!["endpoints/same-hash/istio-pilot"]));
        drop(second);

        // A hash of something else is no base for anything.
        lanes[0].hash = vec![7; 16];
        let other = v1::Hello {
            lanes: vec![lanes[0].clone()],
            connection: 3,
            ..hello("boot", 1)
        };
        let mut third = mesh.scripted_agent("same-hash-0", other).await.expect("a session");
        third.welcome().await.expect("welcomed");
        for _ in 0..2 {
            let delta = third.delta().await.expect("a snapshot of each lane");
            assert!(delta.complete, "{delta:?}");
            third.accept(&delta).await.expect("sent");
        }
    });
}

#[test]
fn both_ends_drain_on_sigterm_and_exit_with_zero() {
    run(async {
        let mut mesh = Mesh::start("drain").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        assert_eq!(mesh.terminate_hub().await, 0);
        assert_eq!(mesh.remote_mut(0).terminate_agent().await, 0);
        assert_eq!(
            mesh.remote(0)
                .addresses("istio-pilot")
                .await
                .into_iter()
                .collect::<Vec<_>>(),
            ["10.1.0.1"],
            "what was there stays"
        );
    });
}
