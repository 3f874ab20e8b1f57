//! One `RemoteIstio` and what its remote should hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::model::{Body, Key, Lane, Object, Snapshot};

use super::compute::{Entry, NOTHING};
use super::intent::Intent;
use super::namespace::Namespace;
use super::{Desired, Problem, RemoteView, ServiceDesired};
use crate::crd::RELEASE_GUARD_ANNOTATION;

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
        let deleting = metadata.deletion_timestamp.is_some();
        let mut problems = Vec::new();
        let mut lanes = match &self.intent {
            _ if deleting => Lanes::from(Lane::ALL.map(|lane| (lane, Arc::new(Snapshot::new(BTreeMap::new(), true))))),
            Some(intent) => {
                problems.extend(intent.problems.iter().cloned());
                self.lanes(intent, namespaces, cause, &mut problems)
            }
            None => Lanes::new(),
        };
        let known = listed && self.is_listed(namespaces);
        if !known && !deleting {
            lanes.clear();
        }
        if let Some(error) = self.view.broken.as_ref().filter(|_| !deleting) {
            problems = vec![unreadable(error)];
        }
        for (lane, snapshot) in &mut lanes {
            if let Some(before) = self.held.get(lane).filter(|before| *before == snapshot) {
                *snapshot = Arc::clone(before);
            }
        }
        let desired = Desired {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            deleting,
            services: self.services_desired(&lanes),
            lanes: lanes.clone(),
            problems,
        };
        self.held.extend(lanes);
        let changed = *self.desired != desired;
        if changed {
            self.desired = Arc::new(desired);
        }
        changed
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
        let released = self.is_released();
        let snapshot = |(lane, objects)| (lane, Arc::new(Snapshot::new(objects, released)));
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

    /// A person has let the removals of this generation through the guard.
    fn is_released(&self) -> bool {
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

fn unreadable(error: &str) -> Problem {
    Problem {
        reason: "InvalidSpec",
        field: "spec".to_owned(),
        message: format!("the resource cannot be read: {error}; correct it, the remote goes on as it was read last"),
        fatal: true,
    }
}
