//! How a remote of a playground joins: a token by the hub's own command, a file for the agent, and the first sync.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{Playground, Remote};
use crate::ca::Files;
use crate::deploy::NAMESPACE;
use crate::guardian::tail;
use crate::http;
use crate::pair::Daemon;

/// From the start of an agent to its first sync; on a busy machine.
const JOIN_DEADLINE: Duration = Duration::from_mins(1);

/// From one look to the next: how exact the times are.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where an agent keeps what it got.
const IDENTITY_SECRET: &str = "remote-istio-agent-identity";

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    /// `token create`, with the start of its process.
    pub created: Duration,
    /// From the agent's first line in its log to its first sync; the start of its process is not in it.
    pub synced: Duration,
}

impl Joined {
    /// The whole way, apart from the start of the agent's process and the seconds of the person between the two.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.created + self.synced
    }
}

impl Playground {
    /// Lets one remote join, and waits for its first sync: the addresses of `service`, if one is named, else the hub's
    /// welcome.
    ///
    /// # Errors
    /// It does not join: the text has the end of the agent's log.
    pub async fn join(&mut self, index: usize, service: Option<&str>) -> Result<Joined> {
        let remote = self.remotes.get_mut(index).context("there is no such remote")?;
        let started = Instant::now();
        let invitation = self.hub.operator().invite(&remote.name, &[]).await?;
        let created = started.elapsed();
        write_token(
            &self.folder.access(&format!("{}.token", remote.name)),
            &invitation.token,
        )?;
        let line = remote.agent.command_mut();
        line.set_flag("enrolment", &invitation.enrolments);
        line.set_flag("pin", &invitation.pins);
        remote.agent.start()?;
        let synced_at = tokio::time::timeout(JOIN_DEADLINE, synced(remote, service)).await;
        let log = remote.agent.log_path();
        let Ok(synced_at) = synced_at else {
            bail!(
                "{} has not joined within {JOIN_DEADLINE:?}:\n{}",
                remote.name,
                tail(log)
            );
        };
        let synced_at = synced_at?;
        let began = began(&remote.agent).context("the agent's log has no time")?;
        let joined = Joined {
            created,
            synced: synced_at.duration_since(began).unwrap_or_default(),
        };
        self.export(index).await?;
        Ok(joined)
    }

    /// Writes a remote's certificate and key where a person finds them.
    async fn export(&self, index: usize) -> Result<()> {
        let remote = &self.remotes[index];
        let secrets: Api<Secret> = Api::namespaced(remote.cluster.admin(), NAMESPACE);
        let secret = secrets
            .get(IDENTITY_SECRET)
            .await
            .context("reading the agent's Secret")?;
        let data = secret.data.unwrap_or_default();
        let files = self.exported(remote);
        let folder = files.key.parent().context("a folder")?;
        std::fs::create_dir_all(folder).context("making a folder")?;
        for (key, path) in [
            ("tls.crt", &files.certificate),
            ("tls.key", &files.key),
            ("ca.crt", &files.trust_bundle),
        ] {
            let value = data
                .get(key)
                .with_context(|| format!("the agent's Secret has no {key}"))?;
            std::fs::write(path, &value.0).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Where [`Self::join`] puts a remote's certificate and key.
    pub(super) fn exported(&self, remote: &Remote) -> Files {
        Files::in_folder(&self.folder.access(&remote.name))
    }
}

/// A file that only its owner reads, as a mounted Secret is.
fn write_token(path: &Path, token: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, token.as_bytes()));
    written.with_context(|| format!("writing {}", path.display()))
}

/// The moment of the first sync.
async fn synced(remote: &Remote, service: Option<&str>) -> Result<SystemTime> {
    let client = remote.cluster.admin();
    loop {
        let there = match service {
            Some(service) => has_addresses(&client, service).await?,
            None => matches!(http::get(remote.agent.metrics_address(), "/readyz").await, Ok((200, _))),
        };
        if there {
            return Ok(SystemTime::now());
        }
        if remote.agent.pid().is_none() {
            bail!("the agent has ended:\n{}", remote.agent.command().log_tail());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn has_addresses(client: &Client, service: &str) -> Result<bool> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let listed = slices
        .list(&ListParams::default().labels(&format!("kubernetes.io/service-name={service}")))
        .await
        .context("listing slices")?;
    let mut endpoints = listed.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    Ok(endpoints.any(|endpoint| !endpoint.addresses.is_empty()))
}

/// When the agent wrote the first line of its log.
fn began(agent: &Daemon) -> Option<SystemTime> {
    let log = agent.log();
    let mut stamps = log
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse::<Timestamp>().ok());
    stamps.next().map(SystemTime::from)
}
