//! One remote cannot read or write what is another's.

use std::collections::BTreeMap;

use remote_istio::wire::v1::{self, agent_frame};
use support::peer::hello;

use crate::mesh::{Mesh, run};

/// A report that an object is in somebody's way.
fn foreign(key: String, version: &[u8]) -> v1::Applied {
    v1::Applied {
        key,
        version: version.to_vec(),
        state: v1::ApplyState::Foreign.into(),
        detail: "made up by the neighbour".to_owned(),
        addresses: 99,
        replicas: None,
    }
}

/// F45.
#[test]
fn remote_sees_its_own_state_and_cannot_speak_for_another() {
    run(async {
        let mesh = Mesh::start("isolation").await;
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        let before = mesh.status(0).await;

        // The neighbour asks for another service, and that is all it gets.
        mesh.create_remote_istio_named("neighbour", &[("istio-policy", "istio=mixer")])
            .await;
        let opened = mesh.scripted_agent("neighbour", hello("neighbour", 1)).await;
        let mut neighbour = opened.expect("a session");
        neighbour.welcome().await.expect("welcomed");
        let mut sent = BTreeMap::new();
        for _lane in ["endpoints", "config"] {
            let delta = neighbour.delta().await.expect("a snapshot");
            neighbour.accept(&delta).await.expect("acknowledged");
            sent.extend(delta.upserts.into_iter().map(|upsert| (upsert.key, upsert.version)));
        }
        let namespace = mesh.namespace();
        let own = [
            format!("endpoints/{namespace}/istio-policy"),
            format!("service/{namespace}/istio-policy"),
        ];
        assert_eq!(sent.keys().cloned().collect::<Vec<_>>(), own);

        // It speaks of the other's objects, and of names that are none.
        let unread = mesh.hub_metric("unread_states_total", &[]).await;
        let version = &sent[&own[0]];
        let keys = [
            format!("endpoints/{namespace}/istio-pilot"),
            format!("service/{namespace}/istio-pilot"),
            format!("endpoints/{namespace}/../{namespace}/istio-pilot"),
            format!("{}/endpoints/{namespace}/istio-pilot", mesh.remote_name(0)),
            own[0].clone(),
        ];
        let entries = keys.into_iter().map(|key| foreign(key, version)).collect();
        let report = agent_frame::Frame::Status(v1::Status { entries });
        neighbour.send(report).await.expect("sent");

        // Its own word reaches its own status, in the same frame as the others.
        let told = |status: &serde_json::Value| status.to_string().contains("made up by the neighbour");
        let status = mesh
            .until_status_of("neighbour", "the neighbour's report stands in its own status", told)
            .await;
        assert!(!status.to_string().contains("istio-pilot"), "{status}");
        assert!((mesh.hub_metric("unread_states_total", &[]).await - unread - 2.0).abs() < f64::EPSILON);

        let after = mesh.status(0).await;
        for part in ["conditions", "services", "session", "Status", "ErrorMessage"] {
            assert_eq!(after[part], before[part], "{part} of the other remote");
        }
        assert!(!told(&after), "{after}");
    });
}
