//! Builders for the tests of the status modules: one remote with a service, its endpoints and an injected namespace,
//! connected and settled until a test says otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use remote_istio::lane::{Nack, NackReason};
use remote_istio::model::{Applied, ApplyState, Body, Key, Lane, Object, ServiceIntent, Snapshot, Version};

use super::allowed::Judgement;
use super::compute;
use super::conditions::{stored, time};
use super::facts::Facts;
use super::identity::Identity;
use crate::crd::{FINALIZER, RemoteIstio, RemoteIstioSpec, RemoteIstioStatus, Revocation};
use crate::index::{Desired, Problem, ServiceDesired};
use crate::lifecycle::Ruling;
use crate::registry::Conflict;
use crate::report::{CertificateReport, LaneReport, SessionEpoch, SessionReport};

/// Name of the replica that tests run as.
pub(super) const REPLICA: &str = "hub-0";

/// When the session opened, seconds since 1970.
pub(super) const CONNECTED_AT: i64 = 1_700_000_000;

pub(super) fn pilot() -> Key {
    Key::endpoints("istio-system", "istio-pilot")
}

pub(super) fn pilot_service() -> Key {
    Key::service("istio-system", "istio-pilot")
}

pub(super) fn injection() -> Key {
    Key::injection("default")
}

/// Everything there is to know of one remote.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) remote: RemoteIstio,
    pub(super) desired: Option<Desired>,
    pub(super) session: Option<SessionReport>,
    pub(super) disconnected_at: Option<i64>,
    pub(super) revoked: Option<Revocation>,
    pub(super) conflict: Option<Conflict>,
    /// Of the last session, where none stands.
    pub(super) last_certificate: Option<CertificateReport>,
}

impl World {
    /// Generation 1, agent connected, everything accepted and applied.
    pub(super) fn settled() -> Self {
        let desired = desired(1);
        Self {
            remote: remote(1),
            session: Some(settled_session(&desired)),
            desired: Some(desired),
            disconnected_at: None,
            revoked: None,
            conflict: None,
            last_certificate: None,
        }
    }

    /// Just created: no agent has ever come.
    pub(super) fn created() -> Self {
        Self {
            session: None,
            ..Self::settled()
        }
    }

    /// Settled, then the agent went away at `at`.
    pub(super) fn lost(at: i64) -> Self {
        let mut world = Self::settled();
        world.store(CONNECTED_AT);
        world.last_certificate = world.session.take().map(|session| session.certificate);
        world.disconnected_at = Some(at);
        world
    }

    /// Settled, with our finalizer, then deleted by a user; the index has seen it, the agent has not.
    pub(super) fn deleting() -> Self {
        let mut world = Self::settled();
        world.remote.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        world.store(CONNECTED_AT);
        world.remote.metadata.deletion_timestamp = Some(time(CONNECTED_AT + 50));
        world.remote.metadata.generation = Some(2);
        world.desired = Some(Desired {
            deleting: true,
            deletion: Some(Ruling::Withdrawn),
            lanes: Lane::ALL.map(|lane| (lane, snapshot([]))).into(),
            services: Vec::new(),
            ..desired(2)
        });
        world
    }

    pub(super) fn status(&self, now_unix: i64) -> RemoteIstioStatus {
        self.status_by(REPLICA, now_unix)
    }

    pub(super) fn status_by(&self, replica: &str, now_unix: i64) -> RemoteIstioStatus {
        let (session, before) = (self.session.as_ref(), self.remote.status.as_ref());
        let (mut judgement, facts) = (Judgement::default(), self.facts());
        judgement.update(session, before, "istio-system", facts.desired);
        compute::status(&facts.with_judgement(&judgement), replica, now_unix)
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        let (desired, session) = (self.desired.as_ref(), self.session.as_ref());
        Facts::new(&self.remote, desired, session, self.disconnected_at, self.identity())
    }

    pub(super) fn identity(&self) -> Identity<'_> {
        let of_session = self.session.as_ref().map(|session| session.certificate);
        Identity {
            revoked: self.revoked.as_ref(),
            conflict: self.conflict.as_ref(),
            certificate: of_session.or(self.last_certificate),
        }
    }

    pub(super) fn revoke(&mut self, reason: &str) {
        self.revoked = Some(Revocation {
            at: time(CONNECTED_AT + 60),
            reason: reason.to_owned(),
        });
    }

    /// Stores what is known now.
    pub(super) fn store(&mut self, now_unix: i64) {
        self.remote.status = Some(self.status(now_unix));
    }

    pub(super) fn session(&mut self) -> &mut SessionReport {
        self.session.as_mut().expect("this world has a session")
    }

    /// The agent reports this of an object.
    pub(super) fn report(&mut self, key: &Key, state: ApplyState, detail: &str) {
        let version = self.desired.as_ref().and_then(|desired| version(desired, key));
        let applied = Applied {
            version,
            state,
            detail: detail.to_owned(),
            addresses: 0,
            replicas: None,
        };
        Arc::make_mut(&mut self.session().applied).insert(key.clone(), applied);
    }

    pub(super) fn refuse(&mut self, key: Key, reason: NackReason, detail: &str) {
        let detail = detail.to_owned();
        self.session().refused.push(Nack { key, reason, detail });
    }

    pub(super) fn problem(&mut self, reason: &'static str, field: &str, message: &str, fatal: bool) {
        let problem = Problem {
            reason,
            field: field.to_owned(),
            message: message.to_owned(),
            fatal,
        };
        self.desired
            .as_mut()
            .expect("this world is computed")
            .problems
            .push(problem);
    }

    /// The agent has accepted the removal of everything; what it says of its objects comes from the test.
    pub(super) fn accept_removal(&mut self) {
        let uid_and_generation = Some(("u1".to_owned(), 2));
        self.session().desired = uid_and_generation;
        self.session().lanes = lanes(true);
    }
}

