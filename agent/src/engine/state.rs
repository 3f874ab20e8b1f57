//! One key: what was accepted, how it lies in objects of the remote, and how far each of them has come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use remote_istio::model::{Applied, Body, Endpoint, EndpointSet, Key, Object};

use super::components::{self, Templates};
use super::kept::{self, Extra, Kept};
use super::packing::{self, Packed};
use super::progress::Progress;
use super::record::{Inventory, Record};
use super::surroundings::{Stale, Surroundings};
use super::{Kind, ObjectName, Resource, Served, Settings, WriteId, names, render};

/// A record's copy of an endpoint set follows the last change by so much: it is off the hot path.
const RECORD_DELAY: u64 = 2_000_000_000;
/// However often the set changes, its copy is never older than this.
const RECORD_DELAY_MAX: u64 = 30_000_000_000;

/// One key in the agent's hands.
#[derive(Debug)]
pub struct State {
    /// The key.
    pub key: Key,
    /// What was accepted last; of a removed key, what it was.
    pub object: Arc<Object>,
    /// Its objects are to go.
    pub removed: bool,
    /// They stay where they are, and are nobody's.
    pub orphaned: bool,
    /// Why the remote's policy does not allow what is held; it is left as it stands.
    pub refused: Option<String>,
    /// Boot id of the hub it came from.
    pub source: String,
    /// Release of the agent that accepted it; empty when what is held may not be what the version says.
    pub release: String,
    /// Rises with each change.
    pub sequence: u64,
    /// A delta waits for this key to be kept.
    pub keeping: bool,
    /// The slices of an endpoint set with what each keeps.
    pub slices: Vec<(Packed, Kept)>,
    /// The objects it should have, slices first.
    pub wanted: Vec<(ObjectName, Arc<Resource>)>,
    /// The objects it has, or is about to have.
    pub inventory: Inventory,
    /// How far each has come; also the record and the namespace.
    pub progress: BTreeMap<ObjectName, Progress>,
    /// When the record is to be brought up to date, and the latest moment for it.
    pub record_due: Option<(u64, u64)>,
    /// The write in flight.
    pub in_flight: Option<(WriteId, ObjectName)>,
    /// Since when no pod of a component has been available.
    pub unavailable_since: Option<u64>,
    /// What the remote made of what was accepted last; nothing while that is not known.
    pub report: Option<Applied>,
}

impl State {
    /// A key as recovered or as accepted for the first time; [`Self::render`] completes it.
    #[must_use]
    pub fn new(record: Record) -> Self {
        let Record {
            key,
            object,
            removed,
            orphaned,
            source,
            release,
            sequence,
            inventory,
        } = record;
        Self {
            key,
            object,
            removed,
            orphaned,
            refused: None,
            source,
            release,
            sequence,
            keeping: false,
            slices: Vec::new(),
            wanted: Vec::new(),
            inventory,
            progress: BTreeMap::new(),
            record_due: None,
            in_flight: None,
            unavailable_since: None,
            report: None,
        }
    }

