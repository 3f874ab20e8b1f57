//! Where the agent's identity comes from: files, or a token. Chosen by flags, never guessed.

use std::path::PathBuf;

use remote_istio::enrolment::Pin;
use remote_istio::model::is_dns_subdomain;
use remote_istio::tls::CertificateFiles;
use remote_istio::transport::HubAddress;

use super::addresses;

/// The Secret of the token where nothing else is configured.
const TOKEN_SECRET: &str = "remote-istio-agent-token";

/// The Secret of the identity where nothing else is configured.
pub(super) const IDENTITY_SECRET: &str = "remote-istio-agent-identity";

/// Where the agent's identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody else writes certificate, key and trust bundle.
    Files(CertificateFiles),
    /// The agent joins by a token, and looks after what it gets.
    Enrolled(Enrolment),
}

/// How the agent joins, and where it keeps what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Where the hub takes joins; at least one.
    pub addresses: Vec<HubAddress>,
    /// Of the hub's CA; at least one.
    pub pins: Vec<Pin>,
    /// The file with the token.
    pub token_file: PathBuf,
    /// The Secret that the token is mounted from, to blank it.
    pub token_secret: String,
    /// The Secret that key, certificate and trust are kept in.
    pub identity_secret: String,
}

/// The flags of both sources.
pub(super) struct SourceFlags {
    pub(super) enrolments: Vec<String>,
    pub(super) pins: Vec<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) token_secret: Option<String>,
    pub(super) identity_secret: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) trust_bundle: Option<PathBuf>,
}

pub(super) fn source(flags: SourceFlags) -> Result<Source, String> {
    let of_files = first_given(&[
        ("--certificate", is_path(flags.certificate.as_ref())),
        ("--key", is_path(flags.key.as_ref())),
        ("--trust-bundle", is_path(flags.trust_bundle.as_ref())),
    ]);
    let of_enrolment = first_given(&[
        ("--enrolment", is_list(&flags.enrolments)),
        ("--pin", is_list(&flags.pins)),
        ("--token-file", is_path(flags.token_file.as_ref())),
        ("--token-secret", is_text(flags.token_secret.as_ref())),
        ("--identity-secret", is_text(flags.identity_secret.as_ref())),
    ]);
    match (of_files, of_enrolment) {
        (Some(file), Some(other)) => Err(format!(
            "{file} and {other} exclude each other: certificates come either from files (--certificate, --key, \
             --trust-bundle) or by a token (--enrolment, --pin, --token-file)"
        )),
        (None, None) => Err(
            "--enrolment HOST:PORT, --pin sha256:HEX and --token-file FILE are missing, as `remote-istio-hub token \
             create` prints them; or give --certificate, --key and --trust-bundle"
                .to_owned(),
        ),
        (Some(_), None) => Ok(Source::Files(CertificateFiles {
            certificate: file(flags.certificate, "--certificate")?,
            key: file(flags.key, "--key")?,
            trust_bundle: file(flags.trust_bundle, "--trust-bundle")?,
        })),
        (None, Some(_)) => enrolment(flags).map(Source::Enrolled),
    }
}

fn enrolment(flags: SourceFlags) -> Result<Enrolment, String> {
    let addresses = addresses("--enrolment", &flags.enrolments)?;
    if addresses.is_empty() {
        return Err("--enrolment HOST:PORT is missing: where does the hub take joins?".to_owned());
    }
    let mut pins: Vec<Pin> = Vec::new();
    for text in flags
        .pins
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
    {
        let pin = text.parse().map_err(|error| format!("--pin {error}"))?;
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    }
    if pins.is_empty() {
        return Err("--pin sha256:HEX is missing: whom else could the token be shown to?".to_owned());
    }
    Ok(Enrolment {
        addresses,
        pins,
        token_file: flags
            .token_file
            .filter(|path| !path.as_os_str().is_empty())
            .ok_or("--token-file FILE is missing: where is the token mounted?")?,
        token_secret: name(flags.token_secret, "--token-secret", TOKEN_SECRET)?,
        identity_secret: name(flags.identity_secret, "--identity-secret", IDENTITY_SECRET)?,
    })
}

fn first_given(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag)
}

// Environment variables that are set but blank count as not given.
fn is_path(given: Option<&PathBuf>) -> bool {
    given.is_some_and(|path| !path.as_os_str().is_empty())
}

fn is_text(given: Option<&String>) -> bool {
    given.is_some_and(|text| !text.is_empty())
}

fn is_list(given: &[String]) -> bool {
    given.iter().any(|text| !text.trim().is_empty())
}

fn file(given: Option<PathBuf>, flag: &str) -> Result<PathBuf, String> {
    given
        .filter(|path| !path.as_os_str().is_empty())
        .ok_or_else(|| format!("{flag} FILE is missing: the link to the hub is mutual TLS"))
}

pub(super) fn name(given: Option<String>, flag: &str, default: &str) -> Result<String, String> {
    let name = given
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| default.to_owned());
    if is_dns_subdomain(&name) {
        return Ok(name);
    }
    Err(format!("{flag} {name:?} is not a Secret's name"))
}
