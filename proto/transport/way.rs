//! The way to the hub: straight, or through an HTTP proxy with exceptions. Pure.

use std::fmt;
use std::net::IpAddr;

use data_encoding::BASE64;
use rustls::pki_types::ServerName;

use super::address::HubAddress;

/// Port of a proxy whose URL names none.
const DEFAULT_PROXY_PORT: u16 = 80;

/// How connections to hubs are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Straight.
    #[default]
    Direct,
    /// Through a proxy, except for some hosts.
    Proxy(HttpProxy),
}

/// A proxy that is asked to CONNECT. `Debug` and `Display` show no credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProxy {
    host: String,
    port: u16,
    authorization: Option<String>,
    except: Vec<Exception>,
}

/// A text that is no proxy. Does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// TLS to the proxy itself.
    #[error(
        "HTTPS_PROXY: proxies that are spoken to by https:// are not supported; write http://HOST:PORT, what goes \
         through is encrypted from end to end anyway"
    )]
    Https,
    /// A scheme that is none of an HTTP proxy.
    #[error("HTTPS_PROXY: only http:// proxies are supported; write http://HOST:PORT")]
    Scheme,
    /// No host, or no port where one should be.
    #[error("HTTPS_PROXY: holds no proxy; write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")]
    Shape,
    /// Credentials that cannot be sent.
    #[error("HTTPS_PROXY: holds credentials that cannot be read; write special characters as %XX")]
    Credentials,
}

impl Way {
    /// As `HTTPS_PROXY` and `NO_PROXY` say. Blank counts as unset. Of `NO_PROXY`, entries separated by commas:
    /// `*`, a domain (also those below it), `.domain` (only those below it), an IP address, a range `IP/BITS`; each
    /// but the range may end in `:PORT`.
    ///
    /// # Errors
    /// `https_proxy` is no proxy that can be used.
    pub fn from_environment(https_proxy: Option<&str>, no_proxy: Option<&str>) -> Result<Self, ProxyError> {
        let Some(url) = https_proxy.map(str::trim).filter(|url| !url.is_empty()) else {
            return Ok(Self::Direct);
        };
        let mut proxy = HttpProxy::from_url(url)?;
        proxy.except = no_proxy
            .unwrap_or_default()
            .split(',')
            .filter_map(Exception::parse)
            .collect();
        Ok(Self::Proxy(proxy))
    }

    /// The proxy through which this hub is reached, if any.
    #[must_use]
    pub fn proxy_for(&self, address: &HubAddress) -> Option<&HttpProxy> {
        match self {
            Self::Proxy(proxy) if !proxy.except.iter().any(|exception| exception.covers(address)) => Some(proxy),
            _ => None,
        }
    }
}

impl HttpProxy {
    /// From `http://[USER:PASSWORD@]HOST[:PORT]`; the scheme may be left out. No exceptions.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn from_url(url: &str) -> Result<Self, ProxyError> {
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => return Err(ProxyError::Https),
            Some(_) => return Err(ProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let (host, port) = host_and_port(place).ok_or(ProxyError::Shape)?;
        Ok(Self {
            host,
            port: port.unwrap_or(DEFAULT_PROXY_PORT),
            authorization: credentials.map(authorization).transpose()?,
            except: Vec::new(),
        })
    }

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

    /// The request that asks for a tunnel.
    pub(super) fn request(&self, address: &HubAddress) -> String {
        let credentials = self.authorization.as_ref();
        let credentials = credentials.map_or_else(String::new, |value| format!("Proxy-Authorization: {value}\r\n"));
        format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{credentials}\r\n")
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }
}

impl fmt::Display for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("except", &self.except)
            .finish_non_exhaustive()
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`, where the host is a DNS name or an IP address.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let port = if port.is_empty() {
                None
            } else {
                Some(port.strip_prefix(':')?)
            };
            (host, port)
        }
        None => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port != 0)?),
        None => None,
    };
    ServerName::try_from(host).ok()?;
    Some((host.to_owned(), port))
}

fn authorization(credentials: &str) -> Result<String, ProxyError> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain = decoded(user)?;
    if plain.contains(&b':') {
        return Err(ProxyError::Credentials);
    }
    plain.push(b':');
    plain.extend(decoded(password)?);
    Ok(format!("Basic {}", BASE64.encode(&plain)))
}

/// Percent-decoded.
fn decoded(text: &str) -> Result<Vec<u8>, ProxyError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok());
        bytes.push(value.ok_or(ProxyError::Credentials)?);
    }
    Ok(bytes)
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Host {
        ip: IpAddr,
        port: Option<u16>,
    },
    Range {
        ip: IpAddr,
        bits: u32,
    },
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Exception {
    /// Nothing for what is blank or cannot be understood, as everywhere with `NO_PROXY`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((ip, bits)) = text.split_once('/') {
            let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            return (bits <= width(ip)).then_some(Self::Range { ip, bits });
        }
        if let Ok(ip) = text.parse() {
            return Some(Self::Host { ip, port: None });
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let (name, port) = host_and_port(below.unwrap_or(&text))?;
        if let Ok(ip) = name.parse() {
            return Some(Self::Host { ip, port });
        }
        let name = name.trim_end_matches('.').to_owned();
        Some(Self::Domain {
            name,
            itself: below.is_none(),
            port,
        })
    }

    fn covers(&self, address: &HubAddress) -> bool {
        let fits = |port: Option<u16>| port.is_none_or(|port| port == address.port());
        let ip = address.host().parse::<IpAddr>();
        match self {
            Self::Everything => true,
            Self::Host { ip: own, port } => ip == Ok(*own) && fits(*port),
            Self::Range { ip: own, bits } => ip.is_ok_and(|ip| in_range(ip, *own, *bits)),
            Self::Domain { name, itself, port } => {
                let host = address.host().trim_end_matches('.').to_ascii_lowercase();
                let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
                (below || *itself && host == *name) && fits(*port)
            }
        }
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn in_range(ip: IpAddr, range: IpAddr, bits: u32) -> bool {
    let number = |ip| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let host_bits = width(range).saturating_sub(bits);
    let network = |ip| number(ip).checked_shr(host_bits).unwrap_or(0);
    ip.is_ipv4() == range.is_ipv4() && network(ip) == network(range)
}

#[cfg(test)]
mod tests;
