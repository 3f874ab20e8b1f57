//! Writes into etcd past the API server, through etcd's own JSON gateway.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sets one key.
pub async fn put(etcd: SocketAddr, key: &str, value: &str) -> Result<()> {
    let base64 = |text: &str| ByteString(text.as_bytes().to_vec());
    let body = json!({"key": base64(key), "value": base64(value)}).to_string();
    let request = format!(
        "POST /v3/kv/put HTTP/1.1\r\nHost: {etcd}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(etcd).await.context("connecting to etcd")?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "etcd said {answer}");
    Ok(())
}
