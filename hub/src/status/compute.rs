//! The status of one remote from what is known of it. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::allowed::{allowed, policy};
use super::components::components;
use super::conditions::{
    ACCEPTED, ALLOWED, APPLIED, CERTIFICATE_VALID, CONNECTED, IDENTITY_CONFLICT, MESH_TRUST, NOT_READY, PAUSED, READY,
    Verdict, accepted, applied, connected, ready, stored, time,
};
use super::facts::Facts;
use super::findings::problems;
use super::identity::{certificate_valid, identity_conflict};
use super::mesh_trust::mesh_trust;
use crate::crd::{RemoteIstioStatus, ServiceStatus, SessionStatus, State};
use crate::report::SessionEpoch;

/// The status that says what is known now. What is not known any more stays as it was stored before.
///
/// `now_unix`: seconds since 1970. `replica`: this hub's name, noted with its sessions.
#[must_use]
pub fn status(facts: &Facts<'_>, replica: &str, now_unix: i64) -> RemoteIstioStatus {
    let Facts {
        session,
        disconnected_at,
        ..
    } = *facts;
    let verdicts = Verdicts::of(facts, now_unix);
    let (state, error_message) = verdicts.state(facts);
    let before = facts.previous();
    RemoteIstioStatus {
        state: Some(state),
        error_message,
        observed_generation: facts.observed_generation(),
        conditions: verdicts.conditions(facts, now_unix),
        last_contact: session
            .map(|session| session.connected_at)
            .or(disconnected_at)
            .map(time)
            .or_else(|| before?.last_contact.clone()),
        agent_version: session.map_or_else(|| before?.agent_version.clone(), |session| text(&session.agent_release)),
        cluster_uid: session.map_or_else(|| before?.cluster_uid.clone(), |session| text(&session.cluster_uid)),
        kubernetes_version: session.map_or_else(
            || before?.kubernetes_version.clone(),
            |session| text(&session.kubernetes_version),
        ),
        replica: session.map_or_else(|| before?.replica.clone(), |_| Some(replica.to_owned())),
        session: session.map_or_else(
            || before?.session.clone(),
            |session| Some(session_status(session.epoch)),
        ),
        services: services(facts),
        components: components(facts),
        policy: policy(facts),
    }
}

/// An epoch as it is stored.
#[must_use]
pub fn session_status(epoch: SessionEpoch) -> SessionStatus {
    let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
    SessionStatus {
        start: number(epoch.start),
        connection: number(epoch.connection),
    }
}

struct Verdicts {
    connected: Verdict,
    certificate: Verdict,
    conflict: Option<Verdict>,
    allowed: Option<Verdict>,
    accepted: Verdict,
    applied: Verdict,
    mesh_trust: Option<Verdict>,
    ready: Verdict,
}

impl Verdicts {
    fn of(facts: &Facts<'_>, now_unix: i64) -> Self {
        let (connected, accepted, applied) = (connected(facts), accepted(facts), applied(facts));
        Self {
            ready: ready(facts, &connected, &accepted, &applied),
            certificate: certificate_valid(facts, now_unix),
            conflict: identity_conflict(facts),
            allowed: allowed(facts),
            mesh_trust: mesh_trust(facts),
            connected,
            accepted,
            applied,
        }
    }

    /// The seed's one word, and what is wrong.
    fn state(&self, facts: &Facts<'_>) -> (State, Option<String>) {
        let message = || Some(self.ready.message.clone());
        let hub_sees_failure = !facts.is_withdrawn() && !problems(facts, true).is_empty();
        if hub_sees_failure {
            return (State::ReconcileFailed, message());
        }
        match facts.session {
            _ if facts.identity.revoked.is_some() && !facts.is_withdrawn() => (State::ReconcileFailed, message()),
            None if !facts.has_joined() => (State::Created, None),
            None => (State::Reconciling, message()),
            Some(_) if self.ready.is_true() => (State::Available, None),
            Some(_) if self.ready.is_failure => (State::ReconcileFailed, message()),
            Some(_) if [NOT_READY, PAUSED].contains(&self.ready.reason.as_str()) => (State::Reconciling, message()),
            Some(_) => (State::Reconciling, None),
        }
    }

    fn conditions(&self, facts: &Facts<'_>, now_unix: i64) -> Vec<Condition> {
        let generation = facts.generation();
        // What agents said is of the generation their session speaks of, or of the one it was stored for.
        let said = |kind: &str| match facts.session {
            Some(session) => session
                .desired
                .as_ref()
                .map(|(_, generation)| *generation)
                .or(generation),
            None => stored(facts.previous(), kind).map_or(generation, |before| before.observed_generation),
        };
        let accepted = if problems(facts, true).is_empty() {
            said(ACCEPTED)
        } else {
            facts.observed_generation()
        };
        let mut conditions = vec![
            self.connected.condition(CONNECTED, facts, generation, now_unix),
            self.certificate
                .condition(CERTIFICATE_VALID, facts, generation, now_unix),
        ];
        let conflict = self.conflict.as_ref();
        conditions.extend(conflict.map(|conflict| conflict.condition(IDENTITY_CONFLICT, facts, generation, now_unix)));
        let allowed = self.allowed.as_ref();
        conditions
            .extend(allowed.map(|verdict| verdict.condition(ALLOWED, facts, facts.observed_generation(), now_unix)));
        conditions.push(self.accepted.condition(ACCEPTED, facts, accepted, now_unix));
        conditions.push(self.applied.condition(APPLIED, facts, said(APPLIED), now_unix));
        let mesh_trust = self.mesh_trust.as_ref();
        conditions.extend(mesh_trust.map(|verdict| verdict.condition(MESH_TRUST, facts, said(MESH_TRUST), now_unix)));
        conditions.push(self.ready.condition(READY, facts, generation, now_unix));
        conditions
    }
}

fn services(facts: &Facts<'_>) -> Vec<ServiceStatus> {
    let (Some(session), Some(desired)) = (facts.session, facts.desired) else {
        return facts
            .previous()
            .map(|before| before.services.clone())
            .unwrap_or_default();
    };
    desired
        .services
        .iter()
        .map(|service| ServiceStatus {
            name: service.key.name().unwrap_or_default().to_owned(),
            namespace: service.key.namespace().to_owned(),
            addresses_sent: i64::from(service.addresses),
            addresses_applied: session
                .applied
                .get(&service.key)
                .map_or(0, |applied| i64::from(applied.addresses)),
        })
        .collect()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
