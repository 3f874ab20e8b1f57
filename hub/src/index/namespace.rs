//! One namespace of central: its pods, its Services, and the enabled services that look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remote_istio::identity::RemoteName;

use super::Touched;
use super::compute::{Computed, Entry, Moment, compute};
use super::view::{PodView, ServiceView};

/// What is known of one namespace. The parts are `None` until their first list.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pods: Option<BTreeMap<String, PodView>>,
    services: Option<BTreeMap<String, ServiceView>>,
    pods_position: u64,
    services_position: u64,
    sources: BTreeMap<Arc<Entry>, Source>,
}

/// One enabled service, with the remotes that hold it.
#[derive(Debug, Default)]
struct Source {
    remotes: BTreeSet<RemoteName>,
    computed: Option<Computed>,
}

impl Namespace {
    /// Whether both watches have finished their first list.
    pub(super) fn is_listed(&self) -> bool {
        self.pods.is_some() && self.services.is_some()
    }

    /// What became of an enabled service; nothing before [`Namespace::is_listed`].
    pub(super) fn computed(&self, entry: &Arc<Entry>) -> Option<&Computed> {
        self.sources.get(entry)?.computed.as_ref()
    }

    /// A remote wants `entry`. Returns the one of its kind to ask with from then on.
    pub(super) fn attach(&mut self, entry: Entry, remote: &RemoteName, at: u64) -> Arc<Entry> {
        let known = self.sources.get_key_value(&entry).map(|(known, _)| Arc::clone(known));
        let entry = known.unwrap_or_else(|| Arc::new(entry));
        let computed = self
            .computed(&entry)
            .cloned()
            .or_else(|| self.compute(&entry, at, None));
        let source = self.sources.entry(Arc::clone(&entry)).or_default();
        source.remotes.insert(remote.clone());
        source.computed = computed;
        entry
    }

    /// A remote no longer wants `entry`; forgotten with the last one.
    pub(super) fn detach(&mut self, entry: &Arc<Entry>, remote: &RemoteName) {
        if let Some(source) = self.sources.get_mut(entry) {
            source.remotes.remove(remote);
            if source.remotes.is_empty() {
                self.sources.remove(entry);
            }
        }
    }

    pub(super) fn pods_listed(&mut self, pods: Vec<PodView>, position: u64, at: u64) -> Touched {
        self.pods = Some(pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect());
        self.pods_position = position;
        self.recompute(at, |_, _| true)
    }

    pub(super) fn pod_applied(&mut self, pod: PodView, at: u64) -> Touched {
        self.pods_position = self.pods_position.max(pod.position);
        let Some(pods) = &mut self.pods else {
            return Touched::new();
        };
        let after = pod.clone();
        let before = pods.insert(pod.name.clone(), pod);
        if before.as_ref().is_some_and(|before| before.same_content(&after)) {
            return Touched::new();
        }
        self.pod_changed(before.iter().chain([&after]), at)
    }

    pub(super) fn pod_deleted(&mut self, name: &str, position: u64, at: u64) -> Touched {
        self.pods_position = self.pods_position.max(position);
        let before = self.pods.as_mut().and_then(|pods| pods.remove(name));
        self.pod_changed(before.iter(), at)
    }

    /// The watch has come so far, although nothing has changed here.
    pub(super) fn pods_reached(&mut self, position: u64) {
        self.pods_position = self.pods_position.max(position);
    }

    /// The watch has come so far, although nothing has changed here.
    pub(super) fn services_reached(&mut self, position: u64) {
        self.services_position = self.services_position.max(position);
    }

    /// Only a pod that took or takes traffic concerns anybody.
    fn pod_changed<'a>(&mut self, pods: impl Iterator<Item = &'a PodView>, at: u64) -> Touched {
        let counted: Vec<&PodView> = pods.filter(|pod| pod.counts()).collect();
        self.recompute(at, |entry, service| {
            counted.iter().any(|pod| entry.selects(service, &pod.labels))
        })
    }

    pub(super) fn services_listed(&mut self, services: Vec<ServiceView>, position: u64, at: u64) -> Touched {
        let by_name = |service: ServiceView| (service.name.clone(), service);
        self.services = Some(services.into_iter().map(by_name).collect());
        self.services_position = position;
        self.recompute(at, |_, _| true)
    }

    pub(super) fn service_applied(&mut self, service: ServiceView, at: u64) -> Touched {
        self.services_position = self.services_position.max(service.position);
        let Some(services) = &mut self.services else {
            return Touched::new();
        };
        let name = service.name.clone();
        services.insert(name.clone(), service);
        self.recompute(at, |entry, _| entry.name == name && entry.uses_service())
    }

    pub(super) fn service_deleted(&mut self, name: &str, position: u64, at: u64) -> Touched {
        self.services_position = self.services_position.max(position);
        if let Some(services) = &mut self.services {
            services.remove(name);
        }
        self.recompute(at, |entry, _| entry.name == name && entry.uses_service())
    }

    /// Computes the chosen enabled services anew. Returns the remotes of those that came out differently.
    fn recompute(&mut self, at: u64, chosen: impl Fn(&Entry, Option<&ServiceView>) -> bool) -> Touched {
        if !self.is_listed() {
            return Touched::new();
        }
        let mut touched = Touched::new();
        let mut sources = std::mem::take(&mut self.sources);
        for (entry, source) in &mut sources {
            if !chosen(entry, self.service(&entry.name)) {
                continue;
            }
            let computed = self.compute(entry, at, source.computed.as_ref());
            if source.computed != computed {
                source.computed = computed;
                touched.extend(source.remotes.iter().cloned());
            }
        }
        self.sources = sources;
        touched
    }

    fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services.as_ref()?.get(name)
    }

    fn compute(&self, entry: &Entry, at: u64, before: Option<&Computed>) -> Option<Computed> {
        let pods = self.pods.as_ref()?;
        let services = self.services.as_ref()?;
        let moment = Moment {
            pods: self.pods_position,
            services: self.services_position,
            at,
        };
        Some(compute(entry, pods.values(), services.get(&entry.name), moment, before))
    }
}
