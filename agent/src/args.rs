//! Flags and environment variables, turned into a [`Config`] that was checked as far as flags alone can be.

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
use remote_istio::tls::CertificateFiles;
use remote_istio::transport::HubAddress;

/// Namespaces the API server keeps for itself: nothing is ever written there.
const RESERVED_PREFIX: &str = "kube-";

/// What an agent needs to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where hub replicas listen; at least one.
    pub hubs: Vec<HubAddress>,
    /// Of the link's identities.
    pub trust_domain: String,
    /// Certificate, key and trust bundle of the link.
    pub certificates: CertificateFiles,
    /// The agent's own namespace: records and its Lease live there.
    pub namespace: String,
    /// What the hub may write services and endpoints into.
    pub service_namespaces: BTreeSet<String>,
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
}

#[derive(Debug, Args)]
struct Flags {
    /// Where the hub listens, HOST:PORT; several: tried in turn
    #[arg(
        long = "hub",
        env = "REMOTE_ISTIO_HUB",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    hubs: Vec<String>,
    /// Trust domain of the link's identities
    #[arg(long, env = "REMOTE_ISTIO_TRUST_DOMAIN", value_name = "DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: String,
    /// This agent's certificate chain, PEM; it names the remote
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
pub fn parse<I, T>(words: I) -> Result<Config, Stopped>
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
        None => line.flags,
    };
    check(flags).map_err(|text| Stopped::Wrong(format!("error: {text}")))
}

fn check(flags: Flags) -> Result<Config, String> {
    let hubs = hubs(&flags.hubs)?;
    if !is_trust_domain(&flags.trust_domain) {
        return Err(format!("--trust-domain {:?} is not a DNS name", flags.trust_domain));
    }
    if !is_dns_label(&flags.namespace) {
        return Err(format!("--namespace {:?} is not a namespace's name", flags.namespace));
    }
    let service_namespaces = service_namespaces(&flags.service_namespaces, &flags.namespace)?;
    let log_format = flags
        .log_format
        .parse::<LogFormat>()
        .map_err(|error| error.to_string())?;
    let certificates = CertificateFiles {
        certificate: file(flags.certificate, "--certificate")?,
        key: file(flags.key, "--key")?,
        trust_bundle: file(flags.trust_bundle, "--trust-bundle")?,
    };
    Ok(Config {
        hubs,
        trust_domain: flags.trust_domain,
        certificates,
        namespace: flags.namespace,
        service_namespaces,
        endpoints_objects: flags.endpoints_objects,
        metrics_address: flags.metrics_address,
        kubeconfig: flags.kubeconfig.filter(|path| !path.as_os_str().is_empty()),
        log_format,
        log_level: flags.log_level,
    })
}

fn hubs(given: &[String]) -> Result<Vec<HubAddress>, String> {
    let mut hubs: Vec<HubAddress> = Vec::new();
    for text in given.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let address = text.parse().map_err(|error| format!("--hub {error}"))?;
        if !hubs.contains(&address) {
            hubs.push(address);
        }
    }
    if hubs.is_empty() {
        return Err("--hub HOST:PORT is missing: where does the hub listen?".to_owned());
    }
    Ok(hubs)
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

fn file(given: Option<PathBuf>, flag: &str) -> Result<PathBuf, String> {
    given
        .filter(|path| !path.as_os_str().is_empty())
        .ok_or_else(|| format!("{flag} FILE is missing: the link to the hub is mutual TLS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 8] = [
        "--hub",
        "hub:8444",
        "--certificate",
        "c",
        "--key",
        "k",
        "--trust-bundle",
        "t",
    ];

    fn with(more: &[&str]) -> Result<Config, Stopped> {
        parse(["agent"].iter().chain(&GOOD).chain(more))
    }

    fn without(flag: &str) -> Result<Config, Stopped> {
        let kept = GOOD.chunks(2).filter(|pair| pair[0] != flag).flatten();
        parse(["agent"].iter().chain(kept))
    }

    fn good() -> Config {
        Config {
            hubs: vec!["hub:8444".parse().expect("an address")],
            trust_domain: "remote-istio.local".to_owned(),
            certificates: CertificateFiles {
                certificate: "c".into(),
                key: "k".into(),
                trust_bundle: "t".into(),
            },
            namespace: "istio-system".to_owned(),
            service_namespaces: BTreeSet::from(["istio-system".to_owned()]),
            endpoints_objects: true,
            metrics_address: "[::]:8080".parse().expect("an address"),
            kubeconfig: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }

    #[test]
    fn defaults_fill_what_is_not_given_with_and_without_the_subcommand() {
        assert_eq!(with(&[]).expect("good flags"), good());
        let spelled = ["agent", "run"].iter().chain(&GOOD);
        assert_eq!(parse(spelled).expect("good flags"), good());
    }

    #[test]
    fn given_flags_are_taken() {
        let more = [
            "--hub",
            "a:1,b:2",
            "--hub",
            "a:1",
            "--namespace",
            "mesh",
            "--service-namespaces",
            "one,two",
            "--endpoints-objects",
            "false",
            "--metrics-address",
            "127.0.0.1:0",
            "--kubeconfig",
            "f",
            "--log-format",
            "json",
            "--log-level",
            "debug",
            "--trust-domain",
            "mesh.test",
        ];
        let expected = Config {
            hubs: ["hub:8444", "a:1", "b:2"]
                .map(|text| text.parse().expect("an address"))
                .to_vec(),
            trust_domain: "mesh.test".to_owned(),
            namespace: "mesh".to_owned(),
            service_namespaces: BTreeSet::from(["one".to_owned(), "two".to_owned()]),
            endpoints_objects: false,
            metrics_address: "127.0.0.1:0".parse().expect("an address"),
            kubeconfig: Some("f".into()),
            log_format: LogFormat::Json,
            log_level: "debug".to_owned(),
            ..good()
        };
        assert_eq!(with(&more).expect("good flags"), expected);
    }

    #[test]
    fn service_namespaces_follow_the_own_namespace() {
        let config = with(&["--namespace", "mesh"]).expect("good flags");
        assert_eq!(config.service_namespaces, BTreeSet::from(["mesh".to_owned()]));
    }

    #[test]
    fn wrong_flag_is_named_and_ends_with_the_code_for_configuration() {
        for (flag, value) in [
            ("--hub", "https://hub:8444"),
            ("--hub", "hub"),
            ("--trust-domain", "no domain"),
            ("--namespace", "Upper"),
            ("--service-namespaces", "good,not_good"),
            ("--service-namespaces", "kube-system"),
            ("--endpoints-objects", "perhaps"),
            ("--metrics-address", "8080"),
            ("--log-format", "xml"),
            ("--unheard-of", "x"),
        ] {
            let stopped = with(&[flag, value]).expect_err(flag);
            assert!(stopped.to_string().contains(flag), "{flag} {value}: {stopped}");
            assert_eq!(stopped.exit_code(), EXIT_CONFIGURATION, "{flag} {value}");
        }
    }

    #[test]
    fn missing_flag_is_named_and_ends_with_the_code_for_configuration() {
        for flag in ["--hub", "--certificate", "--key", "--trust-bundle"] {
            let stopped = without(flag).expect_err(flag);
            assert!(stopped.to_string().contains(flag), "{flag}: {stopped}");
            assert_eq!(stopped.exit_code(), EXIT_CONFIGURATION, "{flag}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for flag in ["--help", "--version"] {
            assert_eq!(parse(["agent", flag]).expect_err("a text").exit_code(), 0);
        }
    }
}
