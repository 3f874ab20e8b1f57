//! The conditions of one remote. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use remote_istio::limits::detail;

use super::facts::Facts;
use super::findings::{Finding, application, problems, refusals, summary};
use super::identity::revocation;
use crate::crd::{DELETION_ANNOTATION, FORCE_DELETE_ANNOTATION, RemoteIstioStatus};
use crate::index::Desired;
use crate::lifecycle::guard::unknown_wish;
use crate::lifecycle::{Hold, Ruling, TOMBSTONES_CONFIG_MAP};

/// An agent holds a session.
pub const CONNECTED: &str = "Connected";
/// The resource can be carried out as written, and the agent accepted all of it.
pub const ACCEPTED: &str = "Accepted";
/// Everything accepted stands in the remote.
pub const APPLIED: &str = "Applied";
/// The agent's certificate is good.
pub const CERTIFICATE_VALID: &str = "CertificateValid";
/// Two agents claim to be this remote.
pub const IDENTITY_CONFLICT: &str = "IdentityConflict";
/// The remote's Citadel has an intermediate of the mesh to sign with. Only where it has Citadel.
pub const MESH_TRUST: &str = "MeshTrust";
/// The remote's policy allows everything it should hold.
pub const ALLOWED: &str = "Allowed";
/// Sums up.
pub const READY: &str = "Ready";

/// The conditions that the hub writes; others are somebody else's.
pub const OURS: &[&str] = &[
    CONNECTED,
    CERTIFICATE_VALID,
    IDENTITY_CONFLICT,
    ALLOWED,
    ACCEPTED,
    APPLIED,
    MESH_TRUST,
    READY,
];

/// Reason while a person wants nothing to be sent.
pub const PAUSED: &str = "Paused";
/// Reason while what was deleted is withdrawn from its remote. Read again by hubs that start.
pub const DELETING: &str = "Deleting";
/// Reason while a deletion is held until a person decides. Read again by hubs that start.
pub const DELETION_HELD: &str = "DeletionHeld";
/// Reason while a deletion is held because the CRD cannot be read.
pub const DELETION_UNCHECKED: &str = "DeletionUnchecked";
/// Reason of what is merely on its way.
pub const PENDING: &str = "Pending";
/// Reason while what stands in the remote is not all up.
pub const NOT_READY: &str = "NotReady";
/// Reason while an agent that once joined is away.
pub const AGENT_DISCONNECTED: &str = "AgentDisconnected";
/// Reason while the certificates of a remote do not count.
pub const REVOKED: &str = "Revoked";
/// Reason before the first agent joins.
pub const AGENT_NEVER_CONNECTED: &str = "AgentNeverConnected";

/// A clock in the remote that is off by less is not mentioned, seconds.
const SKEW_MENTIONED_SECONDS: i64 = 30;

/// One condition before it is compared with the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// `CamelCase`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What is in the way needs a person: not merely something on its way.
    pub is_failure: bool,
}

impl Verdict {
    pub(super) fn holds(reason: &str, message: impl Into<String>) -> Self {
        Self::new("True", reason, message.into())
    }

    pub(super) fn fails(reason: &str, message: impl Into<String>) -> Self {
        Self::new("False", reason, message.into())
    }

    fn blocked(findings: &[Finding]) -> Option<Self> {
        let first = findings.first()?;
        Some(Self {
            is_failure: true,
            ..Self::fails(first.reason, summary(findings))
        })
    }

    pub(super) fn unknown() -> Self {
        Self::new(
            "Unknown",
            "NoAgent",
            "nothing is known before an agent connects".to_owned(),
        )
    }

    pub(super) fn unknown_by(reason: &str, message: &str) -> Self {
        Self::new("Unknown", reason, message.to_owned())
    }

    /// What was known last.
    pub(super) fn as_before(before: &Condition) -> Self {
        as_before(before)
    }

    fn new(status: &'static str, reason: &str, message: String) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message,
            is_failure: false,
        }
    }

    /// Whether the condition is `True`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// As a condition: the time of the last transition moves only when the status does.
    #[must_use]
    pub fn condition(&self, kind: &str, facts: &Facts<'_>, generation: Option<i64>, now_unix: i64) -> Condition {
        let before = stored(facts.previous(), kind).filter(|before| before.status == self.status);
        Condition {
            type_: kind.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.clone(),
            message: detail(self.message.as_str()),
            observed_generation: generation,
            last_transition_time: before.map_or_else(|| time(now_unix), |before| before.last_transition_time.clone()),
        }
    }
}

