//! Health and metrics over HTTP/1.1, bounded so that slow or idle clients cannot hold it.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::readiness::Readiness;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 128;

/// From connect to the end of the request's head.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// One connection, which carries one request.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(15);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The content type of `OpenMetrics` text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: cannot listen: {source}")]
pub struct BindError {
    /// The flag that gave the address.
    pub flag: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// The bound admin listener.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds; port 0 takes a free one. `flag`: the flag that gave the address, for the error.
    ///
    /// # Errors
    /// The address is taken or not of this machine.
    pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<Self, BindError> {
        let wrong = |source| BindError { flag, address, source };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`. Requests that still run then are dropped.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let answered = answer(stream, router.clone());
                    connections.spawn(async move {
                        answered.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting an admin connection failed, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One request a connection: nothing is left open that would have to be watched.
async fn answer(stream: TcpStream, router: Router) {
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server
        .http1()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_) => tracing::debug!("an admin connection was too slow"),
    }
}

/// `/livez`, `/readyz` and `/metrics`. Add routes of your own before serving.
pub fn admin_router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let unmet = readiness.unmet();
    if unmet.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let body = unmet.into_iter().fold(String::new(), |mut body, (name, waits_for)| {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "{name}: {waits_for}");
        body
    });
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], body)),
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::stats::ProcessStats;
    use super::*;

    struct Running {
        address: SocketAddr,
        readiness: Readiness,
        _server: JoinSet<()>,
    }

    async fn start() -> Running {
        let readiness = Readiness::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessStats));
        let admin = Admin::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--metrics-address")
            .await
            .expect("a free port");
        let address = admin.address();
        let mut server = JoinSet::new();
        server.spawn(admin.serve(
            admin_router(readiness.clone(), Arc::new(registry)),
            CancellationToken::new(),
        ));
        Running {
            address,
            readiness,
            _server: server,
        }
    }

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request is taken");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("the answer ends the connection");
        answer
    }

    #[tokio::test]
    async fn readyz_lists_what_is_not_met() {
        let running = start().await;
        let hub = running.readiness.condition("hub");
        hub.waits_for("first welcome");
        let answer = fetch(running.address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("hub: first welcome\n"), "{answer}");
        hub.met();
        assert!(fetch(running.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(running.address, "/livez").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_and_hold_those_of_the_process() {
        let running = start().await;
        let answer = fetch(running.address, "/metrics").await;
        assert!(answer.contains(OPEN_METRICS), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        let value = |name: &str| -> f64 {
            let line = answer.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes ") > 1024.0 * 1024.0);
        assert!(value("process_open_fds ") > 3.0);
        assert!(value("process_start_time_seconds ") > 1.7e9);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }

    #[tokio::test]
    async fn silent_clients_do_not_hold_the_endpoint() {
        let running = start().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS / 2 {
            silent.push(TcpStream::connect(running.address).await.expect("it listens"));
        }
        assert!(fetch(running.address, "/livez").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn address_that_is_taken_names_the_flag() {
        let running = start().await;
        let error = Admin::bind(running.address, "--metrics-address")
            .await
            .expect_err("taken");
        assert!(
            error
                .to_string()
                .starts_with(&format!("--metrics-address {}", running.address)),
            "{error}"
        );
    }
}
