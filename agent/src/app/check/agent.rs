//! The running agent's own word on how it is.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the whole answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// More than any answer has.
const MAX_BYTES: u64 = 64 * 1024;

/// What the agent says at `/readyz`.
///
/// # Errors
/// It is not ready, or does not answer: the text says which.
pub(super) async fn ready(url: &str) -> Result<String, String> {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let answer = match timeout(DEADLINE, get(authority)).await {
        Ok(answer) => answer.map_err(|error| format!("{url} does not answer: {error}; does the agent's pod run?"))?,
        Err(_) => return Err(format!("{url} does not answer in time; does the agent's pod run?")),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => Ok(format!("{url} is ready")),
        "503" => Err(format!("{url} is not ready: {body}")),
        other => Err(format!(
            "{url} answers {other:?}: is this the agent's port for health and metrics?"
        )),
    }
}

async fn get(authority: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
