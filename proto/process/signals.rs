//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::EXIT_FAILURE;

/// Listens from now on. The future cancels `stop` at the first SIGTERM or SIGINT and exits the process with
/// [`EXIT_FAILURE`] at the second; it never ends by itself. Poll it apart from what it may have to interrupt.
///
/// # Errors
/// The system does not let signals be caught.
pub fn shutdown_signal(stop: CancellationToken) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if stop.is_cancelled() {
                tracing::warn!(signal = name, "asked again to stop, exiting at once");
                std::process::exit(i32::from(EXIT_FAILURE));
            }
            tracing::info!(signal = name, "asked to stop");
            stop.cancel();
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn first_signal_asks_to_stop() {
        let stop = CancellationToken::new();
        let listening = tokio::spawn(shutdown_signal(stop.clone()).expect("signals can be caught"));
        let own = std::process::id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &own])
                .status()
                .expect("kill runs")
                .success()
        );
        tokio::time::timeout(Duration::from_mins(1), stop.cancelled())
            .await
            .expect("the signal was heard");
        assert!(!listening.is_finished());
        listening.abort();
    }
}
