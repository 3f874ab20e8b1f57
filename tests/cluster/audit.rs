//! The audit log of an API server: what was really written, by whom.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// No write for so long: what is deferred off the hot path is written by then.
const QUIET: Duration = Duration::from_secs(4);

/// One write.
#[derive(Clone, Debug)]
pub struct Event {
    /// Plural kind.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// As the API server names it.
    pub verb: String,
    /// Of the object.
    pub name: String,
    /// Whether the API server did it.
    pub succeeded: bool,
    /// Written by the `ServiceAccount` of a hub or agent in this test's namespace.
    pub is_ours: bool,
}

/// The log from one moment on.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    namespace: String,
    from: usize,
}

impl Audit {
    /// Starts at the end of the log as it is now.
    pub async fn from_now(path: PathBuf, namespace: &str) -> Self {
        let from = tokio::fs::read(&path).await.expect("the audit log").len();
        Self {
            path,
            namespace: namespace.to_owned(),
            from,
        }
    }

    /// Waits until ours have written nothing but leases for a while. A write is in the log only after its effect can be
    /// read, and some are deferred on purpose.
    pub async fn until_quiet(&self) {
        let mut writes = usize::MAX;
        loop {
            let ours = |event: &Event| event.is_ours && event.resource != "leases";
            let now = self.since(ours).await.len();
            if now == writes {
                return;
            }
            writes = now;
            // Silence is the condition here, and it can only be seen by listening for a while.
            tokio::time::sleep(QUIET).await;
        }
    }

    /// The writes since then that `wanted` picks.
    pub async fn since(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let log = tokio::fs::read(&self.path).await.expect("the audit log");
        let accounts = format!("system:serviceaccount:{}:", self.namespace);
        String::from_utf8_lossy(&log[self.from..])
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|event| read(&event, &accounts))
            .filter(wanted)
            .collect()
    }
}

fn read(event: &Value, accounts: &str) -> Event {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    Event {
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        verb: text(&event["verb"]),
        name: text(&object["name"]),
        succeeded: event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300),
        is_ours: text(&event["user"]["username"]).starts_with(accounts),
    }
}
