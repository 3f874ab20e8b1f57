//! One `RemoteIstio` and what its remote should hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::model::{Body, Key, Lane, Object, Snapshot};

use super::compute::{Entry, NOTHING};
use super::desired::nothing;
use super::intent::Intent;
use super::namespace::Namespace;
use super::trust::Trust;
use super::{Desired, Problem, RemoteView, ServiceDesired};
use crate::crd::{DeletionPolicy, RELEASE_GUARD_ANNOTATION, RemoteIstioSpec};
use crate::lifecycle::{Ruling, Tombstone};

/// A remote in the index.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) view: RemoteView,
    /// As last read; `None`: it never could be.
    pub(super) intent: Option<Intent>,
    /// Those of the intent, with what is followed for them.
    pub(super) services: Vec<AttachedService>,
    pub(super) desired: Arc<Desired>,
    /// The lanes as they were last known: what cannot be computed stays as it is here.
    pub(super) held: Lanes,
    /// As last read.
    pub(super) lifecycle: Lifecycle,
    /// What becomes of its deletion; nothing while nobody has deleted it.
    pub(super) deletion: Option<Ruling>,
    /// Of an earlier `RemoteIstio` of the name, whose agent may still hold what that one asked for.
    pub(super) tombstone: Option<Arc<Tombstone>>,
    /// What the mesh CA can do for it, where its intent wants that.
    pub(super) trust: Trust,
}

/// What the spec says of its own life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifecycle {
    /// Nothing that changes is sent.
    pub(super) paused: bool,
    /// What stands in the remote stays there when it is deleted.
    pub(super) orphans: bool,
}

impl Lifecycle {
    pub(super) fn of(spec: &RemoteIstioSpec) -> Self {
        Self {
            paused: spec.paused == Some(true),
            orphans: spec.deletion_policy == Some(DeletionPolicy::Orphan),
        }
    }
}

/// What to hold, per lane.
pub(super) type Lanes = BTreeMap<Lane, Arc<Snapshot>>;

/// One enabled service of a remote.
#[derive(Debug)]
pub(super) struct AttachedService {
    /// Where in the spec it stands.
    pub(super) field: String,
    /// Of its endpoints.
    pub(super) key: Key,
    /// `None`: it never could be read.
    pub(super) entry: Option<Arc<Entry>>,
}

/// Why a remote is put together anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something it depends on has changed, and says itself when.
    Source,
    /// Its own `RemoteIstio`, seen at this time.
    RemoteIstio(u64),
}

impl Remote {
    /// Puts together what the remote should hold. `listed`: the `RemoteIstio`s have been listed once.
    /// Returns whether anything is different from before.
    pub(super) fn assemble(&mut self, namespaces: &BTreeMap<String, Namespace>, listed: bool, cause: Cause) -> bool {
        let metadata = &self.view.object.metadata;
        let deleting = self.is_withdrawn();
        let paused = !deleting && (self.lifecycle.paused || self.deletion == Some(Ruling::Kept));
        let mut problems = Vec::new();
        let mut lanes = match &self.intent {
            _ if deleting => nothing(self.lifecycle.orphans),
            intent if paused => {
                problems.extend(intent.iter().flat_map(|intent| intent.problems.iter().cloned()));
                self.held.clone()
            }
            Some(intent) => {
                problems.extend(intent.problems.iter().cloned());
                self.lanes(intent, namespaces, cause, &mut problems)
            }
            None => Lanes::new(),
        };
        let known = listed && self.is_listed(namespaces) && (!self.wants_trust() || self.trust.is_known());
        if !known && !deleting && !paused {
            lanes.clear();
        }
        if let Some(error) = self.view.broken.as_ref().filter(|_| !deleting) {
            problems = vec![unreadable(error)];
        }
        problems.extend(self.tombstone.as_deref().filter(|_| !deleting).map(unburied));
        for (lane, snapshot) in &mut lanes {
            if let Some(before) = self.held.get(lane).filter(|before| *before == snapshot) {
                *snapshot = Arc::clone(before);
            }
        }
        let desired = Desired {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            deleting,
            deletion: self.deletion.clone(),
            services: self.services_desired(&lanes),
            tombstone: None,
            lanes: lanes.clone(),
            problems,
            mesh_ca: self.wants_trust().then(|| self.trust.state.clone()),
        };
        self.held.extend(lanes);
        let changed = *self.desired != desired;
        if changed {
            self.desired = Arc::new(desired);
        }
        changed
    }

    /// It is being deleted, and nothing holds that.
    fn is_withdrawn(&self) -> bool {
        self.deletion == Some(Ruling::Withdrawn)
    }

    /// Whether the mesh CA concerns it.
    pub(super) fn wants_trust(&self) -> bool {
        !self.is_withdrawn() && self.intent.as_ref().is_some_and(|intent| intent.wants_trust)
    }

    /// What is followed for one enabled service.
    pub(super) fn entry(&self, namespace: &str, name: &str) -> Option<&Entry> {
        let key = Key::endpoints(namespace, name);
        let service = self.services.iter().find(|service| service.key == key)?;
        service.entry.as_deref()
    }

