use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::identity::RemoteName;
use remote_istio::lane::{Nack, NackReason};
use remote_istio::model::{Applied, ApplyState, Key, Lane, Snapshot};
use serde_json::json;

use super::*;
use crate::crd::{
    Component, DeletionPolicy, EnabledService, RemoteIstio, RemoteIstioSpec, RemoteIstioStatus, ServiceStatus,
};
use crate::index::Desired;
use crate::report::{CertificateReport, LaneReport, SessionEpoch, SessionReport};

const SECOND: u64 = 1_000_000_000;

fn name() -> RemoteName {
    RemoteName::new("remote-1").expect("a DNS label")
}

fn tombstone() -> Tombstone {
    Tombstone {
        uid: "u1".to_owned(),
        generation: 2,
        deletion_policy: DeletionPolicy::Delete,
        cluster_uid: "c1".to_owned(),
        at: "2026-11-25T09:00:00Z".to_owned(),
        replica: "hub-0".to_owned(),
        keys: vec!["injection/default".to_owned()],
        further_keys: 0,
    }
}

/// What the agent is to hold by the tombstone.
fn after() -> Desired {
    Desired::after(Arc::new(tombstone()))
}

/// What the agent is to hold by another resource of the name.
fn anew(uid: &str) -> Desired {
    let empty = Arc::new(Snapshot::new(BTreeMap::new(), true));
    Desired {
        uid: uid.to_owned(),
        generation: 1,
        lanes: Lane::ALL.map(|lane| (lane, Arc::clone(&empty))).into(),
        ..Desired::default()
    }
}

/// A session that speaks of `desired` and has accepted all of it.
fn session(desired: &Desired) -> SessionReport {
    let in_sync = LaneReport {
        in_sync: true,
        pending: 0,
    };
    SessionReport {
        epoch: SessionEpoch {
            start: 1,
            connection: 1,
        },
        connected_at: 0,
        address: "192.0.2.7:1".to_owned(),
        agent_release: "0.1.0".to_owned(),
        kubernetes_version: "v1.36.0".to_owned(),
        cluster_uid: "c1".to_owned(),
        claimed: true,
        desired: Some((desired.uid.clone(), desired.generation)),
        lanes: Lane::ALL.map(|lane| (lane, in_sync.clone())).into(),
        applied: Arc::default(),
        refused: Vec::new(),
        backlog: 0,
        clock_skew_milliseconds: 0,
        certificate: CertificateReport {
            not_before: 0,
            not_after: 1,
        },
        trust_epoch: None,
        trust_failure: String::new(),
        policy: None,
    }
}

fn names(session: &mut SessionReport, state: ApplyState) {
    let applied = Applied {
        version: None,
        state,
        detail: String::new(),
        addresses: 0,
        replicas: None,
    };
    Arc::make_mut(&mut session.applied).insert(Key::injection("default"), applied);
}

fn decide(grave: &mut Grave, desired: Option<&Desired>, session: Option<&SessionReport>, now: u64) -> Outcome {
    grave.decide(&tombstone(), desired, session, now)
}

#[test]
fn tombstone_stays_until_the_agent_came_back_and_let_go_of_everything() {
    let (mut grave, desired) = (Grave::default(), after());
    assert_eq!(decide(&mut grave, Some(&desired), None, 0), Outcome::Stays, "away");
    let mut back = session(&desired);
    names(&mut back, ApplyState::Forbidden);
    assert_eq!(
        decide(&mut grave, Some(&desired), Some(&back), 1),
        Outcome::Stays,
        "one is left"
    );
    back.applied = Arc::default();
    let closed = Outcome::Closes(Closed::CleanedUp);
    assert_eq!(decide(&mut grave, Some(&desired), Some(&back), 2), closed);
}

#[test]
fn agent_that_names_nothing_must_be_quiet_before_the_tombstone_goes() {
    let (mut grave, desired) = (Grave::default(), after());
    let back = session(&desired);
    let quiet = Outcome::At(15 * SECOND);
    assert_eq!(decide(&mut grave, Some(&desired), Some(&back), 0), quiet);
    assert_eq!(decide(&mut grave, Some(&desired), Some(&back), 14 * SECOND), quiet);
    let closed = Outcome::Closes(Closed::CleanedUp);
    assert_eq!(decide(&mut grave, Some(&desired), Some(&back), 15 * SECOND), closed);
}

#[test]
fn new_resource_of_the_name_takes_the_tombstone_away_once_all_of_it_is_accepted() {
    type Change = fn(&mut SessionReport);
    let cases: [(&str, &str, Change, Outcome); 6] = [
        ("accepted", "u2", |_| {}, Outcome::Closes(Closed::Replaced)),
        ("the very one, not gone yet", "u1", |_| {}, Outcome::Stays),
        (
            "nothing sent yet",
            "u2",
            |session| session.desired = None,
            Outcome::Stays,
        ),
        (
            "another cluster's agent, unclaimed",
            "u2",
            |session| session.claimed = false,
            Outcome::Stays,
        ),
        (
            "a lane behind",
            "u2",
            |session| {
                session.lanes.insert(Lane::Config, LaneReport::default());
            },
            Outcome::Stays,
        ),
        (
            "held by the guard",
            "u2",
            |session| {
                session.refused.push(Nack {
                    key: Key::injection("default"),
                    reason: NackReason::GuardHeld,
                    detail: String::new(),
                });
            },
            Outcome::Stays,
        ),
    ];
    for (what, uid, change, expected) in cases {
        let desired = anew(uid);
        let mut session = session(&desired);
        change(&mut session);
        let outcome = decide(&mut Grave::default(), Some(&desired), Some(&session), 60 * SECOND);
        assert_eq!(outcome, expected, "{what}");
    }
}

