//! Logs on standard error: constant messages with fields, as text for people or JSON for collectors.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// Libraries that log each failure which their callers already report, once for each reason and in words. Directives
/// that name them bring them back.
const QUIET: &str = "kube_client=off,kube_runtime=off";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line a person reads; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Neither `text` nor `json`.
    #[error("--log-format {0:?} is neither \"text\" nor \"json\"")]
    Format(String),
    /// A filter that does not parse.
    #[error("--log-level {filter:?}: {reason}; write for example \"info\" or \"info,remote_istio=debug\"")]
    Filter {
        /// As given.
        filter: String,
        /// Why it does not parse.
        reason: String,
    },
    /// The process already has a subscriber.
    #[error("logging is already set up: {0}")]
    Twice(String),
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, LoggingError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LoggingError::Format(other.to_owned())),
        }
    }
}

/// Sets up the logs of the whole process. `filter`: a level, or directives as `tracing` reads them.
///
/// # Errors
/// The filter does not parse, or logging is already set up.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let parsed = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(io::stderr);
    let done = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| LoggingError::Twice(error.to_string()))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    let wrong = |reason: String| LoggingError::Filter {
        filter: filter.to_owned(),
        reason,
    };
    if filter.trim().is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    // Alone first, so that the error speaks of nothing but what was given.
    EnvFilter::try_new(filter)
        .and_then(|_| EnvFilter::try_new(format!("{QUIET},{filter}")))
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_and_filter_that_do_not_parse_name_their_flag() {
        let error = "xml".parse::<LogFormat>().expect_err("no format");
        assert!(error.to_string().contains("--log-format"));
        for filter in ["", "remote_istio=loud"] {
            let error = parse_filter(filter).expect_err(filter);
            assert!(error.to_string().contains("--log-level"));
        }
        parse_filter("info,remote_istio=debug").expect("directives");
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        let filter = |text: &str| parse_filter(text).expect("a filter").to_string();
        assert!(filter("info").contains("kube_runtime=off"), "{}", filter("info"));
        let named = filter("info,kube_runtime=debug");
        assert!(
            named.contains("kube_runtime=debug") && !named.contains("kube_runtime=off"),
            "{named}"
        );
    }
}
