use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use remote_istio::process::LogFormat;
use remote_istio::transport::Way;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::args::Enrolment;
use crate::test_ca::{TRUST_DOMAIN, TestCa};

/// Fails a test that hangs; far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A configuration that leads nowhere: neither the API server nor the hub is there.
fn config(identity: &str) -> (Config, TempDir) {
    let ca = TestCa::new();
    let (certificates, folder) = ca.files(identity, &ca);
    let kubeconfig = folder.path().join("kubeconfig");
    write_kubeconfig(&kubeconfig, "http://127.0.0.1:1");
    let config = Config {
        hubs: vec!["localhost:1".parse().expect("an address")],
        way: Way::Direct,
        trust_domain: Some(TRUST_DOMAIN.to_owned()),
        identity: Source::Files(certificates),
        namespace: "istio-system".to_owned(),
        service_namespaces: ["istio-system".to_owned()].into(),
        policy: None,
        endpoints_objects: true,
        metrics_address: (Ipv4Addr::LOCALHOST, 0).into(),
        kubeconfig: Some(kubeconfig),
        log_format: LogFormat::Text,
        log_level: "info".to_owned(),
    };
    (config, folder)
}

fn write_kubeconfig(path: &Path, server: &str) {
    let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "SERVER"}}],
        "users": [{"name": "u", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    fs::write(path, text.replace("SERVER", server)).expect("written");
}

fn not_joined() -> Enrolment {
    Enrolment {
        addresses: vec!["localhost:1".parse().expect("an address")],
        pins: vec![TestCa::new().pin()],
        token_file: "/nowhere/token".into(),
        token_secret: "remote-istio-agent-token".to_owned(),
        identity_secret: "remote-istio-agent-identity".to_owned(),
    }
}

/// Answers whatever it is asked as an API server of that version would be asked for its version.
async fn api_server_of(minor: &str) -> (String, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let text = |word: &str| format!(r#""{word}": "1.{minor}.0""#);
    let others = [
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
        "gitVersion",
    ]
    .map(text);
    let body = format!(r#"{{"major": "1", "minor": "{minor}", {}}}"#, others.join(", "));
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            // Whoever goes away meanwhile asks again.
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, serving)
}

async fn refused(config: Config) -> StartError {
    start(config).await.expect_err("refused")
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn certificate_that_names_no_remote_is_a_configuration_error() {
    let (config, _folder) = config("hub");
    let error = refused(config).await;
    assert_eq!(error.exit_code(), EXIT_CONFIGURATION);
    let text = error.to_string();
    assert!(
        text.starts_with("--certificate ") && text.contains("spiffe://mesh.test/hub"),
        "{text}"
    );
}

#[tokio::test]
async fn file_that_is_missing_is_a_configuration_error_that_names_its_flag() {
    let (good, _folder) = config("remote/remote-1");
    let mut wrong = good.clone();
    if let Source::Files(files) = &mut wrong.identity {
        files.key = "/nowhere/tls.key".into();
    }
    let error = refused(wrong).await;
    assert_eq!(error.exit_code(), EXIT_CONFIGURATION);
    assert!(error.to_string().starts_with("--key /nowhere/tls.key"), "{error}");

    let mut wrong = good;
    wrong.kubeconfig = Some("/nowhere/kubeconfig".into());
    let error = refused(wrong).await;
    assert_eq!(error.exit_code(), EXIT_CONFIGURATION);
    assert!(
        error.to_string().starts_with("--kubeconfig /nowhere/kubeconfig"),
        "{error}"
    );
}

#[tokio::test]
async fn address_that_is_taken_is_worth_a_restart() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let (mut config, _folder) = config("remote/remote-1");
    config.metrics_address = taken.local_addr().expect("bound");
    let error = refused(config).await;
    assert_eq!(error.exit_code(), EXIT_FAILURE);
    assert!(error.to_string().starts_with("--metrics-address "), "{error}");
}

#[tokio::test]
async fn agent_without_api_server_and_hub_lives_says_what_it_waits_for_and_stops_when_asked() {
    let (config, _folder) = config("remote/remote-1");
    let mut running = start(config).await.expect("started");
    assert_eq!(running.remote().map(RemoteName::as_str), Some("remote-1"));
    let address = running.metrics_address();
    let waiting = async {
        loop {
            let answer = fetch(address, "/readyz").await;
            if answer.contains("watches: version of the API server: ") {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it says what it waits for");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("hub: first lists of the watches"), "{answer}");
    assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(
        fetch(address, "/metrics")
            .await
            .contains("remote_istio_agent_session_up 0")
    );
    running.stop_token().cancel();
    running.wait().await.expect("asked for");
    running.stop().await.expect("in good order");
}

#[tokio::test]
async fn agent_without_an_identity_says_what_it_waits_for_and_stops_when_asked() {
    let (mut config, _folder) = config("remote/remote-1");
    config.identity = Source::Enrolled(not_joined());
    let mut running = start(config).await.expect("started");
    assert_eq!(running.remote(), None);
    let address = running.metrics_address();
    let waiting = async {
        while !fetch(address, "/readyz")
            .await
            .contains("identity: version of the API server: ")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it says what it waits for");
    running.stop_token().cancel();
    running.wait().await.expect("asked for");
    running.stop().await.expect("in good order");
}

#[tokio::test]
async fn cluster_that_is_too_old_ends_the_agent_for_good_with_or_without_an_identity() {
    for joined in [true, false] {
        let (mut config, folder) = config("remote/remote-1");
        let (url, _serving) = api_server_of("32").await;
        write_kubeconfig(&folder.path().join("kubeconfig"), &url);
        if !joined {
            config.identity = Source::Enrolled(not_joined());
        }
        let mut running = start(config).await.expect("started");
        let ended = tokio::time::timeout(PATIENCE, running.wait()).await.expect("it ends");
        let error = anyhow::Error::from(ended.expect_err("it cannot run"));
        let text = format!("{error:#}");
        assert!(
            text.contains("Kubernetes 1.32.0, at least 1.33 is needed"),
            "{joined}: {text}"
        );
        assert_eq!(process::exit_code(&error), EXIT_CONFIGURATION, "{joined}");
    }
}
