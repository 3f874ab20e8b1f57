//! What the commands that do one thing on central and end are told, checked.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use remote_istio::identity::RemoteName;

use crate::crd::Approval;

/// One thing to do on central.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Namespace of the hub.
    pub namespace: String,
    /// Kubeconfig of the central cluster; nothing: as the environment says.
    pub kubeconfig: Option<PathBuf>,
    /// What to do there.
    pub order: Order,
}

/// What can be done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make a join token.
    TokenCreate(TokenRequest),
    /// Show the tokens.
    TokenList(Output),
    /// Make tokens worthless: that with this id, or all of this remote.
    TokenRevoke(String),
    /// Show the joins that wait for a person.
    JoinList(Output),
    /// Let a join that waits go on: that of this remote, or of the token with this id.
    JoinApprove(String),
    /// Refuse a join that waits: that of this remote, or of the token with this id.
    JoinDeny(String),
    /// Cut a remote off.
    Revoke {
        /// The remote.
        remote: RemoteName,
        /// For people; may be empty.
        reason: String,
        /// Also where nothing is known by the name.
        unknown: bool,
    },
    /// Let another cluster join by the name.
    Release(RemoteName),
    /// Show the identities of remotes.
    IdentityList(Output),
    /// Show the CA.
    CaShow {
        /// Its Secret.
        secret: String,
        /// How.
        output: Output,
    },
    /// Add a new CA to the trust; its Secret.
    CaBegin(String),
    /// Let the new CA sign; its Secret.
    CaSwitch(String),
    /// Take the old CA out of the trust.
    CaDrop {
        /// The Secret.
        secret: String,
        /// Remotes that are cut off if they stand in the way.
        forget: Vec<RemoteName>,
    },
    /// Dial the addresses that remotes are told.
    Check {
        /// For each of them.
        limit: Duration,
    },
    /// Show whom the mesh trusts.
    MeshCaShow(Output),
    /// Trust an earlier root of the mesh no longer.
    MeshCaForgetRoot {
        /// Of the root: hex digits, or their beginning.
        fingerprint: String,
        /// Also while a remote may still need it.
        force: bool,
    },
}

/// What token is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The only remote that may join by it.
    pub remote: RemoteName,
    /// How long it is good.
    pub lifetime: Duration,
    /// Whether a person must approve the join.
    pub approval: Approval,
    /// The only cluster that may join by it, where given.
    pub cluster_uid: Option<String>,
    /// Where the remote's administrator finds the agent's chart.
    pub chart: String,
    /// How it is shown.
    pub output: TokenOutput,
}

/// How something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How a new token is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TokenOutput {
    /// With the commands that install the agent.
    #[default]
    Text,
    /// For programs.
    Json,
    /// The token alone, to be piped into another command.
    Token,
}
