//! What is known of one remote at one moment. Pure.

use kube::ResourceExt as _;
use remote_istio::model::Lane;

use super::allowed::Judgement;
use super::identity::Identity;
use crate::crd::{RemoteIstio, RemoteIstioStatus};
use crate::index::Desired;
use crate::lifecycle::Ruling;
use crate::report::SessionReport;

/// Everything a status is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The newest resource; its status is the one stored before.
    pub remote: &'a RemoteIstio,
    /// What the remote should hold, where it was computed for this very resource.
    pub desired: Option<&'a Desired>,
    /// The live session of its agent.
    pub session: Option<&'a SessionReport>,
    /// Seconds since 1970 when this replica's last session with it ended.
    pub disconnected_at: Option<i64>,
    /// Who the remote is.
    pub identity: Identity<'a>,
    /// What its policy says of what it should hold; nothing where nobody has judged.
    pub judgement: Option<&'a Judgement>,
}

impl<'a> Facts<'a> {
    /// Leaves out a desired state that was computed for another resource of the same name.
    #[must_use]
    pub fn new(
        remote: &'a RemoteIstio,
        desired: Option<&'a Desired>,
        session: Option<&'a SessionReport>,
        disconnected_at: Option<i64>,
        identity: Identity<'a>,
    ) -> Self {
        let uid = remote.metadata.uid.as_deref();
        Self {
            remote,
            desired: desired.filter(|desired| uid == Some(desired.uid.as_str())),
            session,
            disconnected_at,
            identity,
            judgement: None,
        }
    }

    /// With what the remote's policy says of what it should hold.
    #[must_use]
    pub fn with_judgement(self, judgement: &'a Judgement) -> Self {
        Self {
            judgement: Some(judgement),
            ..self
        }
    }

    /// The status stored before.
    #[must_use]
    pub fn previous(&self) -> Option<&'a RemoteIstioStatus> {
        self.remote.status.as_ref()
    }

    /// Name of the remote.
    #[must_use]
    pub fn name(&self) -> String {
        self.remote.name_any()
    }

    /// `metadata.generation` of the resource.
    #[must_use]
    pub fn generation(&self) -> Option<i64> {
        self.remote.metadata.generation
    }

    /// The generation the hub has taken in.
    #[must_use]
    pub fn observed_generation(&self) -> Option<i64> {
        self.desired
            .map(|desired| desired.generation)
            .or_else(|| self.previous()?.observed_generation)
    }

    /// Whether somebody has asked for the resource to be deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.remote.metadata.deletion_timestamp.is_some()
    }

    /// What becomes of the deletion; nothing while nobody has deleted the resource.
    #[must_use]
    pub fn ruling(&self) -> Option<Ruling> {
        let ruled = || self.desired.and_then(|desired| desired.deletion.clone());
        self.is_deleting().then(|| ruled().unwrap_or_default())
    }

    /// Whether the resource is being deleted, and its remote is to let go of everything.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.ruling() == Some(Ruling::Withdrawn)
    }

    /// Whether a person wants nothing to be sent.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.remote.spec.paused == Some(true) && !self.is_withdrawn()
    }

    /// Paused, and this hub has not sent anything since it started: it does not know what the agent should hold.
    #[must_use]
    pub fn is_unsaid(&self) -> bool {
        let knows_lanes = |desired: &Desired| Lane::ALL.iter().all(|lane| desired.lanes.contains_key(lane));
        self.is_paused() && !self.desired.is_some_and(knows_lanes)
    }

    /// Whether an agent has ever joined, as far as the resource and this replica know.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.session.is_some()
            || self.disconnected_at.is_some()
            || self.previous().is_some_and(|status| status.session.is_some())
    }

    /// The session together with the desired state, if the session speaks of the newest generation of this resource
    /// and both lanes are known: only then does "in sync" mean what the resource asks for.
    #[must_use]
    pub fn current(&self) -> Option<(&'a SessionReport, &'a Desired)> {
        let (session, desired) = (self.session?, self.desired?);
        let (uid, generation) = session.desired.as_ref()?;
        let is_current = session.claimed
            && *uid == desired.uid
            && *generation == desired.generation
            && self.generation() == Some(desired.generation)
            && Lane::ALL.iter().all(|lane| desired.lanes.contains_key(lane));
        is_current.then_some((session, desired))
    }

    /// Whether the agent has accepted all that is desired now, apart from what it refused.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.current().is_some_and(|(session, _)| {
            Lane::ALL
                .iter()
                .all(|lane| session.lanes.get(lane).is_some_and(|report| report.in_sync))
        })
    }
}
