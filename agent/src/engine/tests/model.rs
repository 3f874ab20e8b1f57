//! A model of an API server: names, UIDs, revisions, apply as far as the engine relies on it, and faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::{Failure, Kind, NamespaceLabels, ObjectName, Outcome, Resource, Seen, Write, names};

/// The model.
#[derive(Default)]
pub struct Remote {
    pub objects: BTreeMap<ObjectName, Resource>,
    /// What the watches have still to say.
    pub events: Vec<Seen>,
    /// Every write that came, in order, whether it took effect or not.
    pub log: Vec<(ObjectName, &'static str)>,
    /// Writes of a kind fail so.
    pub failing: BTreeMap<Kind, Failure>,
    /// Writes of one object fail so.
    pub failing_object: BTreeMap<String, Failure>,
    /// The next apply of an object fails so, by name.
    pub failing_apply: BTreeMap<String, Failure>,
    count: u64,
}

fn metadata(resource: &mut Resource) -> Option<&mut ObjectMeta> {
    match resource {
        Resource::Namespace(_) => None,
        Resource::MutatingWebhook(object) => Some(&mut object.metadata),
        Resource::Deployment(object) => Some(&mut object.metadata),
        Resource::Service(object) => Some(&mut object.metadata),
        Resource::EndpointSlice(object) => Some(&mut object.metadata),
        Resource::Endpoints(object) => Some(&mut object.metadata),
        Resource::ConfigMap(object) => Some(&mut object.metadata),
    }
}

impl Remote {
    pub fn new() -> Self {
        let mut remote = Self::default();
        for name in ["istio-system", "default"] {
            remote.add_namespace(name, &[]);
        }
        remote
    }

    pub fn add_namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let uid = self.next().to_string();
        let labels = NamespaceLabels {
            name: name.to_owned(),
            uid,
            labels,
            ..NamespaceLabels::default()
        };
        self.put(Resource::Namespace(labels));
    }

