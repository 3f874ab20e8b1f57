use std::path::Path;

use remote_istio::process::LogFormat;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::test_certificates::{self, TRUST_DOMAIN};

/// Fails a test that hangs; far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// A configuration whose API server does not answer: nobody listens at its port.
async fn config(identity: &str) -> (Config, TempDir) {
    let (certificate_files, folder) = test_certificates::LinkCa::new().files(identity);
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = free.local_addr().expect("bound");
    drop(free);
    let kubeconfig = folder.path().join("kubeconfig");
    write_kubeconfig(&kubeconfig, nobody);
    let config = Config {
        namespace: "istio-system".to_owned(),
        service_namespaces: ["istio-system".to_owned()].into(),
        trust_domain: TRUST_DOMAIN.to_owned(),
        link: LinkCa::Files(certificate_files),
        enrolment_address: SocketAddr::from(([127, 0, 0, 1], 0)),
        public_sync: vec!["127.0.0.1:8444".parse().expect("an address")],
        public_enrolment: vec!["127.0.0.1:8443".parse().expect("an address")],
        public_service: None,
        certificate_lifetime: Duration::from_hours(24),
        recovery_period: Duration::from_hours(24),
        mesh_signing: None,
        sync_address: SocketAddr::from(([127, 0, 0, 1], 0)),
        metrics_address: SocketAddr::from(([127, 0, 0, 1], 0)),
        deletion_limit: 5,
        replica: "hub-0".to_owned(),
        kubeconfig: Some(kubeconfig),
        log_format: LogFormat::Text,
        log_level: "info".to_owned(),
    };
    (config, folder)
}

fn write_kubeconfig(path: &Path, server: SocketAddr) {
    let text = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "central",
        "clusters": [{"name": "central", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "hub", "user": {}}],
        "contexts": [{"name": "central", "context": {"cluster": "central", "user": "hub"}}],
    });
    std::fs::write(path, text.to_string()).expect("a kubeconfig is written");
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request is taken");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(PATIENCE, read).await.expect("in time").expect("an answer");
    answer
}

#[tokio::test]
async fn hub_without_central_lives_says_what_it_waits_for_and_stops_when_asked() {
    let (config, _folder) = config("hub").await;
    let running = start(config).await.expect("it starts");
    let address = running.metrics_address();
    assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = fetch(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    for waits_for in ["watches: ", "link: the first lists of all watches"] {
        assert!(ready.contains(waits_for), "{ready}");
    }
    let metrics = fetch(address, "/metrics").await;
    for name in [
        "remote_istio_hub_sessions 0.0",
        r#"remote_istio_hub_pending{lane="endpoints"} 0.0"#,
        r#"remote_istio_hub_handshakes_refused_total{reason="unknown_ca"} 0"#,
        "remote_istio_hub_certificate_expiry_timestamp_seconds 4102444800.0",
        r#"remote_istio_hub_watch_lists_total{kind="pods",namespace="istio-system"} 0"#,
        "process_resident_memory_bytes ",
    ] {
        assert!(
            metrics.lines().any(|line| line.starts_with(name)),
            "{name} in {metrics}"
        );
    }
    running.stop().cancel();
    let ended = timeout(PATIENCE, running.wait()).await.expect("in time");
    ended.expect("a good end");
}

#[tokio::test]
async fn certificate_of_a_remote_is_no_hubs() {
    let (config, _folder) = config("remote/remote-1").await;
    let error = start(config).await.expect_err("not a hub's certificate");
    assert_eq!(error.exit_code(), EXIT_CONFIGURATION);
    let text = error.to_string();
    assert!(text.starts_with("--certificate "), "{text}");
    assert!(
        text.ends_with("a hub's must stand for spiffe://mesh.test/hub"),
        "{text}"
    );
}

#[tokio::test]
async fn address_that_is_taken_and_kubeconfig_that_is_missing_name_their_flags() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound");
    let (config, _folder) = config("hub").await;
    let sync = Config {
        sync_address: address,
        ..config.clone()
    };
    let metrics = Config {
        metrics_address: address,
        ..config.clone()
    };
    let kubeconfig = Config {
        kubeconfig: Some("/nowhere".into()),
        ..config
    };
    for (flag, config) in [
        ("--sync-address", sync),
        ("--metrics-address", metrics),
        ("--kubeconfig", kubeconfig),
    ] {
        let error = start(config).await.expect_err(flag);
        assert_eq!(error.exit_code(), EXIT_CONFIGURATION);
        assert!(error.to_string().starts_with(flag), "{error}");
    }
}
