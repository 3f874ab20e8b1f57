//! The command by which an agent leaves its remote.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use remote_istio::identity::{DEFAULT_TRUST_DOMAIN, RemoteName, is_trust_domain};
use remote_istio::model::is_dns_label;
use remote_istio::process::LogFormat;

use super::service_namespaces;
use super::source::{IDENTITY_SECRET, name};

/// What leaving needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The agent's own namespace.
    pub namespace: String,
    /// Where it may have written services.
    pub service_namespaces: BTreeSet<String>,
    /// The Secret of its identity, which says whose objects are to go.
    pub identity_secret: String,
    /// The Secret is left as it is; else it is emptied once nothing is left.
    pub keep_identity: bool,
    /// Whose objects are to go, where neither Secret nor records say it.
    pub remote: Option<RemoteName>,
    /// Of that remote.
    pub trust_domain: String,
    /// For everything.
    pub timeout: Duration,
    /// How to reach the API server; nothing: as a pod does, or as kubectl would.
    pub kubeconfig: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_level: String,
}

#[derive(Debug, Args)]
pub(super) struct LeaveFlags {
    /// The agent's own namespace, where its records are
    #[arg(
        long,
        env = "REMOTE_ISTIO_NAMESPACE",
        value_name = "NAME",
        default_value = "istio-system"
    )]
    namespace: String,
    /// Namespaces the agent may have written services into; default: its own
    #[arg(
        long,
        env = "REMOTE_ISTIO_SERVICE_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    service_namespaces: Vec<String>,
    /// The Secret with the agent's identity, emptied once nothing is left. Default: remote-istio-agent-identity
    #[arg(long, env = "REMOTE_ISTIO_IDENTITY_SECRET", value_name = "NAME")]
    identity_secret: Option<String>,
    // No doc comment: it would need marks that help texts do not want.
    #[arg(
        long,
        help = "Leave the identity where it is: an agent that comes back needs no token",
        env = "REMOTE_ISTIO_KEEP_IDENTITY",
        value_name = "true|false",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    keep_identity: bool,
    /// Whose objects are to go, where neither that Secret nor the records say it
    #[arg(long, env = "REMOTE_ISTIO_REMOTE", value_name = "NAME")]
    remote: Option<String>,
    /// Trust domain of --remote; default: remote-istio.local
    #[arg(long, env = "REMOTE_ISTIO_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// For everything together
    #[arg(long, env = "REMOTE_ISTIO_TIMEOUT", value_name = "DURATION", default_value = "2m")]
    timeout: humantime::Duration,
    /// How to reach the API server; default: in-cluster, else as kubectl would
    #[arg(long, env = "REMOTE_ISTIO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, env = "REMOTE_ISTIO_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: String,
    /// Which log lines are written, to the standard error
    #[arg(long, env = "REMOTE_ISTIO_LOG_LEVEL", value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

pub(super) fn check(flags: LeaveFlags) -> Result<Leave, String> {
    if !is_dns_label(&flags.namespace) {
        return Err(format!("--namespace {:?} is not a namespace's name", flags.namespace));
    }
    let remote = flags.remote.filter(|name| !name.is_empty());
    let remote = remote.map(|name| {
        let known = RemoteName::new(&name);
        known.ok_or_else(|| format!("--remote {name:?} is not the name of a RemoteIstio"))
    });
    let trust_domain = flags.trust_domain.filter(|domain| !domain.is_empty());
    let trust_domain = trust_domain.unwrap_or_else(|| DEFAULT_TRUST_DOMAIN.to_owned());
    if !is_trust_domain(&trust_domain) {
        return Err(format!("--trust-domain {trust_domain:?} is not a DNS name"));
    }
    Ok(Leave {
        service_namespaces: service_namespaces(&flags.service_namespaces, &flags.namespace)?,
        identity_secret: name(flags.identity_secret, "--identity-secret", IDENTITY_SECRET)?,
        namespace: flags.namespace,
        keep_identity: flags.keep_identity,
        remote: remote.transpose()?,
        trust_domain,
        timeout: flags.timeout.into(),
        kubeconfig: flags.kubeconfig.filter(|path| !path.as_os_str().is_empty()),
        log_format: flags
            .log_format
            .parse::<LogFormat>()
            .map_err(|error| error.to_string())?,
        log_level: flags.log_level,
    })
}
