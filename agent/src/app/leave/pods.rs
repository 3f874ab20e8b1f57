//! Whether an agent still runs here: it would put back what leaving takes away.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Error, ResourceExt as _};
use tokio::time::{Instant, sleep};

use super::LeaveError;
use crate::apply::explain;

/// Pods of agents, and not those of commands like this one.
const AGENTS: &str = "app.kubernetes.io/name=remote-istio-agent,app.kubernetes.io/component notin (leave,check)";

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until no pod of an agent runs. Whether that could be seen at all.
pub(super) async fn until_gone(client: &Client, namespace: &str, deadline: Instant) -> Result<bool, LeaveError> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let mut running;
    loop {
        running = match pods.list(&ListParams::default().labels(AGENTS)).await {
            Ok(listed) => listed
                .items
                .iter()
                .filter(|pod| runs(pod))
                .map(described)
                .collect::<Vec<_>>()
                .join(", "),
            Err(Error::Api(status)) if status.code == 403 => return Ok(false),
            Err(error) => explain(&error),
        };
        if running.is_empty() {
            return Ok(true);
        }
        if Instant::now() + LOOK >= deadline {
            return Err(LeaveError::Running(namespace.to_owned(), running));
        }
        sleep(LOOK).await;
    }
}

fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn described(pod: &Pod) -> String {
    let ending = if pod.metadata.deletion_timestamp.is_some() {
        " (ending)"
    } else {
        ""
    };
    format!("pod {}{ending}", pod.name_any())
}
