//! The command that says what works of an agent and what does not.

use std::time::Duration;

use clap::Args;

use super::{Config, Flags};

/// What a check needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The agent's configuration.
    pub config: Config,
    /// Where the running agent serves its health, without a path.
    pub agent: String,
    /// For everything.
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct CheckFlags {
    #[command(flatten)]
    flags: Flags,
    // No doc comment: it would need marks that help texts do not want.
    #[arg(
        long,
        help = "Where the running agent serves its health; default: http://remote-istio-agent.NAMESPACE.svc:8080",
        env = "REMOTE_ISTIO_AGENT_URL",
        value_name = "URL"
    )]
    agent: Option<String>,
    /// For everything together
    #[arg(long, env = "REMOTE_ISTIO_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    timeout: humantime::Duration,
}

pub(super) fn check(flags: CheckFlags) -> Result<Check, String> {
    let config = super::check(flags.flags)?;
    let agent = flags.agent.filter(|url| !url.is_empty());
    let agent = agent.unwrap_or_else(|| format!("http://remote-istio-agent.{}.svc:8080", config.namespace));
    if !agent.starts_with("http://") {
        return Err(format!("--agent {agent:?} is no address such as http://127.0.0.1:8080"));
    }
    Ok(Check {
        config,
        agent,
        timeout: flags.timeout.into(),
    })
}
