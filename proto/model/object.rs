//! One object on a lane: its content, its version and where its source stood.

use prost::Message;

use super::endpoints::hash_ports;
use super::{Canonical, EndpointSet, Port, Version};
use crate::wire::v1;

/// A service of central that the remote must resolve: headless, without selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceIntent {
    /// In the order central names them; none where central names none.
    pub ports: Vec<Port>,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All addresses behind one enabled service.
    Endpoints(EndpointSet),
    /// A service to resolve.
    Service(ServiceIntent),
    /// Sidecar injection for the namespace in the key.
    Injection,
    /// The mesh configuration.
    Mesh(v1::MeshConfig),
    /// Whom the mesh trusts, and that an intermediate may be had.
    Trust(v1::MeshTrust),
    /// Citadel.
    Citadel(Box<v1::Citadel>),
    /// The sidecar injector.
    Injector(Box<v1::SidecarInjector>),
    /// What the agent does by itself.
    Rules(v1::Rules),
}

impl Body {
    /// The version of this content.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Endpoints(set) => set.version(),
            Self::Service(service) => hash_ports(Canonical::new("service"), &service.ports).version(),
            Self::Injection => Canonical::new("injection").version(),
            Self::Mesh(mesh) => parameters("mesh", mesh),
            Self::Trust(trust) => parameters("trust", trust),
            Self::Citadel(citadel) => parameters("citadel", citadel.as_ref()),
            Self::Injector(injector) => parameters("injector", injector.as_ref()),
            Self::Rules(rules) => parameters("rules", rules),
        }
    }
}

/// Parameters have one encoding: fields in the order of their numbers, maps in the order of their keys.
fn parameters(kind: &str, message: &impl Message) -> Version {
    Canonical::new(kind).bytes(&message.encode_to_vec()).version()
}

/// One object on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Hash of the content, made by the side that owns it.
    pub version: Version,
    /// How far the watch behind the content had come. Order only, outside the version.
    pub position: u64,
    /// Nanoseconds on the owner's monotonic clock when the cause was seen; never sent, for latency figures only.
    pub caused_at: Option<u64>,
    /// The content.
    pub body: Body,
}

impl Object {
    /// An object this side owns: its version is made here.
    #[must_use]
    pub fn new(position: u64, caused_at: Option<u64>, body: Body) -> Self {
        Self {
            version: body.version(),
            position,
            caused_at,
            body,
        }
    }

    /// An object the peer owns, under the version the peer gave it.
    #[must_use]
    pub fn received(version: Version, position: u64, body: Body) -> Self {
        Self {
            version,
            position,
            caused_at: None,
            body,
        }
    }

    /// The endpoint set, if this is one.
    #[must_use]
    pub fn endpoints(&self) -> Option<&EndpointSet> {
        match &self.body {
            Body::Endpoints(set) => Some(set),
            _ => None,
        }
    }
}