    /// The record of what is held.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            key: self.key.clone(),
            object: Arc::clone(&self.object),
            removed: self.removed,
            orphaned: self.orphaned,
            source: self.source.clone(),
            release: self.release.clone(),
            sequence: self.sequence,
            inventory: self.inventory.clone(),
        }
    }

    /// The progress of one object.
    pub fn progress(&mut self, name: &ObjectName) -> &mut Progress {
        self.progress.entry(name.clone()).or_default()
    }

    /// Takes new content. Says whether anything is new about it.
    pub fn accept(
        &mut self,
        settings: &Settings,
        surroundings: &Surroundings,
        object: Arc<Object>,
        source: &str,
        now: u64,
    ) -> bool {
        // What comes here was allowed a moment ago.
        self.refused = None;
        let same = self.object.version == object.version && self.object.body == object.body;
        if same && !self.removed && self.release == settings.release {
            return false;
        }
        self.object = object;
        self.orphaned = false;
        self.change(settings, source, false, now);
        let previous = self.slices.clone();
        self.lay_out(&previous);
        self.render(settings, surroundings);
        true
    }

    /// Lets the key go; `orphaned`: its objects stay. Says whether that is news.
    pub fn remove(&mut self, settings: &Settings, source: &str, orphaned: bool, now: u64) -> bool {
        if self.removed && self.orphaned == orphaned {
            return false;
        }
        self.orphaned = orphaned;
        self.change(settings, source, true, now);
        self.slices.clear();
        self.wanted.clear();
        true
    }

    fn change(&mut self, settings: &Settings, source: &str, removed: bool, now: u64) {
        self.removed = removed;
        source.clone_into(&mut self.source);
        self.release.clone_from(&settings.release);
        self.sequence += 1;
        self.report = None;
        self.defer_record(now);
    }

    /// The record is to follow, off the hot path.
    pub fn defer_record(&mut self, now: u64) {
        let latest = self.record_due.map_or(now + RECORD_DELAY_MAX, |(_, latest)| latest);
        self.record_due = Some((latest.min(now + RECORD_DELAY), latest));
    }

    /// Lays the accepted set out in slices, close to `previous`; what is touched keeps what was accepted last.
    pub fn lay_out(&mut self, previous: &[(Packed, Kept)]) {
        let Body::Endpoints(set) = &self.object.body else {
            return;
        };
        let before: Vec<Packed> = previous.iter().map(|(packed, _)| packed.clone()).collect();
        let packing = packing::pack(&self.key, &before, set);
        let mut touched = packing.touched;
        let stands: BTreeMap<&str, &Kept> = previous
            .iter()
            .map(|(packed, kept)| (packed.name.as_str(), kept))
            .collect();
        let first = packing.slices.first().map(|slice| slice.name.clone());
        // Slices only went, or nothing but the version changed: still one slice must keep it.
        let untouched = |touched: &BTreeSet<String>| !packing.slices.iter().any(|slice| touched.contains(&slice.name));
        if untouched(&touched) {
            touched.extend(first);
        }
        let fresh = self.kept(set);
        let with_kept = |packed: Packed| {
            let stays = stands
                .get(packed.name.as_str())
                .filter(|_| !touched.contains(&packed.name));
            let kept = stays.map_or_else(|| with_extra(&fresh, &packed), |kept| (*kept).clone());
            (packed, kept)
        };
        self.slices = packing.slices.into_iter().map(with_kept).collect();
    }

    fn kept(&self, set: &EndpointSet) -> Kept {
        Kept {
            version: self.object.version.to_string(),
            position: self.object.position,
            source: self.source.clone(),
            release: self.release.clone(),
            sequence: self.sequence,
            checksum: kept::checksum(set),
            port_sets: kept::write_port_sets(set),
            extra: BTreeMap::new(),
        }
    }

    /// Renders the objects the key should have. Those that come out as before keep their progress.
    pub fn render(&mut self, settings: &Settings, surroundings: &Surroundings) {
        let wanted = self.rendered(settings, surroundings);
        let before: BTreeMap<ObjectName, Arc<Resource>> = self.wanted.drain(..).collect();
        for (name, resource) in &wanted {
            if before.get(name) != Some(resource) {
                self.progress(name).renew();
            }
            // Announced by the next record, whichever comes first.
            self.inventory.entry(name.clone()).or_insert(None);
        }
        self.wanted = wanted;
    }

    fn rendered(&self, settings: &Settings, surroundings: &Surroundings) -> Vec<(ObjectName, Arc<Resource>)> {
        let resources: Vec<Resource> = match &self.object.body {
            _ if self.removed => Vec::new(),
            // Labels are no objects, and the trust's Secret is another task's: its keys never come here.
            Body::Injection | Body::Trust(_) | Body::Rules(_) => Vec::new(),
            Body::Mesh(_) | Body::Citadel(_) | Body::Injector(_) => {
                component(settings, surroundings, &self.object.body)
            }
            Body::Service(intent) => {
                vec![Resource::Service(Box::new(render::service(
                    settings, &self.key, intent,
                )))]
            }
            Body::Endpoints(set) => {
                let stale = surroundings.stale;
                // What a slice keeps is still what was accepted: a restarted agent knows it by the record.
                let slice = |(packed, kept): &(Packed, Kept)| {
                    let mut packed = packed.clone();
                    age(&mut packed.endpoints, stale);
                    Resource::EndpointSlice(Box::new(render::slice(settings, &self.key, &packed, kept)))
                };
                let slices = self.slices.iter().map(slice);
                let object = || {
                    let mut set = set.clone();
                    age(&mut set.endpoints, stale);
                    Resource::Endpoints(Box::new(render::endpoints(settings, &self.key, &set)))
                };
                slices.chain(settings.endpoints_objects.then(object)).collect()
            }
        };
        resources
            .into_iter()
            .map(|resource| (resource.name(), Arc::new(resource)))
            .collect()
    }

    /// Objects in the inventory that the key should not have (any more).
    #[must_use]
    pub fn leftovers(&self) -> Vec<ObjectName> {
        let wanted: BTreeSet<&ObjectName> = self.wanted.iter().map(|(name, _)| name).collect();
        self.inventory
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect()
    }

    /// Every object whose change concerns this key and whose name does not say so.
    pub fn names(&self, settings: &Settings) -> impl Iterator<Item = ObjectName> {
        let of_component = matches!(self.key, Key::Component { .. });
        let named = self
            .inventory
            .keys()
            .filter(move |name| of_component || name.kind == Kind::EndpointSlice)
            .cloned();
        named.chain([names::record(settings, &self.key)])
    }
}

/// The objects of a component, in the order in which they are made.
fn component(settings: &Settings, surroundings: &Surroundings, body: &Body) -> Vec<Resource> {
    let templates = Templates {
        settings,
        facts: &surroundings.facts,
        mesh: surroundings.mesh.as_ref(),
    };
    match body {
        Body::Mesh(mesh) => vec![Resource::ConfigMap(Box::new(templates.mesh(*mesh)))],
        Body::Citadel(citadel) => templates.citadel(citadel),
        Body::Injector(injector) => {
            let mut resources = templates.injector(injector);
            // Last, and only with what its pods' certificate was verified with.
            if let Served::Yes { ca_bundle } = &surroundings.facts.injector {
                let webhook = components::webhook(settings, surroundings.namespace_uid.as_deref(), ca_bundle);
                resources.push(Resource::MutatingWebhook(Box::new(webhook)));
            }
            resources
        }
        _ => Vec::new(),
    }
}

/// What is left of endpoints that nobody vouches for.
fn age(endpoints: &mut BTreeMap<IpAddr, Endpoint>, stale: Option<Stale>) {
    match stale {
        None => {}
        Some(Stale::Withdrawn) => endpoints.clear(),
        Some(Stale::NotReady) => endpoints.values_mut().for_each(|endpoint| endpoint.ready = false),
    }
}

fn with_extra(kept: &Kept, packed: &Packed) -> Kept {
    let extra = packed
        .endpoints
        .iter()
        .filter_map(|(address, endpoint)| Some((*address, Extra::of(endpoint)?)));
    Kept {
        extra: extra.collect(),
        ..kept.clone()
    }
}
