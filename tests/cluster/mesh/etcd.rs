//! etcd past the API server, through its own JSON gateway.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One etcd.
#[derive(Clone, Copy, Debug)]
pub struct Etcd(pub SocketAddr);

impl Etcd {
    /// Sets one key.
    pub async fn put(self, key: &str, value: &str) -> Result<()> {
        let body = json!({"key": base64(key), "value": base64(value)});
        self.ask("/v3/kv/put", &body).await.map(|_| ())
    }

    /// Every value under a prefix, with its key.
    pub async fn under(self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        // The first key behind all that begin so: the last letter of a prefix is a slash.
        let end = prefix.strip_suffix('/').context("a prefix ends with a slash")?;
        let body = json!({"key": base64(prefix), "range_end": base64(&format!("{end}0"))});
        let answer = self.ask("/v3/kv/range", &body).await?;
        let pairs = answer["kvs"].as_array().context("no keys")?;
        let text = |value: &Value| serde_json::from_value::<ByteString>(value.clone());
        let read = pairs.iter().map(|pair| {
            let key = String::from_utf8_lossy(&text(&pair["key"])?.0).into_owned();
            Ok((key, text(&pair["value"])?.0))
        });
        read.collect()
    }

    /// Fills the disk, or empties it: what etcd does when it may store no more.
    pub async fn set_full(self, full: bool) -> Result<()> {
        let action = if full { "ACTIVATE" } else { "DEACTIVATE" };
        let body = json!({"action": action, "memberID": "0", "alarm": "NOSPACE"});
        self.ask("/v3/maintenance/alarm", &body).await.map(|_| ())
    }

    async fn ask(self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.0,
            body.len()
        );
        let mut stream = TcpStream::connect(self.0).await.context("connecting to etcd")?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 200"), "etcd said {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { joined(body)? } else { body.to_owned() };
        serde_json::from_str(&body).context("an answer that is not JSON")
    }
}

/// A body that came in chunks.
fn joined(mut chunks: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size.trim(), 16).context("the size of a chunk")?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(rest.get(..size).context("a chunk that is cut")?);
        chunks = rest.get(size + 2..).context("a chunk without an end")?;
    }
}

fn base64(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
