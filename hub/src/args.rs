//! Command line and environment, checked into a [`Config`] or an [`Operation`].

mod operation;
mod orders;
mod run;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand};
use remote_istio::identity::DEFAULT_TRUST_DOMAIN;
use remote_istio::model::is_dns_label;

pub use self::operation::{Operation, Order, Output, TokenOutput, TokenRequest};
use self::orders::{
    CaOrders, CheckArgs, IdentityOrders, JoinOrders, MeshCaOrders, ReleaseArgs, RevokeArgs, TokenOrders,
};
use self::run::RunArgs;
pub use self::run::{Config, LinkCa, MeshSigning};

/// First words that ask clap itself for something.
const ASKS: [&str; 4] = ["-h", "--help", "-V", "--version"];

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
    /// Prints the custom resource definitions as YAML
    Crd {
        /// Only this one
        #[arg(value_parser = ["remoteistios", "remoteidentities", "jointokens"])]
        name: Option<String>,
    },
    /// Makes, lists and revokes join tokens
    #[command(subcommand)]
    Token(TokenOrders),
    /// Lists, approves and denies joins that wait for a person
    #[command(subcommand)]
    Join(JoinOrders),
    /// Cuts a remote off: its sessions end, its certificates and unused tokens count no longer
    Revoke(RevokeArgs),
    /// Lets another cluster join by the name of a remote
    Release(ReleaseArgs),
    /// Dials each address that remotes are told, and says what is wrong with it; exit code 1 where something is
    Check(CheckArgs),
    /// Lists the identities of remotes
    #[command(subcommand)]
    Identity(IdentityOrders),
    /// Shows the CA of the link and replaces it step by step
    #[command(subcommand)]
    Ca(CaOrders),
    /// Shows whom the mesh trusts and forgets earlier roots
    #[command(subcommand)]
    MeshCa(MeshCaOrders),
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve agents.
    Run(Box<Config>),
    /// Print the custom resource definitions, or the one of this plural name.
    Crd(Option<String>),
    /// Do one thing on central and end.
    Operate(Box<Operation>),
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
    #[error("--replica is not given and the host's name cannot be read from {path}: {0}; give --replica", path = run::HOST_NAME_FILE)]
    HostName(std::io::Error),
    /// One of the three files is missing.
    #[error("--link-ca files needs {0}: give --certificate, --key and --trust-bundle")]
    FileMissing(&'static str),
    /// A flag that the chosen kind of CA has no use for.
    #[error("{flag} has no meaning with --link-ca {given}: leave it out, or add --link-ca {needed}")]
    OtherLinkCa {
        /// The flag.
        flag: &'static str,
        /// The kind of CA that was chosen.
        given: &'static str,
        /// The kind that the flag belongs to.
        needed: &'static str,
    },
    /// A Service's name that cannot be one.
    #[error("--public-service {0:?} is not the name of a Service: write a DNS label")]
    Service(String),
    /// Addresses by flag and by Service.
    #[error(
        "{0} has no meaning with --public-service, whose load balancer says where remotes find the hub: leave one out"
    )]
    TwoPublic(&'static str),
    /// More addresses than a remote is told.
    #[error("{flag} has {count} addresses, a remote is told at most {limit}: leave some out")]
    Addresses {
        /// The flag.
        flag: &'static str,
        /// How many were given.
        count: usize,
        /// The most.
        limit: usize,
    },
    /// A time out of its range.
    #[error("{flag} {value} cannot be used: write a time from {least} to {most}, for example {example}")]
    Time {
        /// The flag.
        flag: &'static str,
        /// As given.
        value: String,
        /// The shortest.
        least: String,
        /// The longest.
        most: String,
        /// One that is good.
        example: &'static str,
    },
    /// A Secret's name that cannot be one.
    #[error("{0} {1:?} is not the name of a Secret: write a DNS name in lower case")]
    Secret(&'static str, String),
    /// A flag without the grant that it needs.
    #[error("{0} has no meaning without --sign-mesh-ca: add that, or leave it out")]
    NotGranted(&'static str),
    /// A remote's name that cannot be one.
    #[error("{0:?} is not the name of a remote: write a DNS label (lower case letters, digits and '-', at most 63)")]
    Remote(String),
    /// No fingerprint, and no beginning of one.
    #[error(
        "{0:?} is no fingerprint of a root: write at least 8 of its hex digits, as `remote-istio-hub mesh-ca show` prints it"
    )]
    Fingerprint(String),
    /// A text that is too long.
    #[error("{flag} has {length} characters, at most {limit} are kept: shorten it")]
    Long {
        /// The flag.
        flag: &'static str,
        /// Characters given.
        length: usize,
        /// The most.
        limit: usize,
    },
}

/// Reads the command line, the program's name first, and the environment.
///
/// # Errors
/// Something cannot be used; or help was asked for, which clap hands over as an error too.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    if first.is_none_or(|first| first.starts_with('-') && !ASKS.contains(&first)) {
        arguments.insert(1.min(arguments.len()), "run".into());
    }
    let operation = match Cli::try_parse_from(arguments)?.command {
        Subcommands::Run(run) => return run.checked().map(|config| Command::Run(Box::new(config))),
        Subcommands::Crd { name } => return Ok(Command::Crd(name)),
        Subcommands::Token(orders) => orders.checked(),
        Subcommands::Join(orders) => orders.checked(),
        Subcommands::Revoke(revoke) => revoke.checked(),
        Subcommands::Release(release) => release.checked(),
        Subcommands::Check(check) => check.checked(),
        Subcommands::Identity(orders) => orders.checked(),
        Subcommands::Ca(orders) => orders.checked(),
        Subcommands::MeshCa(orders) => orders.checked(),
    };
    operation.map(|operation| Command::Operate(Box::new(operation)))
}

fn namespace(flag: &'static str, value: String) -> Result<String, ArgsError> {
    if is_dns_label(&value) {
        Ok(value)
    } else {
        Err(ArgsError::Namespace { flag, value })
    }
}

fn time(
    flag: &'static str,
    value: Duration,
    range: (Duration, Duration),
    example: &'static str,
) -> Result<Duration, ArgsError> {
    let (least, most) = range;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(ArgsError::Time {
        flag,
        value: shown(value),
        least: shown(least),
        most: shown(most),
        example,
    })
}

/// Whole days as such: `humantime` makes months of thirty and a half days of them.
fn shown(time: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    let seconds = time.as_secs();
    if seconds >= DAY && seconds.is_multiple_of(DAY) && time.subsec_nanos() == 0 {
        return format!("{}d", seconds / DAY);
    }
    humantime::format_duration(time).to_string()
}
