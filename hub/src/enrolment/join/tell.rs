//! What a join is worth telling of.

use super::Join;
use crate::crd::JoinToken;
use crate::enrolment::Enrolment;
use crate::enrolment::decide::Ask;
use crate::events::{Kind, Reason, Subject};

impl Enrolment {
    pub(super) fn tell_of_join(&self, join: &Join<'_>) {
        let (
            remote,
            Ask {
                address, cluster_uid, ..
            },
        ) = (&join.remote, join.ask);
        tracing::info!(%remote, %address, %cluster_uid, "remote joined");
        self.deps.events.publish(
            Subject::Remote(remote.clone()),
            Kind::Normal,
            Reason::Joined,
            format!("remote {remote} joined from {address}, its cluster's UID is {cluster_uid}"),
        );
    }

    pub(super) fn tell_of_replay(&self, join: &Join<'_>, token: &JoinToken) {
        let (remote, id) = (&join.remote, join.token.id());
        let first = token
            .status
            .as_ref()
            .and_then(|status| status.claim.clone())
            .unwrap_or_default();
        let Ask {
            address, cluster_uid, ..
        } = join.ask;
        tracing::warn!(
            %remote, %id, %address, first_address = %first.address,
            "a token was used again, it is worth nothing from now on"
        );
        let note = format!(
            "token {id} of remote {remote} came first from {} (cluster {}), and again from {address} (cluster \
             {cluster_uid}) with another key or too late: if these are not the same agent, the token was stolen",
            first.address, first.cluster_uid,
        );
        for subject in [Subject::Token(id.to_owned()), Subject::Remote(remote.clone())] {
            let events = &self.deps.events;
            events.publish(subject, Kind::Warning, Reason::TokenReplayed, note.clone());
        }
    }

    pub(super) fn tell_of_waiting(&self, join: &Join<'_>) {
        let (
            remote,
            Ask {
                address, cluster_uid, ..
            },
        ) = (&join.remote, join.ask);
        tracing::info!(%remote, %address, %cluster_uid, "a join waits for approval");
        self.deps.events.publish(
            Subject::Remote(remote.clone()),
            Kind::Normal,
            Reason::JoinPending,
            format!(
                "remote {remote} asks to join from {address} (cluster {cluster_uid}): `remote-istio-hub join approve \
                 {remote}` lets it in"
            ),
        );
    }
}
