//! Flags and environment variables, turned into a [`Config`] that was checked as far as flags alone can be.

mod check;
mod leave;
mod minted;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand};
use remote_istio::identity::{DEFAULT_TRUST_DOMAIN, is_trust_domain};
use remote_istio::model::is_dns_label;
use remote_istio::process::{EXIT_CONFIGURATION, LogFormat};
use remote_istio::transport::{HubAddress, Way};

pub use check::Check;
use check::CheckFlags;
pub use leave::Leave;
use leave::LeaveFlags;
use minted::MintedFlags;
pub use minted::{Minted, MintedAction};
pub use source::{Enrolment, Source};
use source::{SourceFlags, source};

/// Namespaces the API server keeps for itself: nothing is ever written there.
const RESERVED_PREFIX: &str = "kube-";

/// What an agent needs to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where hub replicas listen; none where the hub says so itself.
    pub hubs: Vec<HubAddress>,
    /// How they are reached.
    pub way: Way,
    /// Of the link's identities, where it was given.
    pub trust_domain: Option<String>,
    /// Where the agent's identity comes from.
    pub identity: Source,
    /// The agent's own namespace: records and its Lease live there.
    pub namespace: String,
    /// What the hub may write services and endpoints into.
    pub service_namespaces: BTreeSet<String>,
    /// What the hub may ask for, in a file; nothing: services in the namespaces above, and injection.
    pub policy: Option<PathBuf>,
    /// Whether `Endpoints` objects are written beside the slices.
    pub endpoints_objects: bool,
    /// Where health and metrics are served; port 0 takes a free one.
    pub metrics_address: SocketAddr,
    /// How to reach the remote's API server; nothing: as a pod does, or as kubectl would.
    pub kubeconfig: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_level: String,
}

impl Config {
    /// The trust domain of flags, else the usual one.
    #[must_use]
    pub fn trust_domain_or_default(&self) -> &str {
        self.trust_domain.as_deref().unwrap_or(DEFAULT_TRUST_DOMAIN)
    }
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Run the agent.
    Run(Box<Config>),
    /// Show or remove what Citadel minted.
    Minted(Minted),
    /// Say what works and what does not.
    Check(Box<Check>),
    /// Let go of everything that the agent made.
    Leave(Box<Leave>),
}

/// Why there is no configuration: a flag is wrong, or only a text was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// `--help` or `--version`.
    #[error("{0}")]
    Asked(String),
    /// A flag cannot be used; the text names it.
    #[error("{0}")]
    Wrong(String),
}

impl Stopped {
    /// The exit code of a process that ends here.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Asked(_) => 0,
            Self::Wrong(_) => EXIT_CONFIGURATION,
        }
    }

    /// Writes the text where it belongs: what was asked for to the standard output, errors to the standard error.
    ///
    /// # Errors
    /// The output is closed.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::Asked(text) => write!(io::stdout(), "{text}"),
            Self::Wrong(text) => writeln!(io::stderr(), "{}", text.trim_end()),
        }
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "remote-istio-agent",
    version,
    about = "Keeps one remote cluster as the hub says it should be, with or without the hub.",
    args_conflicts_with_subcommands = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent; the default
    Run(Box<Flags>),
    /// Say what works of this agent and what does not: API server, identity, hub, the running agent; 0 if all does
    Check(Box<CheckFlags>),
    /// Let go of everything that the agent made in this remote, without the hub; 0 once nothing is left
    Leave(Box<LeaveFlags>),
    /// The Secrets of workloads that Citadel minted, which stay in the remote when it goes
    Minted(MintedFlags),
}

#[derive(Debug, Args)]
struct Flags {
    /// Where the hub listens, HOST:PORT; several: tried in turn. Not needed with --enrolment
    #[arg(
        long = "hub",
        env = "REMOTE_ISTIO_HUB",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    hubs: Vec<String>,
    /// Trust domain of the link's identities; default: remote-istio.local
    #[arg(long, env = "REMOTE_ISTIO_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// Where the hub takes joins, HOST:PORT; several: tried in turn. Instead of --certificate, --key and --trust-bundle
    #[arg(
        long = "enrolment",
        env = "REMOTE_ISTIO_ENROLMENT",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    enrolments: Vec<String>,
    /// Pin of the hub's CA as `remote-istio-hub token create` prints it; several: one must fit
    #[arg(
        long = "pin",
        env = "REMOTE_ISTIO_PIN",
        value_name = "sha256:HEX",
        value_delimiter = ','
    )]
    pins: Vec<String>,
    /// The file with the join token
    #[arg(long, env = "REMOTE_ISTIO_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The Secret that the token comes from; blanked after use. Default: remote-istio-agent-token
    #[arg(long, env = "REMOTE_ISTIO_TOKEN_SECRET", value_name = "NAME")]
    token_secret: Option<String>,
    /// The Secret that key, certificate and trust are kept in. Default: remote-istio-agent-identity
    #[arg(long, env = "REMOTE_ISTIO_IDENTITY_SECRET", value_name = "NAME")]
    identity_secret: Option<String>,
    /// This agent's certificate chain, PEM; it names the remote. Instead of --enrolment
    #[arg(long, env = "REMOTE_ISTIO_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "REMOTE_ISTIO_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// The CAs that sign the hub's certificate, PEM; nothing else is trusted
    #[arg(long, env = "REMOTE_ISTIO_TRUST_BUNDLE", value_name = "FILE")]
    trust_bundle: Option<PathBuf>,
    /// The agent's own namespace, where it keeps what it accepted
    #[arg(
        long,
        env = "REMOTE_ISTIO_NAMESPACE",
        value_name = "NAME",
        default_value = "istio-system"
    )]
    namespace: String,
    /// Namespaces the hub may write services into; default: the agent's own
    #[arg(
        long,
        env = "REMOTE_ISTIO_SERVICE_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    service_namespaces: Vec<String>,
    /// What the hub may ask for: a YAML file, followed while the agent runs. Default: no components, services in
    /// --service-namespaces
    #[arg(long, env = "REMOTE_ISTIO_POLICY", value_name = "FILE")]
    policy: Option<PathBuf>,
    // No doc comment: it would need marks that help texts do not want.
    #[arg(
        long,
        help = "Write Endpoints objects beside the EndpointSlices, for those who look there",
        env = "REMOTE_ISTIO_ENDPOINTS_OBJECTS",
        value_name = "true|false",
        default_value_t = true,
        action = ArgAction::Set
    )]
    endpoints_objects: bool,
    /// Where /livez, /readyz and /metrics are served
    #[arg(
        long,
        env = "REMOTE_ISTIO_METRICS_ADDRESS",
        value_name = "ADDRESS",
        default_value = "[::]:8080"
    )]
    metrics_address: SocketAddr,
    /// How to reach the API server; default: in-cluster, else as kubectl would
    #[arg(long, env = "REMOTE_ISTIO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, env = "REMOTE_ISTIO_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: String,
    #[arg(
        long,
        help = "Which log lines are written: a level, or directives such as info,remote_istio_agent=debug",
        env = "REMOTE_ISTIO_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log_level: String,
}

