//! The addresses behind one enabled service, and what turns one set of them into another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Canonical, Version};

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// Reads the spelling of Kubernetes; nothing else is a protocol.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
    }
}

/// One port of a service or of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Empty when it is the only one.
    pub name: String,
    /// 1 to 65535.
    pub number: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// As in Kubernetes, empty when unset.
    pub app_protocol: String,
}

/// The ports that a group of endpoints listens on, in the order the service names them.
pub type PortSet = Vec<Port>;

/// One address with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Takes traffic.
    pub ready: bool,
    /// Index into the set's `port_sets`; 0 when there are none.
    pub port_set: u32,
    /// Istio network, empty when flat.
    pub network: String,
    /// Topology zone, empty when unknown.
    pub zone: String,
    /// Relative share, 0 when unweighted.
    pub weight: u32,
}

impl Endpoint {
    /// A ready endpoint of the flat network with the set's first ports.
    #[must_use]
    pub fn ready() -> Self {
        Self {
            ready: true,
            port_set: 0,
            network: String::new(),
            zone: String::new(),
            weight: 0,
        }
    }
}

/// All addresses behind one enabled service. An empty set is a value: nothing is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// By address, so that order never matters and no address stands twice.
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
    /// Endpoints refer to these by index. More than one only where a named target port differs between pods.
    pub port_sets: Vec<PortSet>,
}

/// Turns the set a receiver holds into another, address by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPatch {
    /// Added or changed.
    pub upserts: BTreeMap<IpAddr, Endpoint>,
    /// Gone.
    pub removals: BTreeSet<IpAddr>,
}

/// A patch that does not fit the set it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchMismatch {
    /// Removes an address that is not there.
    #[error("the patch removes {0}, which the set does not hold")]
    Missing(IpAddr),
    /// Adds an address whose ports the set does not have.
    #[error("the patch gives {0} ports that the set does not have")]
    PortSet(IpAddr),
}

impl EndpointSet {
    pub(super) fn canonical(&self, canonical: Canonical) -> Canonical {
        let canonical = self
            .port_sets
            .iter()
            .fold(canonical.number(self.port_sets.len() as u64), |canonical, ports| {
                hash_ports(canonical, ports)
            });
        self.endpoints.iter().fold(canonical, |canonical, (address, endpoint)| {
            let canonical = match address {
                IpAddr::V4(v4) => canonical.bytes(&v4.octets()),
                IpAddr::V6(v6) => canonical.bytes(&v6.octets()),
            };
            canonical
                .number(u64::from(endpoint.ready))
                .number(u64::from(endpoint.port_set))
                .text(&endpoint.network)
                .text(&endpoint.zone)
                .number(u64::from(endpoint.weight))
        })
    }

    /// The version this content has when it is sent as an endpoint set.
    #[must_use]
    pub fn version(&self) -> Version {
        self.canonical(Canonical::new("endpoints")).version()
    }

    /// What turns `self` into `next`; nothing when the ports differ, since a patch carries none.
    #[must_use]
    pub fn patch_to(&self, next: &Self) -> Option<EndpointPatch> {
        if self.port_sets != next.port_sets {
            return None;
        }
        let changed = |(address, endpoint): &(&IpAddr, &Endpoint)| self.endpoints.get(*address) != Some(*endpoint);
        let upserts = next
            .endpoints
            .iter()
            .filter(changed)
            .map(|(address, endpoint)| (*address, endpoint.clone()))
            .collect();
        let removals = self
            .endpoints
            .keys()
            .filter(|address| !next.endpoints.contains_key(*address))
            .copied()
            .collect();
        Some(EndpointPatch { upserts, removals })
    }

    /// The set after `patch`.
    ///
    /// # Errors
    /// The patch was made for another set.
    pub fn patched(&self, patch: &EndpointPatch) -> Result<Self, PatchMismatch> {
        let mut next = self.clone();
        for address in &patch.removals {
            next.endpoints.remove(address).ok_or(PatchMismatch::Missing(*address))?;
        }
        for (address, endpoint) in &patch.upserts {
            if !self.has_port_set(endpoint.port_set) {
                return Err(PatchMismatch::PortSet(*address));
            }
            next.endpoints.insert(*address, endpoint.clone());
        }
        Ok(next)
    }

    /// Whether an endpoint may refer to this index: one of the sets, or 0 when there are none.
    #[must_use]
    pub fn has_port_set(&self, index: u32) -> bool {
        (index as usize) < self.port_sets.len().max(1)
    }
}

pub(super) fn hash_ports(canonical: Canonical, ports: &[Port]) -> Canonical {
    ports
        .iter()
        .fold(canonical.number(ports.len() as u64), |canonical, port| {
            canonical
                .text(&port.name)
                .number(u64::from(port.number))
                .text(port.protocol.as_str())
                .text(&port.app_protocol)
        })
}