pub(super) fn remote(generation: i64) -> RemoteIstio {
    let mut remote = RemoteIstio::new("remote-1", RemoteIstioSpec::default());
    remote.metadata.namespace = Some("istio-system".to_owned());
    remote.metadata.uid = Some("u1".to_owned());
    remote.metadata.resource_version = Some("10".to_owned());
    remote.metadata.generation = Some(generation);
    remote
}

pub(super) fn desired(generation: i64) -> Desired {
    let endpoints = Object::new(7, None, Body::Endpoints(remote_istio::model::EndpointSet::default()));
    let service = Object::new(7, None, Body::Service(ServiceIntent::default()));
    let injected = Object::new(7, None, Body::Injection);
    Desired {
        uid: "u1".to_owned(),
        generation,
        deleting: false,
        deletion: None,
        lanes: BTreeMap::from([
            (Lane::Endpoints, snapshot([(pilot(), endpoints)])),
            (
                Lane::Config,
                snapshot([(pilot_service(), service), (injection(), injected)]),
            ),
        ]),
        problems: Vec::new(),
        services: vec![ServiceDesired {
            key: pilot(),
            addresses: 3,
        }],
        mesh_ca: None,
        tombstone: None,
    }
}

/// Desires these on the config lane, and nothing else there; nothing is reported of them.
pub(super) fn with_objects<const N: usize>(world: &mut World, objects: [(Key, Object); N]) {
    let desired = world.desired.as_mut().expect("this world is computed");
    desired.lanes.insert(Lane::Config, snapshot(objects));
}

pub(super) fn settled_session(desired: &Desired) -> SessionReport {
    let applied = [(pilot(), 3), (pilot_service(), 0), (injection(), 0)].map(|(key, addresses)| {
        let applied = Applied {
            version: version(desired, &key),
            state: ApplyState::Applied,
            detail: String::new(),
            addresses,
            replicas: None,
        };
        (key, applied)
    });
    SessionReport {
        epoch: SessionEpoch {
            start: 5,
            connection: 2,
        },
        connected_at: CONNECTED_AT,
        address: "192.0.2.7:4711".to_owned(),
        agent_release: "0.1.0".to_owned(),
        kubernetes_version: "v1.37.2".to_owned(),
        cluster_uid: "c1".to_owned(),
        claimed: true,
        desired: Some((desired.uid.clone(), desired.generation)),
        lanes: lanes(true),
        applied: Arc::new(applied.into()),
        refused: Vec::new(),
        backlog: 0,
        clock_skew_milliseconds: 12,
        certificate: CertificateReport {
            not_before: CONNECTED_AT - 900,
            not_after: CONNECTED_AT + 1_000_000_000,
        },
        trust_epoch: Some(1),
        trust_failure: String::new(),
        policy: None,
    }
}

pub(super) fn lanes(in_sync: bool) -> BTreeMap<Lane, LaneReport> {
    let pending = usize::from(!in_sync);
    Lane::ALL.map(|lane| (lane, LaneReport { in_sync, pending })).into()
}

fn snapshot<const N: usize>(objects: [(Key, Object); N]) -> Arc<Snapshot> {
    let objects = objects.map(|(key, object)| (key, Arc::new(object)));
    Arc::new(Snapshot::new(objects.into(), false))
}

fn version(desired: &Desired, key: &Key) -> Option<Version> {
    let object = desired.lanes.get(&key.lane())?.objects().get(key)?;
    Some(object.version)
}

pub(super) fn condition<'a>(status: &'a RemoteIstioStatus, kind: &str) -> &'a Condition {
    stored(Some(status), kind).unwrap_or_else(|| panic!("no condition {kind} in {status:?}"))
}

/// Each condition's type, status and reason.
pub(super) fn outline(status: &RemoteIstioStatus) -> Vec<(&str, &str, &str)> {
    status
        .conditions
        .iter()
        .map(|condition| {
            (
                condition.type_.as_str(),
                condition.status.as_str(),
                condition.reason.as_str(),
            )
        })
        .collect()
}
