//! One etcd; any number of API servers store in it, each under a prefix of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use crate::folder::Folder;
use crate::guardian::{CommandLine, Guarded};
use crate::tools::{Tool, Tools};
use crate::{http, ports};

/// From start to the first answer; on a busy machine.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// From one try to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running etcd; it ends with the last handle.
#[derive(Debug)]
pub struct Etcd {
    client: SocketAddr,
    process: Mutex<Guarded>,
    folder: Arc<Folder>,
}

impl Etcd {
    /// Starts one on free ports and waits until it answers.
    ///
    /// # Errors
    /// The tools cannot be built, or it does not start: the text has the end of its log.
    pub async fn start() -> Result<Arc<Self>> {
        let tools = Tools::ready().await?;
        let folder = Folder::create("etcd")?;
        let (client, peer) = (ports::free()?, ports::free()?);
        let line = CommandLine::new("etcd", tools.path(Tool::Etcd), folder.log("etcd"))
            .flag("data-dir", folder.data("etcd"))
            .flag("listen-client-urls", format!("http://{client}"))
            .flag("advertise-client-urls", format!("http://{client}"))
            .flag("listen-peer-urls", format!("http://{peer}"))
            .flag("initial-advertise-peer-urls", format!("http://{peer}"))
            .flag("initial-cluster", format!("default=http://{peer}"))
            .argument("--unsafe-no-fsync")
            .flag("log-level", "error");
        let process = line.start()?;
        let answered = async {
            loop {
                if let Some(code) = process.exited() {
                    bail!("etcd ended with code {code}:\n{}", line.log_tail());
                }
                if matches!(http::get(client, "/health").await, Ok((200, _))) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(START_DEADLINE, answered)
            .await
            .with_context(|| format!("etcd does not answer after {START_DEADLINE:?}:\n{}", line.log_tail()))??;
        Ok(Arc::new(Self {
            client,
            process: Mutex::new(process),
            folder,
        }))
    }

    /// Where it listens, without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.lock().pid()
    }

    /// Its log and data.
    #[must_use]
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }
}
