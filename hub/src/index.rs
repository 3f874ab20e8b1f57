//! From central's pods, Services and `RemoteIstio`s to what each remote should hold. Pure: no clock, no I/O.
//!
//! Equal enabled services of all remotes are computed once; a change costs only what it touches. Times (`at`) are
//! nanoseconds on the hub's monotonic clock when the event was seen, positions are resourceVersions.

mod components;
mod compute;
mod deletions;
mod desired;
mod gone;
mod intent;
mod namespace;
mod notation;
mod placement;
mod remote;
mod selector;
#[cfg(test)]
mod tests;
mod trust;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remote_istio::identity::RemoteName;
use remote_istio::model::Key;

use self::gone::Gone;
use self::intent::Intent;
use self::namespace::Namespace;
use self::remote::{AttachedService, Cause, Lifecycle, Remote};
use self::trust::Trust;
use crate::crd::RemoteIstio;
use crate::lifecycle::{Ruling, Rulings};

pub use desired::{Desired, MeshCaState, Problem, ServiceDesired};
pub use selector::{Selector, SelectorError};
pub use view::{NamedPort, PodView, PortView, RemoteView, ServiceView, Target};

/// The remotes a change concerns.
pub type Touched = BTreeSet<RemoteName>;

/// What the index is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the `RemoteIstio`s live; the namespace of an enabled service that names none.
    pub namespace: String,
    /// Namespaces of central whose pods and Services are watched.
    pub service_namespaces: BTreeSet<String>,
}

/// What each remote should hold.
#[derive(Debug)]
pub struct Index {
    settings: Settings,
    namespaces: BTreeMap<String, Namespace>,
    remotes: BTreeMap<RemoteName, Remote>,
    /// Of `RemoteIstio`s that were let go while their remotes were away.
    tombstones: BTreeMap<RemoteName, Gone>,
    /// What becomes of those that are being deleted.
    rulings: Rulings,
    remotes_listed: bool,
    trust: Trust,
}

