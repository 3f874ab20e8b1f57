//! The address of a hub, as a person writes it. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// `HOST:PORT`, where the host is a DNS name or an IP address (version 6 in brackets).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubAddress {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// A text that is no address of a hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A URL was given.
    #[error("{0:?} is a URL; write HOST:PORT without a scheme or path, for example hub.example.com:8444")]
    Url(String),
    /// No port, or none from 1 to 65535.
    #[error("{0:?} has no valid port; write HOST:PORT, for example hub.example.com:8444 or [2001:db8::1]:8444")]
    Port(String),
    /// Neither a DNS name nor an IP address before the port.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Host(String),
}

impl HubAddress {
    /// The host without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name that the hub's certificate must carry.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl FromStr for HubAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') {
            return Err(AddressError::Url(text.to_owned()));
        }
        let no_port = || AddressError::Port(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(no_port)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let bare = bracketed.unwrap_or(host);
        let is_version_6 = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        if is_version_6 != bracketed.is_some() {
            // Without brackets nobody can tell where the address ends and the port begins.
            return Err(if is_version_6 {
                no_port()
            } else {
                AddressError::Host(host.to_owned())
            });
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| AddressError::Host(host.to_owned()))?;
        Ok(Self {
            host: bare.to_owned(),
            port,
            name,
        })
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_reads_back_as_written() {
        for text in ["hub.example.com:8444", "10.0.0.1:8444", "[2001:db8::1]:8444", "hub:1"] {
            assert_eq!(
                text.parse::<HubAddress>().map(|address| address.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn address_that_is_none_is_refused_with_its_reason() {
        let reason = |text: &str| text.parse::<HubAddress>().expect_err(text);
        assert!(matches!(reason("https://hub:8444"), AddressError::Url(_)));
        for text in ["hub", "hub:", "hub:0", "hub:65536", "2001:db8::1:8444"] {
            assert!(matches!(reason(text), AddressError::Port(_)), "{text}");
        }
        for text in [":8444", "a b:8444", "[hub]:8444"] {
            assert!(matches!(reason(text), AddressError::Host(_)), "{text}");
        }
    }
}