/// A condition of a stored status.
#[must_use]
pub fn stored<'a>(status: Option<&'a RemoteIstioStatus>, kind: &str) -> Option<&'a Condition> {
    status?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Seconds since 1970 as the API writes times.
#[must_use]
pub fn time(unix_seconds: i64) -> Time {
    Time(Timestamp::from_second(unix_seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Whether an agent holds a session.
#[must_use]
pub fn connected(facts: &Facts<'_>) -> Verdict {
    if let Some(revoked) = facts.identity.revoked {
        return Verdict {
            is_failure: true,
            ..Verdict::fails(REVOKED, revocation(revoked, &facts.name()))
        };
    }
    if let Some(session) = facts.session {
        let skew = skew_note(session.clock_skew_milliseconds);
        let (release, address) = (&session.agent_release, &session.address);
        return Verdict::holds(
            "AgentConnected",
            format!("agent {release} is connected from {address}{skew}"),
        );
    }
    if !facts.has_joined() {
        let name = facts.name();
        let message = format!(
            "no agent has connected yet; run remote-istio-agent in the remote: remote-istio-hub token create {name} prints \
             its command, or give it files with a certificate for remote/{name}"
        );
        return Verdict::fails(AGENT_NEVER_CONNECTED, message);
    }
    let last = facts
        .disconnected_at
        .map(time)
        .or_else(|| facts.previous()?.last_contact.clone())
        .map_or_else(|| "at an unknown time".to_owned(), |time| time.0.to_string());
    Verdict::fails(
        AGENT_DISCONNECTED,
        format!(
            "the agent is not connected, last contact {last}; the remote keeps what it has; look at the agent's log and \
             at its way to the hub"
        ),
    )
}

/// Whether the resource can be carried out as written and the agent accepted all of it. Without a session what was
/// known last stays.
#[must_use]
pub fn accepted(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = Verdict::blocked(&problems(facts, true)) {
        return verdict;
    }
    let Some(session) = facts.session.filter(|_| !facts.is_unsaid()) else {
        return last_known(facts, ACCEPTED, &["AllAccepted", "ObjectsRefused", PENDING]);
    };
    if let Some(verdict) = Verdict::blocked(&refusals(&session.refused)) {
        return verdict;
    }
    if !facts.in_sync() {
        return Verdict::fails(PENDING, "the agent has not accepted everything yet");
    }
    let notes = problems(facts, false);
    let all = "the agent has accepted everything and keeps it";
    if notes.is_empty() {
        Verdict::holds("AllAccepted", all)
    } else {
        Verdict::holds("AllAccepted", format!("{all}; note {}", summary(&notes)))
    }
}

/// Whether everything accepted stands in the remote. Without a session what was known last stays.
#[must_use]
pub fn applied(facts: &Facts<'_>) -> Verdict {
    if facts.session.is_none() || facts.is_unsaid() {
        let unknown_to_agents = ["NoAgent"];
        return last_known_except(facts, APPLIED, &unknown_to_agents);
    }
    let application = application(facts);
    if let Some(verdict) = Verdict::blocked(&application.failures) {
        return verdict;
    }
    if application.pending > 0 || !facts.in_sync() {
        return Verdict::fails(PENDING, "the agent has not applied everything yet");
    }
    if let Some(first) = application.waiting.first() {
        return Verdict::fails(first.reason, summary(&application.waiting));
    }
    match application.decided.first() {
        Some(first) => Verdict::holds(first.reason, summary(&application.decided)),
        None => Verdict::holds("AllApplied", "everything accepted stands in the remote"),
    }
}

/// Sums up the others.
#[must_use]
pub fn ready(facts: &Facts<'_>, connected: &Verdict, accepted: &Verdict, applied: &Verdict) -> Verdict {
    match facts.ruling() {
        Some(Ruling::Held(hold)) => return held(facts, &hold),
        Some(_) => return deleting(facts, applied),
        None => {}
    }
    let hub_sees_failure = accepted.is_failure && !problems(facts, true).is_empty();
    if facts.is_paused() && !hub_sees_failure && !connected.is_failure {
        return paused(facts, connected);
    }
    let first = [
        (hub_sees_failure, accepted),
        (true, connected),
        (true, accepted),
        (true, applied),
    ]
    .into_iter()
    .find(|(counts, verdict)| *counts && !verdict.is_true());
    match first {
        Some((_, verdict)) => Verdict {
            status: "False",
            ..verdict.clone()
        },
        None => Verdict::holds("Available", "the agent has accepted and applied everything"),
    }
}

/// Nothing is withdrawn, and what a person can do.
fn held(facts: &Facts<'_>, hold: &Hold) -> Verdict {
    let annotate = format!(
        "kubectl -n {} annotate remoteistio {} --overwrite {DELETION_ANNOTATION}",
        facts.remote.namespace().unwrap_or_default(),
        facts.name()
    );
    let unknown = unknown_wish(facts.remote).map(|text| format!("; {text:?} in that annotation is neither"));
    let ways = format!(
        "to withdraw it from the remote: {annotate}=withdraw; to let the remote keep what it has: {annotate}=keep{}",
        unknown.unwrap_or_default()
    );
    let why = match hold {
        Hold::Many { deleted, limit } => {
            format!("{deleted} RemoteIstios are being deleted at once, more than {limit}")
        }
        Hold::DefinitionEnds => "the CRD is being deleted, and every RemoteIstio with it".to_owned(),
        Hold::DefinitionGone => "the CRD is gone".to_owned(),
        Hold::Unreadable => "this release of the hub cannot read all of it".to_owned(),
        Hold::DefinitionUnread(error) => {
            let message = format!(
                "held, nothing is withdrawn: whether the CRD is being deleted too cannot be read ({error}), it is tried again; \
                 {ways}"
            );
            return Verdict {
                is_failure: true,
                ..Verdict::fails(DELETION_UNCHECKED, message)
            };
        }
        // It says why already; what a person can do is the same.
        Hold::Before => match stored(facts.previous(), READY).filter(|ready| ready.reason == DELETION_HELD) {
            Some(ready) if unknown_wish(facts.remote).is_none() => {
                return Verdict {
                    is_failure: true,
                    ..as_before(ready)
                };
            }
            _ => "it was held before".to_owned(),
        },
    };
    Verdict {
        is_failure: true,
        ..Verdict::fails(DELETION_HELD, format!("held, nothing is withdrawn: {why}; {ways}"))
    }
}

fn deleting(facts: &Facts<'_>, applied: &Verdict) -> Verdict {
    let orphans = facts.desired.is_some_and(Desired::orphans);
    let outcome = if orphans { "let go of" } else { "remove" };
    let force = format!(
        "to go on without it: kubectl -n {} annotate remoteistio {} {FORCE_DELETE_ANNOTATION}=true, then what is left is \
         written down in ConfigMap {TOMBSTONES_CONFIG_MAP} and the agent will {outcome} it once it can",
        facts.remote.namespace().unwrap_or_default(),
        facts.name()
    );
    if facts.session.is_none() && facts.has_joined() {
        let message = format!("waits for the agent to return and {outcome} what it holds; {force}");
        return Verdict::fails(DELETING, message);
    }
    if applied.is_failure || applied.reason == NOT_READY {
        let message = format!("{}; {force}", applied.message);
        return Verdict {
            is_failure: applied.is_failure,
            ..Verdict::fails(DELETING, message)
        };
    }
    Verdict::fails(DELETING, format!("waits for the agent to {outcome} what it holds"))
}

/// Nobody can say that it is as its spec wants it: that is not carried out.
fn paused(facts: &Facts<'_>, connected: &Verdict) -> Verdict {
    let Facts { session, .. } = facts;
    let away = match session {
        Some(_) => String::new(),
        None => format!("; {}", connected.message),
    };
    Verdict::new(
        "Unknown",
        PAUSED,
        format!("paused: the remote keeps what it has, and no change is sent; set spec.paused to false to go on{away}"),
    )
}

pub(super) fn last_known(facts: &Facts<'_>, kind: &str, said_by_agents: &[&str]) -> Verdict {
    let before = stored(facts.previous(), kind);
    let before = before.filter(|before| said_by_agents.contains(&before.reason.as_str()));
    before.map_or_else(Verdict::unknown, as_before)
}

fn last_known_except(facts: &Facts<'_>, kind: &str, not_said_by_agents: &[&str]) -> Verdict {
    let before = stored(facts.previous(), kind);
    let before = before.filter(|before| !not_said_by_agents.contains(&before.reason.as_str()));
    before.map_or_else(Verdict::unknown, as_before)
}

fn as_before(before: &Condition) -> Verdict {
    let status = match before.status.as_str() {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    };
    Verdict::new(status, &before.reason, before.message.clone())
}

/// In steps of the limit, so that a drifting clock does not change the message with every heartbeat.
fn skew_note(milliseconds: i64) -> String {
    let seconds = milliseconds / 1_000;
    let steps = seconds / SKEW_MENTIONED_SECONDS;
    let side = if steps < 0 { "behind" } else { "ahead" };
    match steps.unsigned_abs() * SKEW_MENTIONED_SECONDS.unsigned_abs() {
        0 => String::new(),
        rounded => format!("; its clock is {rounded} s or more {side}, correct it"),
    }
}
