//! What an agent holds after a restart, from the slices and records it finds.
//!
//! The slices win where they are newer: a kept copy never replaces a newer slice. Whatever is found is guarded; whether
//! its version may be claimed is another question, and the answer is no as soon as there is a doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use remote_istio::model::{Body, Endpoint, EndpointSet, Key, Lane, Object, Port, Version};

use super::kept::{self, Kept};
use super::observed::Observed;
use super::packing::Packed;
use super::record::{Inventory, Record};
use super::state::State;
use super::surroundings::Surroundings;
use super::{ObjectName, Resource, Settings, names, render};

/// What was found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// By key.
    pub states: BTreeMap<Key, State>,
    /// Lanes whose versions must not be claimed.
    pub unknown: BTreeSet<Lane>,
    /// Records that do not read, and why.
    pub unreadable: BTreeMap<ObjectName, String>,
}

/// Recovers every key from what the first lists showed.
#[must_use]
pub fn recover(settings: &Settings, observed: &Observed) -> Recovered {
    let mut recovered = Recovered::default();
    let mut records = BTreeMap::new();
    let mut slices: BTreeMap<Key, Vec<(Packed, Kept)>> = BTreeMap::new();
    for (name, resource) in observed.iter().filter(|(_, resource)| observed.is_owned(resource)) {
        match resource {
            Resource::ConfigMap(map) if name.name.starts_with("remote-istio-") => match Record::read(settings, map) {
                Ok(record) => {
                    records.insert(record.key.clone(), record);
                }
                Err(error) => {
                    recovered.unknown.insert(lane_of(name));
                    recovered.unreadable.insert(name.clone(), error.to_string());
                }
            },
            Resource::EndpointSlice(slice) => {
                let found = slices_key(slice.metadata.labels.as_ref(), &name.namespace);
                if let Some((key, read)) = found.and_then(|key| Some((key, render::read_slice(slice)?))) {
                    slices.entry(key).or_default().push(read);
                }
            }
            _ => {}
        }
    }
    let keys: BTreeSet<Key> = records.keys().chain(slices.keys()).cloned().collect();
    for key in keys {
        let found = recover_key(
            settings,
            &key,
            records.remove(&key),
            &slices.remove(&key).unwrap_or_default(),
        );
        if let Some(state) = found {
            if !state.removed && state.release != settings.release {
                recovered.unknown.insert(key.lane());
            }
            recovered.states.insert(key, state);
        }
    }
    recovered
}

fn lane_of(record: &ObjectName) -> Lane {
    if record.name.starts_with("remote-istio-endpoints-") {
        Lane::Endpoints
    } else {
        Lane::Config
    }
}

fn slices_key(labels: Option<&BTreeMap<String, String>>, namespace: &str) -> Option<Key> {
    Some(Key::endpoints(namespace, labels?.get(names::SERVICE_NAME)?))
}

fn recover_key(settings: &Settings, key: &Key, record: Option<Record>, slices: &[(Packed, Kept)]) -> Option<State> {
    let newest = slices.iter().map(|(_, kept)| kept.sequence).max().unwrap_or_default();
    let inventory = record
        .as_ref()
        .map(|record| record.inventory.clone())
        .unwrap_or_default();
    let state = match record {
        Some(record) if slices.is_empty() || record.sequence > newest => from_record(record, slices),
        record => match (whole(key, slices, &inventory), record) {
            (Some((found, slices)), _) => State {
                slices,
                ..State::new(found)
            },
            (None, Some(record)) if record.sequence == newest => from_record(record, slices),
            (None, _) => {
                let (found, slices) = as_they_are(key, slices, inventory)?;
                State {
                    slices,
                    ..State::new(found)
                }
            }
        },
    };
    Some(guarded(settings, state))
}