    fn is_listed(&self, namespaces: &BTreeMap<String, Namespace>) -> bool {
        let entries = self.services.iter().filter_map(|service| service.entry.as_ref());
        entries
            .map(|entry| namespaces.get(&entry.namespace))
            .all(|namespace| namespace.is_some_and(Namespace::is_listed))
    }

    fn lanes(
        &self,
        intent: &Intent,
        namespaces: &BTreeMap<String, Namespace>,
        cause: Cause,
        problems: &mut Vec<Problem>,
    ) -> Lanes {
        let mut lanes: BTreeMap<Lane, BTreeMap<Key, Arc<Object>>> =
            Lane::ALL.map(|lane| (lane, BTreeMap::new())).into();
        let mut hold = |key: Key, object: Option<&Arc<Object>>| {
            if let Some(object) = self.chosen(&key, object, cause) {
                lanes.entry(key.lane()).or_default().insert(key, object);
            }
        };
        for service in &self.services {
            let entry = service.entry.as_ref();
            let computed = entry.and_then(|entry| namespaces.get(&entry.namespace)?.computed(entry));
            let computed = computed.unwrap_or(&NOTHING);
            hold(service.key.clone(), computed.endpoints.as_ref());
            hold(service_key(&service.key), computed.service.as_ref());
            problems.extend(computed.problems.iter().map(|fault| Problem {
                reason: fault.reason,
                field: service.field.clone(),
                message: fault.message.clone(),
                fatal: true,
            }));
        }
        let injection = Arc::new(Object::new(0, None, Body::Injection));
        for namespace in &intent.injections {
            hold(Key::injection(namespace), Some(&injection));
        }
        for wanted in &intent.components {
            hold(wanted.key.clone(), wanted.object.as_ref());
        }
        if let Some((key, trust)) = self.trust.object.as_ref().filter(|_| intent.wants_trust) {
            hold(key.clone(), Some(trust));
        }
        let released = self.is_released();
        let orphaned = self.tombstone.as_ref().is_some_and(|tombstone| tombstone.orphans());
        let snapshot = |(lane, objects)| {
            let snapshot = Snapshot::new(objects, released);
            let snapshot = if orphaned { snapshot.orphaning() } else { snapshot };
            (lane, Arc::new(snapshot))
        };
        lanes.into_iter().map(snapshot).collect()
    }

    /// What is held under `key` from now on: as it was, where the content is the same or unknown. What changes for
    /// this remote alone was caused by its `RemoteIstio`, not by what the content came from.
    fn chosen(&self, key: &Key, object: Option<&Arc<Object>>, cause: Cause) -> Option<Arc<Object>> {
        let lane = self.held.get(&key.lane());
        let held = lane.and_then(|lane| lane.objects().get(key));
        match (object, held, cause) {
            (None, held, _) => held.cloned(),
            (Some(object), Some(held), _) if held.version == object.version => Some(Arc::clone(held)),
            (Some(object), _, Cause::RemoteIstio(at)) if lane.is_some() => {
                let mut stamped = Object::clone(object);
                stamped.caused_at = Some(at);
                Some(Arc::new(stamped))
            }
            (Some(object), ..) => Some(Arc::clone(object)),
        }
    }

    /// A person has let the removals of this generation through the guard, or deleted what stood there before it.
    fn is_released(&self) -> bool {
        if self.tombstone.is_some() {
            return true;
        }
        let metadata = &self.view.object.metadata;
        let annotation = metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(RELEASE_GUARD_ANNOTATION));
        annotation.and_then(|text| text.trim().parse().ok()) == Some(metadata.generation.unwrap_or_default())
    }

    fn services_desired(&self, lanes: &Lanes) -> Vec<ServiceDesired> {
        let objects = lanes.get(&Lane::Endpoints).map(|snapshot| snapshot.objects());
        let desired = |service: &AttachedService| {
            let key = service.key.clone();
            let set = objects.and_then(|objects| objects.get(&key)?.endpoints());
            let addresses = set.map_or(0, |set| u32::try_from(set.endpoints.len()).unwrap_or(u32::MAX));
            ServiceDesired { key, addresses }
        };
        self.services.iter().map(desired).collect()
    }
}

fn service_key(endpoints: &Key) -> Key {
    Key::service(endpoints.namespace(), endpoints.name().unwrap_or_default())
}

fn unburied(tombstone: &Tombstone) -> Problem {
    let becomes = if tombstone.orphans() {
        ", and what is removed is let go of, not deleted"
    } else {
        ""
    };
    Problem {
        reason: "TombstoneStands",
        field: "metadata.name".to_owned(),
        message: format!(
            "RemoteIstio {} of this name was let go while its remote was away; until the agent holds all that this one asks \
             for, no guard holds removals back{becomes}",
            tombstone.uid
        ),
        fatal: false,
    }
}

fn unreadable(error: &str) -> Problem {
    Problem {
        reason: "InvalidSpec",
        field: "spec".to_owned(),
        message: format!("the resource cannot be read: {error}; correct it, the remote goes on as it was read last"),
        fatal: true,
    }
}
