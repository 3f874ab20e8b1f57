//! What goes into the engine and what comes out of it: watch events, answers to writes, writes. Pure types.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use remote_istio::wire::v1;

/// Kinds of objects the agent touches in the remote. In the order in which what is no longer wanted goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The injector's webhook: the first to go, so that it never stands without what answers it.
    MutatingWebhook,
    /// Pods of a component.
    Deployment,
    /// Headless services without selector, and those of components.
    Service,
    /// The written slices are the kept endpoints.
    EndpointSlice,
    /// For people who look there, as the seed's users do.
    Endpoints,
    /// Only ever labels of an existing one.
    Namespace,
    /// Records, what is kept of one key and its inventory; and the configuration of components.
    ConfigMap,
}

/// Names one object of the remote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Empty for what lies in none: namespaces and webhooks.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One object of the remote, as observed or as it should be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A webhook.
    MutatingWebhook(Box<MutatingWebhookConfiguration>),
    /// A deployment.
    Deployment(Box<Deployment>),
    /// A service.
    Service(Box<Service>),
    /// A slice.
    EndpointSlice(Box<EndpointSlice>),
    /// An `Endpoints` object.
    Endpoints(Box<Endpoints>),
    /// A namespace's labels.
    Namespace(NamespaceLabels),
    /// A record, or a component's configuration.
    ConfigMap(Box<ConfigMap>),
}

/// What the agent reads and writes of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceLabels {
    /// Name of the namespace.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Being deleted.
    pub terminating: bool,
    /// Observed: all labels. To write: exactly the labels this agent owns (none: give them up).
    pub labels: std::collections::BTreeMap<String, String>,
    /// Observed: labels whose field manager is this agent. Ignored on write.
    pub owned_labels: std::collections::BTreeSet<String>,
}

/// A change in the remote, seen by a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// There, with this content. Also for what a relist still holds.
    Present(Resource),
    /// Gone. Watches make these up for what a relist no longer holds.
    Gone(ObjectName),
}

/// One write to the remote's API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// POST: never merges into a foreign object.
    Create(Resource),
    /// Server-side apply under the agent's field manager. For a namespace without force, for the rest with;
    /// the owned UID stands in the body, so that a stranger of the same name is refused (409).
    Apply(Resource),
    /// DELETE with the UID as precondition.
    Delete {
        /// What.
        object: ObjectName,
        /// Precondition.
        uid: String,
    },
    /// The owner's labels are taken off an object, with its UID as precondition: it stays, and is nobody's.
    Release {
        /// What.
        object: ObjectName,
        /// Precondition.
        uid: String,
    },
}

/// Tells answers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done; the object as the API server now holds it, nothing after a delete.
    Done(Option<Resource>),
    /// Not done, or not known to be done.
    Failed(Failure),
}

/// Why a write failed. Texts are the API server's, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// POST: the name is taken.
    AlreadyExists,
    /// The object, on DELETE or apply, is not there (any more).
    NotFound,
    /// 409 of an apply or a delete: another UID, or (namespace) another field manager.
    Conflict(String),
    /// The namespace is missing or being deleted.
    NamespaceMissing(String),
    /// 403 by RBAC.
    Forbidden(String),
    /// Validation, quota, or an admission webhook.
    Rejected(String),
    /// Time-out, 429, 5xx, no connection: may or may not have taken effect; try again after a pause.
    Unavailable {
        /// For people.
        message: String,
        /// From `Retry-After`, milliseconds.
        retry_after_milliseconds: Option<u64>,
    },
}

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this and answer with [`super::Engine::written`]. Writes of one key come one at a time.
    Write(WriteId, Write),
    /// Send this to the hub, if the session still stands.
    Send(v1::agent_frame::Frame),
}
