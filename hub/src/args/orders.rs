//! The flags of the commands that do one thing on central and end.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use humantime::parse_duration;
use remote_istio::enrolment::Token;
use remote_istio::identity::RemoteName;
use remote_istio::limits;

use super::operation::{Operation, Order, Output, TokenOutput, TokenRequest};
use super::run::secret;
use super::{ArgsError, namespace, time};
use crate::crd::Approval;

/// How long a token may be good.
const TOKEN_LIFETIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(30 * 24));

/// How long one address may take to be dialled.
const CHECK_TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The agent's chart, from the root of this repository.
const AGENT_CHART: &str = "deploy/charts/remote-istio-agent";

/// Characters of a cluster's UID, as the resource allows.
const CLUSTER_UID_MAX: usize = 253;

#[derive(Debug, Args)]
pub(super) struct CentralArgs {
    /// Namespace of the hub
    #[arg(long, env = "REMOTE_ISTIO_NAMESPACE", default_value = "istio-system")]
    namespace: String,
    /// Kubeconfig of the central cluster [default: that of the pod, else as kubectl finds it]
    #[arg(long, env = "REMOTE_ISTIO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    /// Secret of the link CA [default: remote-istio-link-ca]
    #[arg(long, env = "REMOTE_ISTIO_LINK_CA_SECRET", value_name = "NAME")]
    link_ca_secret: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenOrders {
    /// Makes a single-use token and prints the commands that join a remote by it
    Create {
        /// The remote, the only one that may join by the token
        name: String,
        /// How long the token is good: 1s to 30d
        #[arg(long, default_value = "1h", value_parser = parse_duration, value_name = "TIME")]
        ttl: Duration,
        /// Whether a person must approve the join too
        #[arg(long, value_enum, default_value = "automatic")]
        approval: ApprovalArg,
        /// The only cluster that may join by it: UID of its namespace kube-system
        #[arg(long, value_name = "UID")]
        cluster_uid: Option<String>,
        /// The agent's chart, as the remote's administrator names it: a folder, a file or a registry's address
        #[arg(long, env = "REMOTE_ISTIO_AGENT_CHART", default_value = AGENT_CHART, value_name = "CHART")]
        chart: String,
        /// How it is shown; "token" prints it alone, to be piped where it goes
        #[arg(short, long, value_enum, default_value = "text")]
        output: TokenOutput,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Lists the tokens; those an hour past their end are gone
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Makes a token worthless
    Revoke {
        /// The token's id, or a remote: then all tokens of it
        #[arg(value_name = "ID|NAME")]
        token: String,
        #[command(flatten)]
        central: CentralArgs,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ApprovalArg {
    Automatic,
    Manual,
}

#[derive(Debug, Subcommand)]
pub(super) enum JoinOrders {
    /// Lists the joins that wait for a person
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Lets a join go on; the agent is answered at its next request, within seconds
    Approve {
        /// The remote; or the token's id, where several wait
        #[arg(value_name = "NAME|ID")]
        join: String,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Refuses a join; its token is worth nothing then
    Deny {
        /// The remote; or the token's id, where several wait
        #[arg(value_name = "NAME|ID")]
        join: String,
        #[command(flatten)]
        central: CentralArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// How long each address may take: 1s to 30s
    #[arg(long, env = "REMOTE_ISTIO_CHECK_TIMEOUT", default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    timeout: Duration,
    #[command(flatten)]
    central: CentralArgs,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The remote
    name: String,
    /// Why, for people
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Also where nothing is known by the name
    #[arg(long)]
    unknown: bool,
    #[command(flatten)]
    central: CentralArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// The remote
    name: String,
    #[command(flatten)]
    central: CentralArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum IdentityOrders {
    /// Lists the identities of remotes
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CaOrders {
    /// Shows the CA, its roots, how far a replacement has come and which remotes trust what
    Show {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Step 1 of 3: makes a new CA and adds it to the trust of all remotes; the old one goes on to sign
    Begin {
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Step 2 of 3: lets the new CA sign; all certificates are renewed soon
    Switch {
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Step 3 of 3: takes the old CA out of the trust; refused while a remote needs it
    Drop {
        /// A remote that is cut off if it still needs the old CA; may be given several times
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        forget: Vec<String>,
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum MeshCaOrders {
    /// Shows the CA that signs, the roots that the mesh trusts, and how far each remote has come
    Show {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        central: CentralArgs,
    },
    /// Takes an earlier root out of the trust of all remotes; refused while one of them is not up to date
    ForgetRoot {
        /// Of the root, as show prints it; its first 8 digits are enough
        fingerprint: String,
        /// Also while remotes are not up to date: their workloads may then trust each other no longer
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        central: CentralArgs,
    },
}

impl CentralArgs {
    fn operation(self, order: Order) -> Result<Operation, ArgsError> {
        Ok(Operation {
            namespace: namespace("--namespace", self.namespace)?,
            kubeconfig: self.kubeconfig,
            order,
        })
    }
}

impl TokenOrders {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        match self {
            Self::Create {
                name,
                ttl,
                approval,
                cluster_uid,
                chart,
                output,
                central,
            } => {
                let cluster_uid = cluster_uid.filter(|uid| !uid.is_empty());
                let request = TokenRequest {
                    remote: remote(&name)?,
                    lifetime: time("--ttl", ttl, TOKEN_LIFETIMES, "1h")?,
                    approval: match approval {
                        ApprovalArg::Automatic => Approval::Automatic,
                        ApprovalArg::Manual => Approval::Manual,
                    },
                    cluster_uid: cluster_uid
                        .map(|uid| short("--cluster-uid", uid, CLUSTER_UID_MAX))
                        .transpose()?,
                    chart,
                    output,
                };
                central.operation(Order::TokenCreate(request))
            }
            Self::List { output, central } => central.operation(Order::TokenList(output.output)),
            Self::Revoke { token, central } => central.operation(Order::TokenRevoke(id_or_name(token)?)),
        }
    }
}

impl JoinOrders {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        match self {
            Self::List { output, central } => central.operation(Order::JoinList(output.output)),
            Self::Approve { join, central } => central.operation(Order::JoinApprove(id_or_name(join)?)),
            Self::Deny { join, central } => central.operation(Order::JoinDeny(id_or_name(join)?)),
        }
    }
}

impl RevokeArgs {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        let order = Order::Revoke {
            remote: remote(&self.name)?,
            reason: short("--reason", self.reason, limits::DETAIL_MAX_BYTES)?,
            unknown: self.unknown,
        };
        self.central.operation(order)
    }
}

impl CheckArgs {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        let limit = time("--timeout", self.timeout, CHECK_TIMES, "10s")?;
        self.central.operation(Order::Check { limit })
    }
}

impl ReleaseArgs {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        self.central.operation(Order::Release(remote(&self.name)?))
    }
}

impl IdentityOrders {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        let Self::List { output, central } = self;
        central.operation(Order::IdentityList(output.output))
    }
}

impl CaOrders {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        let name = |args: SecretArgs| secret(args.link_ca_secret);
        match self {
            Self::Show {
                output,
                secret,
                central,
            } => central.operation(Order::CaShow {
                secret: name(secret)?,
                output: output.output,
            }),
            Self::Begin { secret, central } => central.operation(Order::CaBegin(name(secret)?)),
            Self::Switch { secret, central } => central.operation(Order::CaSwitch(name(secret)?)),
            Self::Drop {
                forget,
                secret,
                central,
            } => central.operation(Order::CaDrop {
                secret: name(secret)?,
                forget: forget.iter().map(|name| remote(name)).collect::<Result<_, _>>()?,
            }),
        }
    }
}

impl MeshCaOrders {
    pub(super) fn checked(self) -> Result<Operation, ArgsError> {
        match self {
            Self::Show { output, central } => central.operation(Order::MeshCaShow(output.output)),
            Self::ForgetRoot {
                fingerprint,
                force,
                central,
            } => central.operation(Order::MeshCaForgetRoot {
                fingerprint: fingerprint_digits(&fingerprint)?,
                force,
            }),
        }
    }
}

/// As people copy it: `openssl` writes capitals and colons.
fn fingerprint_digits(text: &str) -> Result<String, ArgsError> {
    let digits: String = text.trim().chars().filter(|sign| *sign != ':').collect();
    let digits = digits.to_ascii_lowercase();
    if (8..=64).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(digits)
    } else {
        Err(ArgsError::Fingerprint(text.to_owned()))
    }
}

fn remote(name: &str) -> Result<RemoteName, ArgsError> {
    RemoteName::new(name).ok_or_else(|| ArgsError::Remote(name.to_owned()))
}

/// An id of a token is made of the signs of a remote's name. Who pastes a whole token means its id.
fn id_or_name(text: String) -> Result<String, ArgsError> {
    if let Ok(token) = text.parse::<Token>() {
        return Ok(token.id().to_owned());
    }
    if RemoteName::new(&text).is_none() {
        // It may be a token that was cut: its secret is not repeated.
        return Err(ArgsError::Remote(text.split('.').next().unwrap_or_default().to_owned()));
    }
    Ok(text)
}

fn short(flag: &'static str, text: String, limit: usize) -> Result<String, ArgsError> {
    let length = text.chars().count();
    if length > limit {
        return Err(ArgsError::Long { flag, length, limit });
    }
    Ok(text)
}
