//! The annotation that makes written slices what is kept of an endpoint set.
//!
//! Every change of a set writes the slices it touches with the next sequence and the checksum of the *whole* set as it
//! is once all of them are written. After a restart the set is known exactly when the union of its slices has the
//! checksum that the highest sequence speaks of: a change half written, a slice deleted or edited while nobody looked
//! all make it differ. The checksum is this release's own; a version is never recomputed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use remote_istio::model::{Endpoint, EndpointSet, Port, Protocol};
use serde::{Deserialize, Serialize};

/// What a slice says of the set it is part of, and what it cannot say in fields of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Version of the set, as the hub gave it, 32 hexadecimal digits.
    pub version: String,
    /// Position of the set.
    pub position: u64,
    /// Boot id of the hub it came from.
    pub source: String,
    /// Release of the agent that wrote it.
    pub release: String,
    /// Rises with each change of the set.
    pub sequence: u64,
    /// Checksum over the whole set at that sequence.
    pub checksum: String,
    /// All port sets, unless there is exactly one, which the slice's own ports are.
    #[serde(default, rename = "portSets", skip_serializing_if = "Option::is_none")]
    pub port_sets: Option<Vec<Vec<KeptPort>>>,
    /// Networks and weights by address, where one is set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<IpAddr, Extra>,
}

/// What a slice has no field for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// Istio network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// Relative share.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight: u32,
}

/// A port, as kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPort {
    name: String,
    number: u16,
    protocol: String,
    #[serde(default, rename = "appProtocol", skip_serializing_if = "String::is_empty")]
    app_protocol: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(weight: &u32) -> bool {
    *weight == 0
}

impl Kept {
    /// The annotation's value: compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with addresses as keys always serialize")
    }

    /// Reads the annotation's value; anything else is none.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Extra {
    /// What a slice cannot say of this endpoint, if anything.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Option<Self> {
        let extra = Self {
            network: endpoint.network.clone(),
            weight: endpoint.weight,
        };
        (extra != Self::default()).then_some(extra)
    }
}

impl KeptPort {
    fn of(port: &Port) -> Self {
        let Port {
            name,
            number,
            protocol,
            app_protocol,
        } = port.clone();
        Self {
            name,
            number,
            protocol: protocol.as_str().to_owned(),
            app_protocol,
        }
    }

    fn port(&self) -> Option<Port> {
        let Self {
            name,
            number,
            protocol,
            app_protocol,
        } = self.clone();
        Some(Port {
            name,
            number,
            protocol: Protocol::parse(&protocol)?,
            app_protocol,
        })
    }
}

/// The port sets of a set, as the annotation holds them.
#[must_use]
pub fn write_port_sets(set: &EndpointSet) -> Option<Vec<Vec<KeptPort>>> {
    let write = |ports: &Vec<Port>| ports.iter().map(KeptPort::of).collect();
    (set.port_sets.len() != 1).then(|| set.port_sets.iter().map(write).collect())
}

/// Reads them back.
#[must_use]
pub fn read_port_sets(kept: &[Vec<KeptPort>]) -> Option<Vec<Vec<Port>>> {
    kept.iter()
        .map(|ports| ports.iter().map(KeptPort::port).collect())
        .collect()
}

/// This release's checksum over a whole set.
#[must_use]
pub fn checksum(set: &EndpointSet) -> String {
    set.version().to_string()
}
