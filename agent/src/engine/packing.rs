//! Packs an endpoint set into slices so that a change touches as few of them as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use remote_istio::limits;
use remote_istio::model::{Endpoint, EndpointSet, Key, Port};

use super::names;

/// One slice: addresses of one family that share their ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Name of the slice, for good: it says service, family and ordinal.
    pub name: String,
    /// Family of all its addresses.
    pub ipv6: bool,
    /// Index of its ports in the set's port sets.
    pub port_set: u32,
    /// The ports of all its addresses.
    pub ports: Vec<Port>,
    /// The addresses.
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
}

/// How a set lies in slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// The slices the set needs, in order of name.
    pub slices: Vec<Packed>,
    /// Names of those that differ from before, or are new.
    pub touched: BTreeSet<String>,
}

/// Packs `set`. Every address stays in the slice of `previous` it is in, a new one takes the first free place; slices
/// left without an address go, except that one slice always stays.
#[must_use]
pub fn pack(key: &Key, previous: &[Packed], set: &EndpointSet) -> Packing {
    let mut slices: Vec<Packed> = previous.iter().filter_map(|slice| retained(slice, set)).collect();
    let mut placed: BTreeSet<IpAddr> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.keys().copied())
        .collect();
    for (address, endpoint) in &set.endpoints {
        if placed.insert(*address) {
            place(key, previous, &mut slices, set, *address, endpoint);
        }
    }
    keep_one(key, previous, &mut slices, set);
    slices.sort_by(|one, other| one.name.cmp(&other.name));
    let before: BTreeMap<&str, &Packed> = previous.iter().map(|slice| (slice.name.as_str(), slice)).collect();
    let differs = |slice: &&Packed| before.get(slice.name.as_str()) != Some(slice);
    let touched = slices.iter().filter(differs).map(|slice| slice.name.clone()).collect();
    Packing { slices, touched }
}

fn ports_of(set: &EndpointSet, index: u32) -> Vec<Port> {
    set.port_sets.get(index as usize).cloned().unwrap_or_default()
}

/// The slice with the addresses that stay in it; nothing if its ports are no longer among the set's.
fn retained(slice: &Packed, set: &EndpointSet) -> Option<Packed> {
    // The hub may number its port sets anew: what counts is the ports themselves.
    let same_ports = set.port_sets.iter().position(|ports| *ports == slice.ports);
    let port_set = same_ports
        .and_then(|index| u32::try_from(index).ok())
        .or(Some(slice.port_set))?;
    if !set.has_port_set(port_set) {
        return None;
    }
    let stays = |address: &IpAddr| {
        set.endpoints
            .get_key_value(address)
            .filter(|(_, next)| next.port_set == port_set)
    };
    let endpoints = slice
        .endpoints
        .keys()
        .filter_map(stays)
        .map(|(address, next)| (*address, next.clone()))
        .collect();
    Some(Packed {
        name: slice.name.clone(),
        ipv6: slice.ipv6,
        port_set,
        ports: ports_of(set, port_set),
        endpoints,
    })
}

fn place(
    key: &Key,
    previous: &[Packed],
    slices: &mut Vec<Packed>,
    set: &EndpointSet,
    address: IpAddr,
    endpoint: &Endpoint,
) {
    let fits = |slice: &&mut Packed| {
        slice.ipv6 == address.is_ipv6()
            && slice.port_set == endpoint.port_set
            && slice.endpoints.len() < limits::ADDRESSES_PER_SLICE
    };
    if let Some(slice) = slices.iter_mut().find(fits) {
        slice.endpoints.insert(address, endpoint.clone());
        return;
    }
    let mut slice = fresh(key, previous, slices, set, address.is_ipv6(), endpoint.port_set);
    slice.endpoints.insert(address, endpoint.clone());
    slices.push(slice);
}

fn fresh(key: &Key, previous: &[Packed], slices: &[Packed], set: &EndpointSet, ipv6: bool, port_set: u32) -> Packed {
    let prefix = names::slice_prefix(key, ipv6);
    let taken: BTreeSet<&str> = previous.iter().chain(slices).map(|slice| slice.name.as_str()).collect();
    let name = (0..=taken.len())
        .map(|ordinal| format!("{prefix}{ordinal}"))
        .find(|name| !taken.contains(name.as_str()));
    let name = name.expect("more ordinals than slices");
    Packed {
        name,
        ipv6,
        port_set,
        ports: ports_of(set, port_set),
        endpoints: BTreeMap::new(),
    }
}

/// Drops the empty ones; of an empty set one stays, since a slice is what keeps it.
fn keep_one(key: &Key, previous: &[Packed], slices: &mut Vec<Packed>, set: &EndpointSet) {
    if slices.iter().any(|slice| !slice.endpoints.is_empty()) {
        slices.retain(|slice| !slice.endpoints.is_empty());
    } else {
        slices.truncate(1);
        if slices.is_empty() {
            let slice = fresh(key, previous, slices, set, false, 0);
            slices.push(slice);
        }
    }
}

#[cfg(test)]
mod tests;
