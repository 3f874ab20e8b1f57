//! What works of an agent and what does not, line by line: what `helm test` runs in a remote.

mod agent;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use remote_istio::process::EXIT_FAILURE;
use remote_istio::tls::TlsSource;
use remote_istio::transport::HubAddress;
use tokio::time::timeout;

use super::clients::Clients;
use super::{cluster, from_files};
use crate::apply::explain;
use crate::args::{Check, Enrolment, Source};
use crate::identity::{Contents, Kept, Store, read_token};
use crate::link::probe;

/// For a name resolution that hangs when the process ends.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    /// It does not, and another does in its place.
    Spare,
    Fails,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Works => "ok",
            Self::Spare => "warn",
            Self::Fails => "FAIL",
        })
    }
}

/// Lines as they are found, and whether one of them failed.
#[derive(Debug, Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn line(&mut self, verdict: Verdict, part: &str, text: &str) {
        self.failed |= verdict == Verdict::Fails;
        // With nobody to read it the exit code still tells.
        let _ = writeln!(
            io::stdout(),
            "{verdict:4}  {part:10}  {}",
            text.trim().replace('\n', "; ")
        );
    }

    fn result(&mut self, part: &str, result: Result<String, String>) {
        match result {
            Ok(text) => self.line(Verdict::Works, part, &text),
            Err(text) => self.line(Verdict::Fails, part, &text),
        }
    }
}

/// Says what works and what does not; 0 if everything does.
#[must_use]
pub fn run_check(check: &Check) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be had: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let mut report = Report::default();
    let in_time = runtime.block_on(async { timeout(check.timeout, carry_out(check, &mut report)).await });
    if in_time.is_err() {
        let text = format!("not done within {}", humantime::format_duration(check.timeout));
        report.line(Verdict::Fails, "time", &text);
    }
    runtime.shutdown_timeout(LAST_BREATH);
    if report.failed {
        ExitCode::from(EXIT_FAILURE)
    } else {
        ExitCode::SUCCESS
    }
}

async fn carry_out(check: &Check, report: &mut Report) {
    let clients = Clients::load(check.config.kubeconfig.as_deref()).await;
    let clients = match clients {
        Ok(clients) => Some(clients),
        Err(error) => {
            report.line(Verdict::Fails, "API server", &error.to_string());
            None
        }
    };
    if let Some(clients) = &clients {
        report.result("API server", api_server(clients).await);
    }
    let identity = identity(check, clients.as_ref()).await;
    let (said, found) = match identity {
        Ok((text, tls, hubs)) => (Ok(text), Some((tls, hubs))),
        Err(text) => (Err(text), None),
    };
    report.result("identity", said);
    match found {
        Some((tls, hubs)) => hubs_answer(check, report, &tls, &hubs).await,
        None => report.line(Verdict::Fails, "hub", "not tried, for there is no identity to show it"),
    }
    report.result("agent", agent::ready(&check.agent).await);
}

async fn api_server(clients: &Clients) -> Result<String, String> {
    let info = clients.calls.apiserver_version().await;
    let info = info.map_err(|error| format!("{} does not answer: {}", clients.url, explain(&error)))?;
    if cluster::is_supported(&info.major, &info.minor) {
        Ok(format!("{} is Kubernetes {}", clients.url, info.git_version))
    } else {
        Err(cluster::Unsupported(info.git_version).to_string())
    }
}

/// In words, with what the hub is shown, and where it listens.
type Known = (String, Arc<TlsSource>, Vec<HubAddress>);

async fn identity(check: &Check, clients: Option<&Clients>) -> Result<Known, String> {
    match &check.config.identity {
        Source::Files(files) => {
            let (tls, remote) = from_files(files, &check.config).map_err(|error| error.to_string())?;
            let until = until(tls.own().not_after)?;
            let text = format!("{} is that of {remote}, {until}", files.certificate.display());
            Ok((text, tls, check.config.hubs.clone()))
        }
        Source::Enrolled(enrolment) => {
            let clients = clients.ok_or("cannot be read without the API server")?;
            let (namespace, secret) = (&check.config.namespace, &enrolment.identity_secret);
            let store = Store::new(clients.calls.clone(), namespace, secret, &enrolment.token_secret);
            let (contents, _) = store.read().await.map_err(|error| error.to_string())?;
            match contents {
                Contents::Kept(kept) => joined(check, &kept, &store.origin()),
                Contents::Damaged(why) => Err(format!("that of {} cannot be used: {why}", store.origin())),
                Contents::Nothing => Err(not_joined(enrolment).await),
            }
        }
    }
}

fn joined(check: &Check, kept: &Kept, origin: &str) -> Result<Known, String> {
    let until = until(kept.certificate.not_after)?;
    let tls = TlsSource::from_material(&kept.material(), origin, &kept.trust.trust_domain);
    let tls = tls.map_err(|error| error.to_string())?;
    let mut hubs = check.config.hubs.clone();
    let others = kept.trust.hubs.iter().filter(|hub| !check.config.hubs.contains(hub));
    hubs.extend(others.cloned());
    let text = format!(
        "joined as {} of {}, {until}",
        kept.certificate.remote, kept.trust.trust_domain
    );
    Ok((text, tls, hubs))
}

/// What it waits for, as far as that can be seen from here.
async fn not_joined(enrolment: &Enrolment) -> String {
    match read_token(&enrolment.token_file).await {
        Ok(found) => format!(
            "not joined yet, although there is a token ({}): the agent's own line says why",
            found.token.id()
        ),
        Err(error) => format!(
            "not joined yet, and there is no token: --token-file {}: {error}",
            enrolment.token_file.display()
        ),
    }
}

fn until(end: SystemTime) -> Result<String, String> {
    let shown = humantime::format_rfc3339_seconds(end);
    if end > SystemTime::now() {
        Ok(format!("until {shown}"))
    } else {
        Err(format!(
            "the certificate ended at {shown}; the agent's own line says whether it can be recovered"
        ))
    }
}

/// One hub that answers is enough: the agent tries them in turn.
async fn hubs_answer(check: &Check, report: &mut Report, tls: &Arc<TlsSource>, hubs: &[HubAddress]) {
    let probes = hubs.iter().map(|hub| probe(tls, &check.config.way, hub));
    let results = futures::future::join_all(probes).await;
    let verdict = if results.iter().any(Result::is_ok) {
        Verdict::Spare
    } else {
        Verdict::Fails
    };
    for (hub, result) in hubs.iter().zip(results) {
        match result {
            Ok(far) => report.line(Verdict::Works, "hub", &format!("{far} takes this agent")),
            Err(error) => report.line(verdict, "hub", &format!("{hub}: {error}")),
        }
    }
    if hubs.is_empty() {
        report.line(
            Verdict::Fails,
            "hub",
            "nobody has said where it listens: give --hub HOST:PORT",
        );
    }
}
