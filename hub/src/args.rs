//! Command line and environment, checked into a [`Config`].

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use remote_istio::identity::{DEFAULT_TRUST_DOMAIN, is_trust_domain};
use remote_istio::limits;
use remote_istio::model::is_dns_label;
use remote_istio::process::LogFormat;
use remote_istio::tls::CertificateFiles;

/// Where the kernel tells the host's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// First words that are no flag of `run`.
const SUBCOMMANDS: [&str; 7] = ["run", "crd", "help", "-h", "--help", "-V", "--version"];

#[derive(Debug, Parser)]
#[command(
    name = "remote-istio-hub",
    version,
    about = "Watches the central cluster and streams to every remote what it should hold"
)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serves agents; what happens when no command is given
    Run(Box<RunArgs>),
    /// Prints the custom resource definition of `RemoteIstio` as YAML
    Crd,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Namespace of the hub and of the `RemoteIstio` resources
    #[arg(long, env = "REMOTE_ISTIO_NAMESPACE", default_value = "istio-system")]
    namespace: String,
    /// Namespaces with services that remotes may resolve, separated by commas [default: the namespace]
    #[arg(long, env = "REMOTE_ISTIO_SERVICE_NAMESPACES", value_delimiter = ',')]
    service_namespaces: Vec<String>,
    /// Trust domain of all identities on the link
    #[arg(long, env = "REMOTE_ISTIO_TRUST_DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: String,
    /// Certificate chain of this hub, PEM, leaf first
    #[arg(long, env = "REMOTE_ISTIO_CERTIFICATE", value_name = "FILE")]
    certificate: PathBuf,
    /// Private key of the certificate, PEM
    #[arg(long, env = "REMOTE_ISTIO_KEY", value_name = "FILE")]
    key: PathBuf,
    /// CAs that sign the certificates of agents, PEM
    #[arg(long, env = "REMOTE_ISTIO_TRUST_BUNDLE", value_name = "FILE")]
    trust_bundle: PathBuf,
    /// Where agents connect
    #[arg(long, env = "REMOTE_ISTIO_SYNC_ADDRESS", default_value = "[::]:8444")]
    sync_address: SocketAddr,
    /// Where health and metrics are served
    #[arg(long, env = "REMOTE_ISTIO_METRICS_ADDRESS", default_value = "[::]:8080")]
    metrics_address: SocketAddr,
    /// Name of this replica, for people [default: the host's name]
    #[arg(long, env = "REMOTE_ISTIO_REPLICA", value_name = "NAME")]
    replica: Option<String>,
    /// Kubeconfig of the central cluster [default: that of the pod, else as kubectl finds it]
    #[arg(long, env = "REMOTE_ISTIO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, env = "REMOTE_ISTIO_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,remote_istio_hub=debug`
    #[arg(long, env = "REMOTE_ISTIO_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve agents.
    Run(Box<Config>),
    /// Print the custom resource definition.
    Crd,
}

/// Everything the hub can be told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the hub and of the `RemoteIstio` resources.
    pub namespace: String,
    /// Namespaces with services that remotes may resolve; never empty.
    pub service_namespaces: BTreeSet<String>,
    /// Trust domain of all identities on the link.
    pub trust_domain: String,
    /// Certificate, key and trust bundle.
    pub certificate_files: CertificateFiles,
    /// Where agents connect; port 0 takes a free one.
    pub sync_address: SocketAddr,
    /// Where health and metrics are served; port 0 takes a free one.
    pub metrics_address: SocketAddr,
    /// Name of this replica.
    pub replica: String,
    /// Kubeconfig of the central cluster; nothing: as the environment says.
    pub kubeconfig: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: String,
}

/// A command line that cannot be used, or only asks for help.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// A request for help or the version, or a flag that is unknown, missing or does not parse.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A namespace that cannot be one.
    #[error("{flag} {value:?} is not a namespace: write a DNS label (lower case letters, digits and '-', at most 63)")]
    Namespace {
        /// The flag.
        flag: &'static str,
        /// As given.
        value: String,
    },
    /// A trust domain that cannot be one.
    #[error("--trust-domain {0:?} is not a DNS name; write for example {DEFAULT_TRUST_DOMAIN}")]
    TrustDomain(String),
    /// A replica name that cannot be one.
    #[error("--replica {0:?} cannot be used: write 1 to 253 characters without blanks")]
    Replica(String),
    /// No replica name given and none to be found.
    #[error("--replica is not given and the host's name cannot be read from {HOST_NAME_FILE}: {0}; give --replica")]
    HostName(std::io::Error),
}

