//! Whether the sidecar injector serves: every ready pod of its Service is asked for its certificate, as the API server
//! would ask. Before that the webhook would only block pods.

mod certificate;
mod endpoints;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::apply::explain;
use crate::driver::Finding;
use crate::engine::{Served, Wants};
use crate::metrics::Metrics;
use certificate::Trusted;
use endpoints::ready;

/// Between two looks until the injector serves.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks while it serves.
const SERVED_LOOK: Duration = Duration::from_secs(30);

/// Between two looks while the injector is not wanted, in case the engine has said so and nobody heard.
const IDLE_LOOK: Duration = Duration::from_mins(1);

/// Its Service.
const SERVICE: &str = "istio-sidecar-injector";

/// The Secret that Citadel makes for it, with its certificate and whom that was signed by.
const SECRET: &str = "istio.istio-sidecar-injector-service-account";

/// The roots in it, PEM.
const ROOTS: &str = "root-cert.pem";

/// Looks after the injector until `stop`, and tells what is new.
pub async fn run(
    client: Client,
    namespace: String,
    mut wants: watch::Receiver<Wants>,
    findings: mpsc::Sender<Finding>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let looking = async {
        let mut known = Served::Unknown;
        loop {
            let is_wanted = wants.borrow_and_update().injector;
            let served = if is_wanted {
                look(&client, &namespace, &metrics).await
            } else {
                Served::Unknown
            };
            let pause = match (&served, is_wanted) {
                (_, false) => IDLE_LOOK,
                (Served::Yes { .. }, true) => SERVED_LOOK,
                _ => LOOK,
            };
            if served != known {
                log(&served);
                known = served.clone();
                if findings.send(Finding::Injector(served)).await.is_err() {
                    break;
                }
            }
            wait(&mut wants, is_wanted, pause).await;
        }
        // The driver has ended; so does the process.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

async fn wait(wants: &mut watch::Receiver<Wants>, was_wanted: bool, pause: Duration) {
    let other = async {
        loop {
            match wants.changed().await {
                Ok(()) if wants.borrow().injector == was_wanted => {}
                Ok(()) => return,
                Err(_) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = other => {}
        () = sleep(pause) => {}
    }
}

fn log(served: &Served) {
    match served {
        Served::Unknown => tracing::debug!("the injector is not wanted"),
        Served::Not(why) => tracing::info!(%why, "the injector does not serve"),
        Served::Yes { .. } => tracing::info!("the injector serves"),
    }
}

async fn look(client: &Client, namespace: &str, metrics: &Metrics) -> Served {
    let found = probe(client, namespace).await;
    metrics.injector_probe(if found.is_ok() { "served" } else { "not_served" });
    match found {
        Ok(ca_bundle) => Served::Yes { ca_bundle },
        Err(why) => Served::Not(why),
    }
}

/// What the served certificates were verified with; the error says why it is not so far yet.
async fn probe(client: &Client, namespace: &str) -> Result<Vec<u8>, String> {
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let selected = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
    let slices = slices.list(&selected).await;
    let slices = slices.map_err(|error| format!("the injector's addresses cannot be read: {}", explain(&error)))?;
    let ready = ready(&slices.items);
    if ready.is_empty() {
        return Err("no pod of the injector is ready".to_owned());
    }
    let bundle = bundle(client, namespace).await?;
    let trusted = Trusted::new(&bundle, &format!("{SERVICE}.{namespace}.svc"))?;
    // One that does not serve would fail its share of all new pods.
    for address in ready {
        trusted.check(address).await?;
    }
    Ok(bundle)
}

async fn bundle(client: &Client, namespace: &str) -> Result<Vec<u8>, String> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(SECRET).await;
    let secret = secret.map_err(|error| {
        let error = explain(&error);
        format!(
            "the Secret {SECRET} cannot be read: {error}; set components.sidecarInjector.enabled=true of chart \
             remote-istio-agent, or apply deploy/roles/components.yaml"
        )
    })?;
    let secret = secret.ok_or_else(|| format!("Citadel has not made the Secret {SECRET} yet"))?;
    let mut data = secret.data.unwrap_or_default();
    let roots = data.remove(ROOTS);
    for value in data.values_mut() {
        // The injector's own key is among them.
        zeroize::Zeroize::zeroize(&mut value.0);
    }
    roots
        .map(|roots| roots.0)
        .filter(|roots| !roots.is_empty())
        .ok_or_else(|| format!("the Secret {SECRET} lacks {ROOTS}"))
}
