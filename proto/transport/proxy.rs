//! A tunnel through an HTTP proxy (CONNECT). TLS runs inside it, from end to end.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::HubAddress;
use super::connect::dial_any;
use super::connect_error::ConnectError;
use super::way::HttpProxy;
use crate::limits;

/// Of a status line, characters that are repeated.
const STATUS_SHOWN: usize = 200;

/// What ends the head of an answer.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Connects to the proxy and has it connect to the hub, whose name the proxy resolves.
pub(super) async fn tunnel(proxy: &HttpProxy, address: &HubAddress) -> Result<TcpStream, ConnectError> {
    tunnel_within(limits::CONNECT_DEADLINE, proxy, address).await
}

/// `deadline` is for the answer alone.
async fn tunnel_within(deadline: Duration, proxy: &HttpProxy, address: &HubAddress) -> Result<TcpStream, ConnectError> {
    let failed = |detail: String| ConnectError::Proxy {
        proxy: proxy.to_string(),
        detail,
    };
    let dialled = dial_any(proxy.host(), proxy.port()).await;
    let (mut stream, _) = dialled.map_err(|error| failed(error.to_string()))?;
    let asked = timeout(deadline, ask(&mut stream, proxy, address)).await;
    asked
        .map_err(|_| failed(format!("it did not say in time whether it connects to {address}")))?
        .map_err(failed)?;
    Ok(stream)
}

async fn ask<S>(stream: &mut S, proxy: &HttpProxy, address: &HubAddress) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: std::io::Error| format!("the connection to it broke: {error}");
    stream
        .write_all(proxy.request(address).as_bytes())
        .await
        .map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = end_of_head(&answer) {
            break end;
        }
        let room = limits::PROXY_ANSWER_MAX_BYTES - answer.len();
        if room == 0 {
            return Err("its answer does not end: is it an HTTP proxy?".to_owned());
        }
        let mut part = [0; 1024];
        let part = &mut part[..room.min(1024)];
        let read = stream.read(part).await.map_err(broken)?;
        if read == 0 {
            return Err("it closed the connection without an answer to CONNECT".to_owned());
        }
        answer.extend_from_slice(&part[..read]);
    };
    judge(&answer[..end], proxy, address)?;
    if answer.len() > end {
        // In TLS the hub does not speak first.
        return Err("it sent something behind its answer: is it an HTTP proxy?".to_owned());
    }
    Ok(())
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    let found = answer.windows(HEAD_END.len()).position(|window| window == HEAD_END);
    found.map(|at| at + HEAD_END.len())
}

fn judge(head: &[u8], proxy: &HttpProxy, address: &HubAddress) -> Result<(), String> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = status_code(line).ok_or("it does not answer in HTTP: is it an HTTP proxy?")?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let hint = match (status, proxy.has_credentials()) {
        (407, false) => "; it wants credentials: set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT",
        (407, true) => "; it does not take the credentials in HTTPS_PROXY",
        _ => "",
    };
    Err(format!("it does not connect to {address}: {}{hint}", shown(line)))
}

/// Of `HTTP/1.x CODE …`.
fn status_code(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let code = rest.get(..3)?;
    let ends = rest.get(3).is_none_or(|byte| *byte == b' ');
    let digits = code.iter().all(u8::is_ascii_digit);
    (ends && digits).then(|| code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

/// Foreign text for a log: printable, and not too much of it.
fn shown(line: &[u8]) -> String {
    let printable = |byte: &u8| {
        if matches!(byte, b' '..=b'~') {
            char::from(*byte)
        } else {
            '?'
        }
    };
    line.iter().take(STATUS_SHOWN).map(printable).collect()
}

#[cfg(test)]
mod tests;