/// Reads the command line (the first word is the program's name) and the environment.
///
/// # Errors
/// A flag is missing or wrong, or help was asked for.
pub fn parse<I, T>(words: I) -> Result<Task, Stopped>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let line = CommandLine::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stopped::Asked(error.render().to_string()),
        _ => Stopped::Wrong(error.render().to_string()),
    })?;
    let flags = match line.command {
        Some(Command::Run(flags)) => *flags,
        Some(Command::Minted(flags)) => return Ok(Task::Minted(flags.into())),
        Some(Command::Check(flags)) => return check::check(*flags).map(Box::new).map(Task::Check).map_err(wrong),
        Some(Command::Leave(flags)) => return leave::check(*flags).map(Box::new).map(Task::Leave).map_err(wrong),
        None => line.flags,
    };
    let config = check(flags).map_err(wrong)?;
    Ok(Task::Run(Box::new(config)))
}

fn wrong(text: impl std::fmt::Display) -> Stopped {
    Stopped::Wrong(format!("error: {text}"))
}

fn check(flags: Flags) -> Result<Config, String> {
    let trust_domain = flags.trust_domain.filter(|domain| !domain.is_empty());
    if let Some(wrong) = trust_domain.as_ref().filter(|domain| !is_trust_domain(domain)) {
        return Err(format!("--trust-domain {wrong:?} is not a DNS name"));
    }
    if !is_dns_label(&flags.namespace) {
        return Err(format!("--namespace {:?} is not a namespace's name", flags.namespace));
    }
    let service_namespaces = service_namespaces(&flags.service_namespaces, &flags.namespace)?;
    let log_format = flags
        .log_format
        .parse::<LogFormat>()
        .map_err(|error| error.to_string())?;
    let identity = source(SourceFlags {
        enrolments: flags.enrolments,
        pins: flags.pins,
        token_file: flags.token_file,
        token_secret: flags.token_secret,
        identity_secret: flags.identity_secret,
        certificate: flags.certificate,
        key: flags.key,
        trust_bundle: flags.trust_bundle,
    })?;
    let hubs = addresses("--hub", &flags.hubs)?;
    if hubs.is_empty() && matches!(identity, Source::Files(_)) {
        return Err("--hub HOST:PORT is missing: where does the hub listen?".to_owned());
    }
    Ok(Config {
        hubs,
        way: way(|name| std::env::var(name).ok())?,
        trust_domain,
        identity,
        namespace: flags.namespace,
        service_namespaces,
        policy: flags.policy.filter(|path| !path.as_os_str().is_empty()),
        endpoints_objects: flags.endpoints_objects,
        metrics_address: flags.metrics_address,
        kubeconfig: flags.kubeconfig.filter(|path| !path.as_os_str().is_empty()),
        log_format,
        log_level: flags.log_level,
    })
}

/// As tools do that know both spellings: the lower one first.
fn way(variable: impl Fn(&str) -> Option<String>) -> Result<Way, String> {
    let either = |lower, upper| {
        let value = variable(lower).filter(|value| !value.trim().is_empty());
        value.or_else(|| variable(upper))
    };
    let (proxy, except) = (either("https_proxy", "HTTPS_PROXY"), either("no_proxy", "NO_PROXY"));
    Way::from_environment(proxy.as_deref(), except.as_deref()).map_err(|error| error.to_string())
}

fn addresses(flag: &str, given: &[String]) -> Result<Vec<HubAddress>, String> {
    let mut addresses: Vec<HubAddress> = Vec::new();
    for text in given.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let address = text.parse().map_err(|error| format!("{flag} {error}"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn service_namespaces(given: &[String], own: &str) -> Result<BTreeSet<String>, String> {
    let mut namespaces = BTreeSet::new();
    for name in given.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        if !is_dns_label(name) {
            return Err(format!("--service-namespaces {name:?} is not a namespace's name"));
        }
        if name.starts_with(RESERVED_PREFIX) {
            return Err(format!(
                "--service-namespaces {name:?} is a namespace of Kubernetes itself, which nothing is written into"
            ));
        }
        namespaces.insert(name.to_owned());
    }
    if namespaces.is_empty() {
        namespaces.insert(own.to_owned());
    }
    Ok(namespaces)
}
