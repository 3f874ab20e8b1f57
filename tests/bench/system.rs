//! The three systems that are compared, and what they all work on.

use serde::Serialize;

/// Services that every remote enables: `m` of the count of requests for one event.
pub const SERVICES: [&str; 4] = ["istio-pilot", "istio-policy", "istio-telemetry", "zipkin"];

/// Pods of each service. One of them changes; the others keep the slice from being empty.
pub const PODS: usize = 3;

/// Label of pods and of the Services that select them.
pub const APP: &str = "app";

/// One way from a pod on central to an object in a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// The real hub and agents.
    RemoteIstio,
    /// One process that watches pods and patches slices, nothing else: what cannot be beaten.
    Floor,
    /// The original's way.
    SequentialPush,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RemoteIstio, Self::Floor, Self::SequentialPush];

    /// As it is called in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::RemoteIstio => "remote-istio",
            Self::Floor => "floor",
            Self::SequentialPush => "sequential-push",
        }
    }

    /// Its pods and objects are here, on central and remotes, so that no system sees the changes of another.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::RemoteIstio => "istio-system",
            Self::Floor => "floor",
            Self::SequentialPush => "sequential-push",
        }
    }

    /// Whether it passes on that a pod is no longer ready. The original drops such events.
    pub fn shows_unready(self) -> bool {
        self != Self::SequentialPush
    }

    /// The second number of all addresses of its pods.
    pub fn range(self) -> usize {
        101 + self as usize
    }
}