#[test]
fn agent_of_another_cluster_is_none_of_its_business() {
    let desired = after();
    for (cluster, concerns) in [("c1", true), ("c2", false), ("", false)] {
        assert_eq!(desired.concerns(cluster), concerns, "{cluster}");
    }
    let unknown = Tombstone {
        cluster_uid: String::new(),
        ..tombstone()
    };
    assert!(
        Desired::after(Arc::new(unknown)).concerns("c2"),
        "not known whose it was"
    );
    assert!(
        anew("u2").concerns("c2"),
        "a resource of today is for whoever bears the name"
    );
}

#[test]
fn tombstone_names_what_spec_and_status_know_of() {
    let mut remote = RemoteIstio::new(
        "remote-1",
        RemoteIstioSpec {
            enabled_services: vec![EnabledService {
                name: "istio-pilot".to_owned(),
                ..EnabledService::default()
            }],
            auto_injection_namespaces: vec!["default".to_owned()],
            citadel: Some(Component::default()),
            deletion_policy: Some(DeletionPolicy::Orphan),
            ..RemoteIstioSpec::default()
        },
    );
    remote.metadata = ObjectMeta {
        namespace: Some("istio-system".to_owned()),
        uid: Some("u1".to_owned()),
        generation: Some(4),
        ..remote.metadata
    };
    remote.status = Some(RemoteIstioStatus {
        services: vec![ServiceStatus {
            name: "zipkin".to_owned(),
            namespace: "other".to_owned(),
            ..ServiceStatus::default()
        }],
        ..RemoteIstioStatus::default()
    });
    let written = Tombstone::of(&remote, "c1", "hub-0", "2026-11-25T09:00:00Z".to_owned());
    let keys = [
        "endpoints/istio-system/istio-pilot",
        "endpoints/other/zipkin",
        "service/istio-system/istio-pilot",
        "service/other/zipkin",
        "injection/default",
        "mesh/istio-system",
        "citadel/istio-system",
    ];
    let expected = Tombstone {
        deletion_policy: DeletionPolicy::Orphan,
        generation: 4,
        keys: keys.map(str::to_owned).to_vec(),
        ..tombstone()
    };
    assert_eq!(written, expected);
    assert!(written.orphans());
    assert_eq!(
        written.told(),
        "endpoints/istio-system/istio-pilot, endpoints/other/zipkin, service/istio-system/istio-pilot, \
         service/other/zipkin, injection/default and 2 more"
    );
}

#[test]
fn tombstone_of_a_large_remote_counts_what_it_does_not_name() {
    let remote = RemoteIstio::new(
        "remote-1",
        RemoteIstioSpec {
            auto_injection_namespaces: (0..100).map(|number| format!("n{number}")).collect(),
            ..RemoteIstioSpec::default()
        },
    );
    let written = Tombstone::of(&remote, "", "hub-0", String::new());
    assert_eq!((written.keys.len(), written.further_keys), (40, 60));
    assert!(written.told().ends_with(" and 95 more"), "{}", written.told());
    assert!(written.to_text().len() < 4_096, "many fit into one object");
}

#[test]
fn tombstone_for_which_little_room_is_left_names_no_keys() {
    let others = |bytes: usize| BTreeMap::from([("remote-2".to_owned(), "x".repeat(bytes))]);
    let written = |bytes| store::entry_text(&others(bytes), &name(), &tombstone());
    assert_eq!(written(700 * 1024), tombstone().to_text());
    let short = Tombstone {
        keys: Vec::new(),
        further_keys: 1,
        ..tombstone()
    };
    assert_eq!(written(800 * 1024), short.to_text());
    assert_eq!(short.told(), "1 in all, not named here");
    let its_own = BTreeMap::from([("remote-1".to_owned(), "x".repeat(900 * 1024))]);
    let over_it = store::entry_text(&its_own, &name(), &tombstone());
    assert_eq!(
        over_it,
        tombstone().to_text(),
        "what it takes the place of does not count"
    );
}

#[test]
fn entry_reads_as_it_was_written_and_what_does_not_read_tells_nobody_anything() {
    let data = [
        ("remote-1", tombstone().to_text()),
        ("remote-2", "{}".to_owned()),
        ("remote-3", r#"{"uid":"","generation":1}"#.to_owned()),
        ("Remote_4", tombstone().to_text()),
        (
            "remote-5",
            r#"{"uid":"u5","generation":1,"ofALaterRelease":true}"#.to_owned(),
        ),
    ];
    let data = data.map(|(name, text)| (name.to_owned(), text)).into();
    let (read, unread) = super::tombstone::read(&data);
    let uids: Vec<_> = read
        .iter()
        .map(|(name, read)| (name.as_str(), read.uid.as_str()))
        .collect();
    assert_eq!(uids, [("remote-1", "u1"), ("remote-5", "u5")]);
    assert_eq!(read[&name()], tombstone());
    let names: Vec<&str> = unread.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Remote_4", "remote-2", "remote-3"]);
}

#[test]
fn entry_is_written_only_over_the_object_that_was_read() {
    let read = ObjectMeta {
        uid: Some("m1".to_owned()),
        resource_version: Some("41".to_owned()),
        ..ObjectMeta::default()
    };
    let metadata = json!({"uid": "m1", "resourceVersion": "41"});
    for text in [Some("text"), None] {
        let expected = json!({"metadata": metadata, "data": {"remote-1": text}});
        assert_eq!(store::entry_body(&read, &name(), text), expected);
    }
}
