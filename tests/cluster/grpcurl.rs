//! The real grpcurl, as a person would use it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use support::ca::Files;
use support::eventually::PATIENCE;
use support::tools::{Tool, Tools};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Opens a session, sends `first`, and returns what the hub said once `enough` says so.
pub async fn session(hub: SocketAddr, files: &Files, first: &Value, enough: impl Fn(&str) -> bool) -> String {
    let tools = Tools::ready().await.expect("the tools");
    let protocol = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut process = Command::new(tools.path(Tool::Grpcurl))
        .arg("-cacert")
        .arg(&files.trust_bundle)
        .arg("-cert")
        .arg(&files.certificate)
        .arg("-key")
        .arg(&files.key)
        .arg("-import-path")
        .arg(&protocol)
        .args(["-proto", "remoteistio/v1/sync.proto", "-d", "@"])
        .arg(hub.to_string())
        .arg("remoteistio.v1.Sync/Session")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("grpcurl starts");
    let mut stdin = process.stdin.take().expect("piped");
    stdin.write_all(first.to_string().as_bytes()).await.expect("written");
    stdin.flush().await.expect("written");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let mut said = String::new();
    let read = async {
        while let Some(line) = lines.next_line().await.expect("grpcurl's output") {
            said.push_str(&line);
            said.push('\n');
            if enough(&said) {
                break;
            }
        }
    };
    let in_time = timeout(PATIENCE, read).await.is_ok();
    // Its input stays open until here: the end of it would end the stream.
    drop(stdin);
    process.kill().await.expect("grpcurl ends");
    let mut errors = String::new();
    if let Some(mut stderr) = process.stderr.take() {
        tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut errors)
            .await
            .expect("grpcurl's errors");
    }
    assert!(in_time && enough(&said), "grpcurl said {said:?} and {errors:?}");
    said
}