    pub fn list(&self) -> Vec<Resource> {
        self.objects.values().cloned().collect()
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Stores as somebody else would: a new revision, the UID of what was there.
    pub fn put(&mut self, mut resource: Resource) -> Resource {
        let name = resource.name();
        let revision = self.next();
        let uid = self
            .objects
            .get(&name)
            .map_or(format!("uid-{revision}"), |found| found.uid().to_owned());
        if let Some(metadata) = metadata(&mut resource) {
            metadata.uid = Some(uid);
            metadata.resource_version = Some(revision.to_string());
        }
        self.objects.insert(name, resource.clone());
        self.events.push(Seen::Present(resource.clone()));
        resource
    }

    /// Deletes as somebody else would.
    pub fn delete(&mut self, name: &ObjectName) -> bool {
        self.next();
        let found = self.objects.remove(name).is_some();
        if found {
            self.events.push(Seen::Gone(name.clone()));
        }
        found
    }

    pub fn write(&mut self, write: &Write) -> Outcome {
        let (name, verb) = match write {
            Write::Create(resource) => (resource.name(), "create"),
            Write::Apply(resource) => (resource.name(), "apply"),
            Write::Delete { object, .. } => (object.clone(), "delete"),
            Write::Release { object, .. } => (object.clone(), "release"),
        };
        self.log.push((name.clone(), verb));
        let failing = self.failing.get(&name.kind).or(self.failing_object.get(&name.name));
        if let Some(failure) = failing {
            return Outcome::Failed(failure.clone());
        }
        if matches!(write, Write::Apply(_))
            && let Some(failure) = self.failing_apply.remove(&name.name)
        {
            return Outcome::Failed(failure);
        }
        match self.take_effect(&name, write) {
            Ok(answer) => Outcome::Done(answer),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    fn take_effect(&mut self, name: &ObjectName, write: &Write) -> Result<Option<Resource>, Failure> {
        let found = self.objects.get(name).cloned();
        match (write, found) {
            (Write::Create(_), Some(_)) => Err(Failure::AlreadyExists),
            (Write::Create(resource), None) => {
                if !name.namespace.is_empty() && !self.objects.contains_key(&names::namespace(&name.namespace)) {
                    return Err(Failure::NamespaceMissing(format!(
                        "namespace {} not found",
                        name.namespace
                    )));
                }
                Ok(Some(self.put(resource.clone())))
            }
            (_, None) => Err(Failure::NotFound),
            (Write::Release { uid, .. }, Some(mut found)) if found.uid() == uid => {
                if let Some(labels) = metadata(&mut found).and_then(|metadata| metadata.labels.as_mut()) {
                    labels.retain(|name, _| !names::OWNER_LABELS.contains(&name.as_str()));
                }
                Ok(Some(self.put(found)))
            }
            (Write::Delete { uid, .. }, Some(found)) if found.uid() == uid && has_finalizers(&found) => {
                let mut going = found;
                if let Some(metadata) = metadata(&mut going) {
                    metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
                }
                Ok(Some(self.put(going)))
            }
            (Write::Delete { uid, .. }, Some(found)) if found.uid() == uid => {
                self.delete(name);
                Ok(None)
            }
            (Write::Apply(Resource::Namespace(labels)), Some(Resource::Namespace(found))) => {
                self.label(labels, found).map(Some)
            }
            (Write::Apply(resource), Some(found)) if found.uid() == resource.uid() => {
                let merged = merge(resource.clone(), &found);
                if merged == found {
                    return Ok(Some(found));
                }
                Ok(Some(self.put(merged)))
            }
            _ => Err(Failure::Conflict("the UID differs".to_owned())),
        }
    }

    fn label(&mut self, wanted: &NamespaceLabels, mut found: NamespaceLabels) -> Result<Resource, Failure> {
        let strangers = |name: &String, value: &String| {
            found
                .labels
                .get(name)
                .is_some_and(|there| there != value && !found.owned_labels.contains(name))
        };
        if wanted.labels.iter().any(|(name, value)| strangers(name, value)) {
            return Err(Failure::Conflict("another manager holds the label".to_owned()));
        }
        // Labels a user set himself have two owners: giving ours up leaves his.
        let user_set = |name: &str| found.labels.contains_key(&format!("user-set-{name}"));
        let given_up: Vec<String> = found
            .owned_labels
            .iter()
            .filter(|name| !wanted.labels.contains_key(*name))
            .cloned()
            .collect();
        let removed: Vec<String> = given_up.into_iter().filter(|name| !user_set(name)).collect();
        found.labels.retain(|name, _| !removed.contains(name));
        found.labels.extend(wanted.labels.clone());
        found.owned_labels = wanted.labels.keys().cloned().collect();
        Ok(self.put(Resource::Namespace(found)))
    }

    pub fn slices(&self, service: &str) -> Vec<EndpointSlice> {
        let slice = |resource: &Resource| match resource {
            Resource::EndpointSlice(slice) => Some((**slice).clone()),
            _ => None,
        };
        let of_service = |slice: &EndpointSlice| {
            let labels = slice.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get(names::SERVICE_NAME))
                .is_some_and(|name| name == service)
        };
        self.objects.values().filter_map(slice).filter(of_service).collect()
    }

    /// What a client of the service resolves.
    pub fn addresses(&self, service: &str) -> Vec<IpAddr> {
        let slices = self.slices(service);
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let addresses: BTreeSet<IpAddr> = endpoints
            .flat_map(|endpoint| &endpoint.addresses)
            .map(|address| address.parse().unwrap())
            .collect();
        addresses.into_iter().collect()
    }

    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.objects
            .keys()
            .filter(|name| name.kind == kind)
            .map(|name| name.name.clone())
            .collect()
    }

    /// The writes since `start`, without those of records.
    pub fn writes_since(&self, start: usize) -> Vec<(Kind, &'static str)> {
        let writes = self.log[start..]
            .iter()
            .filter(|(name, _)| name.kind != Kind::ConfigMap);
        writes.map(|(name, verb)| (name.kind, *verb)).collect()
    }
}

fn has_finalizers(resource: &Resource) -> bool {
    let finalizers = resource.metadata().and_then(|metadata| metadata.finalizers.as_ref());
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

/// Fields of an apply over what is there: what others added beside them stays.
fn merge(mut resource: Resource, found: &Resource) -> Resource {
    let before = found.metadata().cloned().unwrap_or_default();
    if let Some(metadata) = metadata(&mut resource) {
        let mut labels = before.labels.unwrap_or_default();
        labels.extend(metadata.labels.take().unwrap_or_default());
        let mut annotations = before.annotations.unwrap_or_default();
        annotations.extend(metadata.annotations.take().unwrap_or_default());
        metadata.labels = Some(labels);
        metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        metadata.resource_version = before.resource_version;
        metadata.finalizers = before.finalizers;
        metadata.deletion_timestamp = before.deletion_timestamp;
        metadata.generation = before.generation;
    }
    if let (Resource::Deployment(deployment), Resource::Deployment(found)) = (&mut resource, found) {
        deployment.status.clone_from(&found.status);
    }
    if let (Resource::Service(service), Resource::Service(found)) = (&mut resource, found)
        && let (Some(spec), Some(found)) = (&mut service.spec, &found.spec)
        && spec.selector.is_none()
    {
        spec.selector.clone_from(&found.selector);
    }
    resource
}