/// Restores what the record holds, in the slices there are as far as they fit.
fn from_record(record: Record, slices: &[(Packed, Kept)]) -> State {
    let mut state = State::new(record);
    if !state.removed {
        let port_sets = state
            .object
            .endpoints()
            .map(|set| set.port_sets.clone())
            .unwrap_or_default();
        let indexed = |(packed, kept): &(Packed, Kept)| {
            let packed = indexed(packed, &port_sets).unwrap_or_else(|| packed.clone());
            (packed, kept.clone())
        };
        let previous: Vec<(Packed, Kept)> = slices.iter().map(indexed).collect();
        state.lay_out(&previous);
    }
    state
}

/// What the slices hold together, if that is what the newest of them says they do.
fn whole(key: &Key, slices: &[(Packed, Kept)], inventory: &Inventory) -> Option<(Record, Vec<(Packed, Kept)>)> {
    let (first, newest) = slices.iter().max_by_key(|(_, kept)| kept.sequence)?;
    let port_sets = match &newest.port_sets {
        Some(port_sets) => kept::read_port_sets(port_sets)?,
        None => vec![first.ports.clone()],
    };
    let slices: Vec<(Packed, Kept)> = slices
        .iter()
        .map(|(packed, kept)| Some((indexed(packed, &port_sets)?, kept.clone())))
        .collect::<Option<_>>()?;
    let set = EndpointSet {
        endpoints: union(&slices),
        port_sets,
    };
    if kept::checksum(&set) != newest.checksum {
        return None;
    }
    Some((record_of(key, newest, &newest.release, set, inventory.clone())?, slices))
}

/// What the slices hold together, whatever version that is: guarded, and never claimed.
fn as_they_are(key: &Key, slices: &[(Packed, Kept)], inventory: Inventory) -> Option<(Record, Vec<(Packed, Kept)>)> {
    let (_, newest) = slices.iter().max_by_key(|(_, kept)| kept.sequence)?;
    let distinct: BTreeSet<Vec<Port>> = slices.iter().map(|(packed, _)| packed.ports.clone()).collect();
    let port_sets: Vec<Vec<Port>> = distinct.into_iter().collect();
    let slices: Vec<(Packed, Kept)> = slices
        .iter()
        .filter_map(|(packed, kept)| Some((indexed(packed, &port_sets)?, kept.clone())))
        .collect();
    let set = EndpointSet {
        endpoints: union(&slices),
        port_sets,
    };
    Some((record_of(key, newest, "", set, inventory)?, slices))
}

fn record_of(key: &Key, kept: &Kept, release: &str, set: EndpointSet, inventory: Inventory) -> Option<Record> {
    let version = Version::from_hex(&kept.version)?;
    Some(Record {
        key: key.clone(),
        object: Arc::new(Object::received(version, kept.position, Body::Endpoints(set))),
        removed: false,
        orphaned: false,
        source: kept.source.clone(),
        release: release.to_owned(),
        sequence: kept.sequence,
        inventory,
    })
}

fn union(slices: &[(Packed, Kept)]) -> BTreeMap<IpAddr, Endpoint> {
    slices.iter().flat_map(|(packed, _)| packed.endpoints.clone()).collect()
}

/// The slice with the place of its ports among the set's; nothing if they are not there.
fn indexed(packed: &Packed, port_sets: &[Vec<Port>]) -> Option<Packed> {
    let place = if port_sets.is_empty() && packed.ports.is_empty() {
        0
    } else {
        port_sets.iter().position(|ports| *ports == packed.ports)?
    };
    let mut packed = packed.clone();
    packed.port_set = u32::try_from(place).ok()?;
    for endpoint in packed.endpoints.values_mut() {
        endpoint.port_set = packed.port_set;
    }
    Some(packed)
}

/// From here on a difference is drift, for everything that is known to have been made.
fn guarded(settings: &Settings, mut state: State) -> State {
    let made: Vec<ObjectName> = state
        .inventory
        .iter()
        .filter(|(_, uid)| uid.is_some())
        .map(|(name, _)| name.clone())
        .collect();
    state.render(settings, &Surroundings::default());
    for name in made {
        state.progress(&name).settled = true;
    }
    state
}
