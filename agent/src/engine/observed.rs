//! What the watches and the answers to writes say the remote holds.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Kind, NamespaceLabels, ObjectName, Resource, names};

/// Everything observed, by name. Of foreign objects only who they are.
#[derive(Debug)]
pub struct Observed {
    objects: BTreeMap<ObjectName, Resource>,
    owner: String,
}

impl Resource {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        let (kind, metadata) = match self {
            Self::Namespace(namespace) => return names::namespace(&namespace.name),
            Self::MutatingWebhook(object) => (Kind::MutatingWebhook, &object.metadata),
            Self::Deployment(object) => (Kind::Deployment, &object.metadata),
            Self::Service(object) => (Kind::Service, &object.metadata),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.metadata),
            Self::Endpoints(object) => (Kind::Endpoints, &object.metadata),
            Self::ConfigMap(object) => (Kind::ConfigMap, &object.metadata),
        };
        let namespace = metadata.namespace.clone().unwrap_or_default();
        ObjectName {
            kind,
            namespace,
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Its metadata; a namespace has none here.
    #[must_use]
    pub fn metadata(&self) -> Option<&ObjectMeta> {
        match self {
            Self::Namespace(_) => None,
            Self::MutatingWebhook(object) => Some(&object.metadata),
            Self::Deployment(object) => Some(&object.metadata),
            Self::Service(object) => Some(&object.metadata),
            Self::EndpointSlice(object) => Some(&object.metadata),
            Self::Endpoints(object) => Some(&object.metadata),
            Self::ConfigMap(object) => Some(&object.metadata),
        }
    }

    fn metadata_mut(&mut self) -> Option<&mut ObjectMeta> {
        match self {
            Self::Namespace(_) => None,
            Self::MutatingWebhook(object) => Some(&mut object.metadata),
            Self::Deployment(object) => Some(&mut object.metadata),
            Self::Service(object) => Some(&mut object.metadata),
            Self::EndpointSlice(object) => Some(&mut object.metadata),
            Self::Endpoints(object) => Some(&mut object.metadata),
            Self::ConfigMap(object) => Some(&mut object.metadata),
        }
    }

    /// Its UID, empty before it has one.
    #[must_use]
    pub fn uid(&self) -> &str {
        match self {
            Self::Namespace(namespace) => &namespace.uid,
            _ => self
                .metadata()
                .and_then(|metadata| metadata.uid.as_deref())
                .unwrap_or_default(),
        }
    }

    /// The same, under this UID: applied so, it is refused when another object has taken the name.
    #[must_use]
    pub fn with_uid(mut self, uid: &str) -> Self {
        if let Some(metadata) = self.metadata_mut() {
            metadata.uid = Some(uid.to_owned());
        }
        self
    }

    /// Order of writes, where the API server's opaque text is a number, as it always has been.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.metadata()?.resource_version.as_deref()?.parse().ok()
    }

    fn only_identity(&mut self) {
        let Some(metadata) = self.metadata_mut() else { return };
        let kept = ObjectMeta {
            name: metadata.name.take(),
            namespace: metadata.namespace.take(),
            uid: metadata.uid.take(),
            resource_version: metadata.resource_version.take(),
            deletion_timestamp: metadata.deletion_timestamp.take(),
            labels: owner_labels(metadata.labels.take()),
            ..ObjectMeta::default()
        };
        match self {
            Self::Namespace(_) => {}
            Self::MutatingWebhook(object) => **object = MutatingWebhookConfiguration::default(),
            Self::Deployment(object) => **object = Deployment::default(),
            Self::Service(object) => **object = Service::default(),
            Self::EndpointSlice(object) => **object = EndpointSlice::default(),
            Self::Endpoints(object) => **object = Endpoints::default(),
            Self::ConfigMap(object) => **object = ConfigMap::default(),
        }
        if let Some(metadata) = self.metadata_mut() {
            *metadata = kept;
        }
    }
}

/// Of a stranger's labels only those that say whose it is.
fn owner_labels(labels: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let mut labels = labels?;
    labels.retain(|label, _| names::OWNER_LABELS.contains(&label.as_str()));
    (!labels.is_empty()).then_some(labels)
}

impl Observed {
    /// Nothing observed yet, by this owner.
    #[must_use]
    pub fn new(owner: String) -> Self {
        Self {
            objects: BTreeMap::new(),
            owner,
        }
    }

    /// Takes note of an object, unless something newer is known of it: an echo of an older write is no news.
    /// Says whether it was news.
    pub fn put(&mut self, mut resource: Resource) -> bool {
        let name = resource.name();
        if let (Some(known), Some(new)) = (
            self.objects.get(&name).and_then(Resource::revision),
            resource.revision(),
        ) && new < known
        {
            return false;
        }
        if let Some(metadata) = resource.metadata_mut() {
            metadata.managed_fields = None;
        }
        if !self.is_owned(&resource) {
            resource.only_identity();
        }
        if self.objects.get(&name) == Some(&resource) {
            return false;
        }
        self.objects.insert(name, resource);
        true
    }

    /// It is gone. Says whether that is news.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.objects.remove(name).is_some()
    }

    /// What is known of it.
    #[must_use]
    pub fn get(&self, name: &ObjectName) -> Option<&Resource> {
        self.objects.get(name)
    }

    /// Whether an object carries this agent's labels.
    #[must_use]
    pub fn is_owned(&self, resource: &Resource) -> bool {
        resource
            .metadata()
            .is_some_and(|metadata| names::carries_owner(metadata, &self.owner))
    }

    /// Whether an object carries the label of another agent.
    #[must_use]
    pub fn is_anothers(&self, resource: &Resource) -> bool {
        let labels = resource.metadata().and_then(|metadata| metadata.labels.as_ref());
        labels
            .and_then(|labels| labels.get(names::OWNER))
            .is_some_and(|owner| *owner != self.owner)
    }

    /// A namespace, if it is there.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&NamespaceLabels> {
        match self.objects.get(&names::namespace(name)) {
            Some(Resource::Namespace(namespace)) => Some(namespace),
            _ => None,
        }
    }

    /// Everything, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectName, &Resource)> {
        self.objects.iter()
    }
}