/// Reads the command line, the program's name first, and the environment.
///
/// # Errors
/// Something cannot be used; or help was asked for, which clap hands over as an error too.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    if first.is_none_or(|first| !SUBCOMMANDS.contains(&first)) {
        arguments.insert(1.min(arguments.len()), "run".into());
    }
    match Cli::try_parse_from(arguments)?.command {
        Subcommands::Run(run) => run.checked().map(|config| Command::Run(Box::new(config))),
        Subcommands::Crd => Ok(Command::Crd),
    }
}

impl RunArgs {
    fn checked(self) -> Result<Config, ArgsError> {
        let namespace = namespace("--namespace", self.namespace)?;
        let given = self.service_namespaces.into_iter().map(|name| name.trim().to_owned());
        let given: Vec<String> = given.filter(|name| !name.is_empty()).collect();
        let service_namespaces = if given.is_empty() {
            BTreeSet::from([namespace.clone()])
        } else {
            let checked = given
                .into_iter()
                .map(|name| self::namespace("--service-namespaces", name));
            checked.collect::<Result<_, _>>()?
        };
        if !is_trust_domain(&self.trust_domain) {
            return Err(ArgsError::TrustDomain(self.trust_domain));
        }
        Ok(Config {
            namespace,
            service_namespaces,
            trust_domain: self.trust_domain,
            certificate_files: CertificateFiles {
                certificate: self.certificate,
                key: self.key,
                trust_bundle: self.trust_bundle,
            },
            sync_address: self.sync_address,
            metrics_address: self.metrics_address,
            replica: replica(self.replica)?,
            kubeconfig: self.kubeconfig,
            log_format: self.log_format,
            log_level: self.log_level,
        })
    }
}

fn namespace(flag: &'static str, value: String) -> Result<String, ArgsError> {
    if is_dns_label(&value) {
        Ok(value)
    } else {
        Err(ArgsError::Namespace { flag, value })
    }
}

fn replica(given: Option<String>) -> Result<String, ArgsError> {
    let name = match given {
        Some(name) => name,
        None => std::fs::read_to_string(HOST_NAME_FILE)
            .map_err(ArgsError::HostName)?
            .trim()
            .to_owned(),
    };
    if name.is_empty() || name.len() > limits::NAME_MAX_BYTES || name.contains(char::is_whitespace) {
        return Err(ArgsError::Replica(name));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 6] = ["--certificate", "c", "--key", "k", "--trust-bundle", "b"];

    fn parsed(arguments: &[&str]) -> Result<Command, ArgsError> {
        let program = std::iter::once("remote-istio-hub");
        parse(program.chain(arguments.iter().copied()).map(OsString::from))
    }

    fn run(arguments: &[&str]) -> Config {
        match parsed(&[arguments, &FILES].concat()) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        let expected = Config {
            namespace: "istio-system".to_owned(),
            service_namespaces: BTreeSet::from(["istio-system".to_owned()]),
            trust_domain: "remote-istio.local".to_owned(),
            certificate_files: CertificateFiles {
                certificate: "c".into(),
                key: "k".into(),
                trust_bundle: "b".into(),
            },
            sync_address: "[::]:8444".parse().expect("an address"),
            metrics_address: "[::]:8080".parse().expect("an address"),
            replica: "a".to_owned(),
            kubeconfig: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        };
        assert_eq!(run(&["--replica", "a"]), expected);
        assert_eq!(run(&["run", "--replica", "a"]), expected);
        assert!(matches!(parsed(&["crd"]), Ok(Command::Crd)));
    }

    #[test]
    fn replica_is_named_after_the_host() {
        assert!(!run(&[]).replica.is_empty());
    }

    #[test]
    fn service_namespaces_are_a_list_and_default_to_the_namespace() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(run(&["--namespace", "mesh"]).service_namespaces, names(&["mesh"]));
        let listed = run(&["--service-namespaces", "a, b", "--service-namespaces", "c"]);
        assert_eq!(listed.service_namespaces, names(&["a", "b", "c"]));
    }

    #[test]
    fn each_wrong_flag_names_itself() {
        for (flag, value) in [
            ("--namespace", "Mesh"),
            ("--service-namespaces", "a,b/c"),
            ("--trust-domain", "a_b"),
            ("--sync-address", "8444"),
            ("--metrics-address", "localhost"),
            ("--replica", ""),
            ("--log-format", "xml"),
            ("--no-such-flag", "x"),
        ] {
            let error = parsed(&[&FILES[..], &[flag, value]].concat()).expect_err(flag);
            assert!(error.to_string().contains(flag), "{error}");
        }
        for missing in ["--certificate", "--key", "--trust-bundle"] {
            let left: Vec<&str> = FILES
                .chunks(2)
                .filter(|pair| pair[0] != missing)
                .flatten()
                .copied()
                .collect();
            let error = parsed(&left).expect_err(missing);
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
