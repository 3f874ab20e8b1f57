//! The command over what Citadel left behind.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with the Secrets that Citadel minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// What to do.
    pub action: MintedAction,
    /// How to reach the API server; nothing: as a pod does, or as kubectl would.
    pub kubeconfig: Option<PathBuf>,
}

/// What to do with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintedAction {
    /// Show them.
    List,
    /// Delete them.
    Remove {
        /// A person has said so.
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct MintedFlags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show them; no key is read
    List(Reach),
    /// Delete them, once Citadel is gone
    Remove {
        /// Do it: without this they are only shown
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Debug, Args)]
struct Reach {
    /// How to reach the API server; default: in-cluster, else as kubectl would
    #[arg(long, env = "REMOTE_ISTIO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl From<MintedFlags> for Minted {
    fn from(flags: MintedFlags) -> Self {
        let (action, reach) = match flags.action {
            Action::List(reach) => (MintedAction::List, reach),
            Action::Remove { yes, reach } => (MintedAction::Remove { yes }, reach),
        };
        Self {
            action,
            kubeconfig: reach.kubeconfig.filter(|path| !path.as_os_str().is_empty()),
        }
    }
}
