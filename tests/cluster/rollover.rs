//! The CA of the link is replaced while remotes work, and while one of them is away.

use serde_json::Value;
use support::eventually::{eventually, seen};

use crate::mesh::{Mesh, Setup, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

fn roots(kept: &[u8]) -> usize {
    String::from_utf8_lossy(kept).matches("BEGIN CERTIFICATE").count()
}

/// Waits until a remote keeps so many roots.
async fn until_roots(mesh: &Mesh<'_>, index: usize, count: usize) {
    eventually(&format!("remote {index} trusts {count} roots"), || async {
        let kept = mesh.remote(index).kept().await;
        let now = roots(kept.get("ca.crt").map(Vec::as_slice).unwrap_or_default());
        seen(now == count, now).map_err(|now| format!("{now}:\n{}", mesh.agent_log(index)))
    })
    .await;
}

async fn epoch(mesh: &Mesh<'_>) -> Value {
    let shown = mesh.command(&["ca", "show", "--output", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["epoch"].clone()
}

/// Waits until the record of a remote says that it keeps this epoch.
async fn until_epoch(mesh: &Mesh<'_>, index: usize, epoch: &Value) {
    let name = mesh.remote_name(index);
    eventually(&format!("{name} keeps epoch {epoch}"), || async {
        let identity = mesh.identity(&name).await.unwrap_or_default();
        seen(identity["status"]["trustEpoch"] == *epoch, identity).map_err(|seen| format!("{seen}\n{}", mesh.hub_log()))
    })
    .await;
}

/// F43.
#[test]
fn ca_is_replaced_from_beginning_to_end_while_one_remote_is_away() {
    run(async {
        let mut mesh = Mesh::joinable("rollover", 2, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let first = mesh.join(0).await;
        mesh.join(1).await;
        for index in 0..2 {
            mesh.until_ready(index).await;
        }
        let old = epoch(&mesh).await;
        until_epoch(&mesh, 0, &old).await;
        until_epoch(&mesh, 1, &old).await;
        mesh.remote_mut(1).kill_agent().await;
        let log = mesh.remote(0).record("istio-pilot").await;
        let certificate = mesh.remote(0).until_certificate().await;
        let away = mesh.remote(1).until_certificate().await;

        // Out of order it is refused.
        mesh.refused_command(&["ca", "switch"]).await;
        mesh.refused_command(&["ca", "drop"]).await;

        mesh.command(&["ca", "begin"]).await;
        let new = epoch(&mesh).await;
        assert_ne!(new, old);
        until_roots(&mesh, 0, 2).await;
        until_epoch(&mesh, 0, &new).await;
        assert_eq!(
            mesh.remote(0).until_certificate().await,
            certificate,
            "the old one still signs"
        );
        let words = mesh.refused_command(&["ca", "begin"]).await;
        assert!(!words.is_empty());

        mesh.command(&["ca", "switch"]).await;
        mesh.remote(0).until_another_certificate(&certificate).await;
        mesh.until_sessions(1).await;
        let words = mesh.refused_command(&["ca", "drop"]).await;
        assert!(words.contains("rollover-1"), "{words}");

        // It comes back with what it had: an old certificate, and a hub that it knows only by the old root.
        mesh.start_agent(1).await;
        until_roots(&mesh, 1, 2).await;
        mesh.remote(1).until_another_certificate(&away).await;
        until_epoch(&mesh, 1, &new).await;

        mesh.drop_ca(&[]).await;
        until_roots(&mesh, 0, 1).await;
        until_roots(&mesh, 1, 1).await;
        let last = mesh.invite_as("rollover-9", &[]).await;
        assert_eq!(last.pins.len(), 1);
        assert_ne!(last.pins, first.pins);
        let kept = mesh.ca_secret().await.expect("there");
        assert_eq!(roots(&kept["ca.crt"]), 1, "the old root is gone");
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        for index in 0..2 {
            mesh.remote(index)
                .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"])
                .await;
        }
        assert!(
            log.history().iter().all(|set| set.contains("10.1.0.1")),
            "{:?}",
            log.history()
        );

        // And a restarted agent and hub know only the new one.
        mesh.remote_mut(0).kill_agent().await;
        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.start_agent(0).await;
        mesh.until_sessions(2).await;
    });
}

#[test]
fn ca_is_dropped_by_force_with_the_name_of_who_is_left_behind() {
    run(async {
        let mut mesh = Mesh::joinable("forced", 2, Setup::made()).await;
        mesh.join(0).await;
        mesh.join(1).await;
        mesh.remote_mut(1).kill_agent().await;
        let certificate = mesh.remote(0).until_certificate().await;
        mesh.command(&["ca", "begin"]).await;
        until_roots(&mesh, 0, 2).await;
        mesh.command(&["ca", "switch"]).await;
        mesh.remote(0).until_another_certificate(&certificate).await;
        let words = mesh.refused_command(&["ca", "drop", "--forget", "nobody"]).await;
        assert!(words.contains("nobody"), "{words}");
        mesh.drop_ca(&["--forget", "forced-1"]).await;
        until_roots(&mesh, 0, 1).await;
        let identity = mesh.identity("forced-1").await.expect("bound");
        assert!(identity["spec"]["revoked"]["at"].is_string(), "{identity}");
        // It knows the hub no longer, and the hub knows it no longer: it has to join anew.
        mesh.launch_agent(1).await;
        mesh.until_agent_logs(1, "signed by another CA").await;
        mesh.remote_mut(1).kill_agent().await;
        let invitation = mesh.invite(1).await;
        mesh.give(1, &invitation);
        mesh.start_agent(1).await;
        mesh.until_sessions(2).await;
    });
}
