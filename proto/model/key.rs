//! Keys: what an object on a lane is called. One fixed grammar, so that no key can name anything else.

use std::fmt;
use std::str::FromStr;

/// Separates what must not wait from what may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Addresses of the control plane; before everything else.
    Endpoints,
    /// Mirrored services, injection of namespaces, components.
    Config,
}

impl Lane {
    /// Every lane, in order of priority.
    pub const ALL: [Self; 2] = [Self::Endpoints, Self::Config];

    /// The word used in logs, metrics and annotations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What there is at most one of in a remote, in the namespace of its `RemoteIstio`. In the order it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// What the agent does by itself.
    Rules,
    /// The mesh configuration.
    Mesh,
    /// Trust of the mesh, and the remote's intermediate CA.
    Trust,
    /// The CA of the remote's workloads.
    Citadel,
    /// The sidecar injector with its template and webhook.
    Injector,
}

impl Component {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Rules, Self::Mesh, Self::Trust, Self::Citadel, Self::Injector];

    /// The word in keys, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Mesh => "mesh",
            Self::Trust => "trust",
            Self::Citadel => "citadel",
            Self::Injector => "injector",
        }
    }
}

/// Names one object: `endpoints/NAMESPACE/NAME`, `service/NAMESPACE/NAME`, `injection/NAMESPACE`, or a component and
/// its namespace as in `citadel/NAMESPACE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// All addresses behind one enabled service.
    Endpoints {
        /// Namespace of the service in the remote.
        namespace: String,
        /// Name of the service in the remote.
        name: String,
    },
    /// A service of central that the remote must resolve.
    Service {
        /// Namespace of the service in the remote.
        namespace: String,
        /// Name of the service in the remote.
        name: String,
    },
    /// Sidecar injection for one namespace of the remote.
    Injection {
        /// The namespace.
        namespace: String,
    },
    /// What there is at most one of.
    Component {
        /// Which.
        component: Component,
        /// Namespace in the remote.
        namespace: String,
    },
}

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one of the known kinds, or the wrong number of segments.
    #[error(
        "key {0:?} is not endpoints/NAMESPACE/NAME, service/NAMESPACE/NAME, injection/NAMESPACE or COMPONENT/NAMESPACE"
    )]
    Grammar(String),
    /// A segment is not a DNS label.
    #[error("key {0:?} has a segment that is not a DNS label (lower case letters, digits and '-', at most 63)")]
    Label(String),
}

impl Key {
    /// The key of the addresses of a service.
    #[must_use]
    pub fn endpoints(namespace: &str, name: &str) -> Self {
        Self::Endpoints {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of a mirrored service.
    #[must_use]
    pub fn service(namespace: &str, name: &str) -> Self {
        Self::Service {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of the injection of a namespace.
    #[must_use]
    pub fn injection(namespace: &str) -> Self {
        Self::Injection {
            namespace: namespace.to_owned(),
        }
    }

    /// The key of a component.
    #[must_use]
    pub fn component(component: Component, namespace: &str) -> Self {
        Self::Component {
            component,
            namespace: namespace.to_owned(),
        }
    }

    /// The lane the object travels on.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Endpoints { .. } => Lane::Endpoints,
            Self::Service { .. } | Self::Injection { .. } | Self::Component { .. } => Lane::Config,
        }
    }

    /// The first segment: the kind of object.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Endpoints { .. } => "endpoints",
            Self::Service { .. } => "service",
            Self::Injection { .. } => "injection",
            Self::Component { component, .. } => component.as_str(),
        }
    }

    /// The namespace in the remote.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Endpoints { namespace, .. }
            | Self::Service { namespace, .. }
            | Self::Injection { namespace }
            | Self::Component { namespace, .. } => namespace,
        }
    }

    /// The name within the namespace, where the kind has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Endpoints { name, .. } | Self::Service { name, .. } => Some(name),
            Self::Injection { .. } | Self::Component { .. } => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.namespace())?;
        self.name().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let segments: Vec<&str> = text.splitn(4, '/').collect();
        let key = match segments.as_slice() {
            ["endpoints", namespace, name] => Self::endpoints(namespace, name),
            ["service", namespace, name] => Self::service(namespace, name),
            ["injection", namespace] => Self::injection(namespace),
            [word, namespace] => match Component::ALL.into_iter().find(|component| component.as_str() == *word) {
                Some(component) => Self::component(component, namespace),
                None => return Err(KeyError::Grammar(text.chars().take(200).collect())),
            },
            _ => return Err(KeyError::Grammar(text.chars().take(200).collect())),
        };
        if segments[1..].iter().all(|segment| is_dns_label(segment)) {
            Ok(key)
        } else {
            Err(KeyError::Label(text.chars().take(200).collect()))
        }
    }
}

/// True for a DNS label of RFC 1123 as Kubernetes checks it: 1 to 63 of `a-z`, `0-9` and `-`, no `-` at an end.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// True for dot-separated DNS labels, at most 253 bytes in all.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives_text() {
        for key in [
            Key::endpoints("istio-system", "istio-pilot"),
            Key::service("a", "b"),
            Key::injection("default"),
            Key::component(Component::Citadel, "istio-system"),
            Key::component(Component::Rules, "istio-system"),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn key_with_path_tricks_is_refused() {
        for text in [
            "",
            "endpoints",
            "endpoints/a",
            "endpoints/a/b/c",
            "endpoints/../b",
            "endpoints//b",
            "secret/a/b",
            "service/A/b",
            "injection/a/b",
            "citadel/a/b",
            "role/a",
            "injection/a%2fb",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