impl Index {
    /// Knows nothing yet, and therefore publishes no lane.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let namespaces = settings.service_namespaces.iter();
        Self {
            namespaces: namespaces.map(|name| (name.clone(), Namespace::default())).collect(),
            settings,
            remotes: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            rulings: Rulings::new(),
            remotes_listed: false,
            trust: Trust::default(),
        }
    }

    /// All pods of one namespace, as of `position`. Whatever is not among them is gone.
    pub fn pods_listed(&mut self, namespace: &str, pods: Vec<PodView>, position: u64, at: u64) -> Touched {
        let pods = pods.into_iter().filter(|pod| pod.namespace == namespace).collect();
        self.list(namespace, |namespace| namespace.pods_listed(pods, position, at))
    }

    /// A pod is new or has changed.
    pub fn pod_applied(&mut self, pod: PodView, at: u64) -> Touched {
        let namespace = pod.namespace.clone();
        self.change(&namespace, |namespace| namespace.pod_applied(pod, at))
    }

    /// A pod is gone, as of `position`.
    pub fn pod_deleted(&mut self, namespace: &str, name: &str, position: u64, at: u64) -> Touched {
        self.change(namespace, |namespace| namespace.pod_deleted(name, position, at))
    }

    /// The watch of the pods of one namespace has come to `position`. It counts for what changes from now on.
    pub fn pods_reached(&mut self, namespace: &str, position: u64) {
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.pods_reached(position);
        }
    }

    /// The watch of the Services of one namespace has come to `position`. It counts for what changes from now on.
    pub fn services_reached(&mut self, namespace: &str, position: u64) {
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.services_reached(position);
        }
    }

    /// All Services of one namespace, as of `position`. Whatever is not among them is gone.
    pub fn services_listed(&mut self, namespace: &str, services: Vec<ServiceView>, position: u64, at: u64) -> Touched {
        let services = services
            .into_iter()
            .filter(|service| service.namespace == namespace)
            .collect();
        self.list(namespace, |namespace| namespace.services_listed(services, position, at))
    }

    /// A Service is new or has changed.
    pub fn service_applied(&mut self, service: ServiceView, at: u64) -> Touched {
        let namespace = service.namespace.clone();
        self.change(&namespace, |namespace| namespace.service_applied(service, at))
    }

    /// A Service is gone, as of `position`.
    pub fn service_deleted(&mut self, namespace: &str, name: &str, position: u64, at: u64) -> Touched {
        self.change(namespace, |namespace| namespace.service_deleted(name, position, at))
    }

    /// All `RemoteIstio`s. Whatever is not among them is gone.
    pub fn remotes_listed(&mut self, remotes: Vec<RemoteView>, at: u64) -> Touched {
        let is_first = !std::mem::replace(&mut self.remotes_listed, true);
        let named: Touched = remotes.iter().map(|view| view.remote.clone()).collect();
        let gone: Touched = self
            .remotes
            .keys()
            .filter(|name| !named.contains(*name))
            .cloned()
            .collect();
        let mut touched = Touched::new();
        if is_first {
            // Now it is known which of these names have no `RemoteIstio`.
            touched.extend(self.tombstones.keys().cloned());
        }
        for name in &gone {
            touched.extend(self.remote_deleted(name));
        }
        for view in remotes {
            touched.extend(self.remote_applied(view, at));
        }
        touched
    }

    /// A `RemoteIstio` is new or has changed. It counts as touched also when only its metadata or status differ.
    pub fn remote_applied(&mut self, view: RemoteView, at: u64) -> Touched {
        let name = view.remote.clone();
        let before = self.remotes.remove(&name);
        let unchanged = before.as_ref().is_some_and(|before| before.view == view);
        let mut remote = self.attach(view, before.as_ref(), at);
        let changed = remote.assemble(&self.namespaces, self.remotes_listed, Cause::RemoteIstio(at));
        self.remotes.insert(name.clone(), remote);
        if changed || !unchanged {
            Touched::from([name])
        } else {
            Touched::new()
        }
    }

    /// A `RemoteIstio` is gone.
    pub fn remote_deleted(&mut self, remote: &RemoteName) -> Touched {
        let Some(gone) = self.remotes.remove(remote) else {
            return Touched::new();
        };
        self.detach_all_but(&gone, &[]);
        Touched::from([remote.clone()])
    }

    /// What a remote should hold; nothing where there is no `RemoteIstio` of that name, and none that was let go while
    /// its remote was away.
    #[must_use]
    pub fn desired(&self, remote: &RemoteName) -> Option<Arc<Desired>> {
        match self.remotes.get(remote) {
            Some(remote) => Some(Arc::clone(&remote.desired)),
            None => self.desired_after(remote),
        }
    }

    /// The newest `RemoteIstio` as watched; with an empty spec where it could not be read.
    #[must_use]
    pub fn remote_object(&self, remote: &RemoteName) -> Option<Arc<RemoteIstio>> {
        self.remotes.get(remote).map(|remote| Arc::clone(&remote.view.object))
    }

    /// All remotes that have a `RemoteIstio`.
    pub fn remote_names(&self) -> impl Iterator<Item = &RemoteName> {
        self.remotes.keys()
    }

    /// Whether the `RemoteIstio`s have been listed once.
    #[must_use]
    pub fn remotes_known(&self) -> bool {
        self.remotes_listed
    }

    /// A list that may be the one a lane was waiting for.
    fn list(&mut self, namespace: &str, change: impl FnOnce(&mut Namespace) -> Touched) -> Touched {
        let Some(of_namespace) = self.namespaces.get_mut(namespace) else {
            return Touched::new();
        };
        let mut touched = change(of_namespace);
        let uses = |remote: &Remote| {
            remote
                .services
                .iter()
                .any(|service| service.key.namespace() == namespace)
        };
        let concerned = self.remotes.iter().filter(|(_, remote)| uses(remote));
        touched.extend(concerned.map(|(name, _)| name.clone()));
        self.assemble(touched)
    }

    /// Events of a namespace that is not watched concern nobody.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut Namespace) -> Touched) -> Touched {
        let touched = self.namespaces.get_mut(namespace).map(change).unwrap_or_default();
        self.assemble(touched)
    }

    fn assemble(&mut self, mut names: Touched) -> Touched {
        let (namespaces, remotes, listed) = (&self.namespaces, &mut self.remotes, self.remotes_listed);
        names.retain(|name| {
            let remote = remotes.get_mut(name);
            remote.is_some_and(|remote| remote.assemble(namespaces, listed, Cause::Source))
        });
        names
    }

    /// Reads the spec and asks for its enabled services before the old ones are let go, so that shared ones survive.
    /// What cannot be read goes on as it was read last.
    fn attach(&mut self, view: RemoteView, before: Option<&Remote>, at: u64) -> Remote {
        let metadata = &view.object.metadata;
        let same_object = |before: &&Remote| before.view.object.metadata.uid == metadata.uid;
        let earlier = before.filter(same_object);
        let deletion = self.ruling(&view);
        let intent = match view.broken {
            _ if deletion == Some(Ruling::Withdrawn) => Some(Intent::default()),
            Some(_) => earlier.and_then(|earlier| earlier.intent.clone()),
            None => Some(intent::read(&view.object.spec, &self.settings)),
        };
        let lifecycle = match (&view.broken, earlier) {
            (Some(_), Some(earlier)) => earlier.lifecycle,
            _ => Lifecycle::of(&view.object.spec),
        };
        let tombstone = self.earlier_than(&view.remote, metadata.uid.as_deref());
        let mut services = Vec::new();
        for wanted in intent.iter().flat_map(|intent| &intent.services) {
            let read_last = || earlier?.entry(&wanted.namespace, &wanted.name).cloned();
            let entry = wanted.entry.clone().or_else(read_last).and_then(|entry| {
                let namespace = self.namespaces.get_mut(&entry.namespace)?;
                Some(namespace.attach(entry, &view.remote, at))
            });
            services.push(AttachedService {
                field: wanted.field.clone(),
                key: Key::endpoints(&wanted.namespace, &wanted.name),
                entry,
            });
        }
        let held = earlier.map(|earlier| earlier.held.clone()).unwrap_or_default();
        let desired = before.map(|before| Arc::clone(&before.desired)).unwrap_or_default();
        if let Some(before) = before {
            self.detach_all_but(before, &services);
        }
        Remote {
            view,
            intent,
            services,
            desired,
            held,
            lifecycle,
            deletion,
            tombstone,
            trust: self.trust.clone(),
        }
    }

    fn detach_all_but(&mut self, remote: &Remote, kept: &[AttachedService]) {
        let kept: BTreeSet<_> = kept.iter().filter_map(|service| service.entry.as_ref()).collect();
        let entries = remote.services.iter().filter_map(|service| service.entry.as_ref());
        for entry in entries.filter(|entry| !kept.contains(entry)) {
            if let Some(namespace) = self.namespaces.get_mut(&entry.namespace) {
                namespace.detach(entry, &remote.view.remote);
            }
        }
    }
}
