//! Hellos, and counting what goes over the link.

use remote_istio::convert;
use remote_istio::enrolment::TrustDigest;
use remote_istio::model::Lane;
use remote_istio::wire::{PROTOCOL_MAX, PROTOCOL_MIN, v1};

use super::Facts;
use crate::engine::Greeting;
use crate::metrics::{Direction, Metrics};

/// The first frame of a stream. `trust`: of what the agent holds, nothing where files say whom it trusts.
pub(super) fn hello(facts: &Facts, connection: u64, greeting: &Greeting, trust: Option<TrustDigest>) -> v1::Hello {
    v1::Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        release: facts.release.clone(),
        features: Vec::new(),
        cluster_uid: facts.cluster_uid.clone(),
        boot_id: facts.boot_id.clone(),
        session_epoch: facts.session_epoch,
        connection,
        lanes: convert::lane_states(&greeting.lanes),
        kubernetes_version: facts.kubernetes_version.clone(),
        settled: greeting.settled,
        trust_digest: trust.map(TrustDigest::to_vec).unwrap_or_default(),
    }
}

/// Counts one frame. Its lane is that of what it carries.
pub(super) fn count_sent(metrics: &Metrics, frame: &v1::AgentFrame) {
    let lane = match &frame.frame {
        Some(v1::agent_frame::Frame::Delta(delta)) => Some(delta.lane),
        Some(v1::agent_frame::Frame::Ack(ack)) => Some(ack.lane),
        _ => None,
    };
    metrics.frame(
        Direction::Sent,
        lane.and_then(lane_of),
        prost::Message::encoded_len(frame),
    );
}

/// As [`count_sent`], for the other direction.
pub(super) fn count_received(metrics: &Metrics, frame: &v1::HubFrame) {
    let lane = match &frame.frame {
        Some(v1::hub_frame::Frame::Delta(delta)) => Some(delta.lane),
        Some(v1::hub_frame::Frame::Ack(ack)) => Some(ack.lane),
        _ => None,
    };
    metrics.frame(
        Direction::Received,
        lane.and_then(lane_of),
        prost::Message::encoded_len(frame),
    );
}

fn lane_of(lane: i32) -> Option<Lane> {
    match v1::Lane::try_from(lane).ok()? {
        v1::Lane::Unspecified => None,
        v1::Lane::Endpoints => Some(Lane::Endpoints),
        v1::Lane::Config => Some(Lane::Config),
    }
}
