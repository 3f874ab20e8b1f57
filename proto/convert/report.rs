//! Greetings and status.

use std::collections::BTreeMap;

use super::{FrameError, at_most, no_longer_than, read_lane, write_lane};
use crate::enrolment::TrustDigest;
use crate::limits;
use crate::model::{Applied, ApplyState, Key, Lane, LaneHash, Version};
use crate::wire::{PROTOCOL_MAX, PROTOCOL_MIN, common_protocol, v1};

/// A hello that kept to every limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHello {
    /// The protocol version both will speak.
    pub protocol: u32,
    /// Release of the agent.
    pub release: String,
    /// Abilities the agent offers.
    pub features: Vec<String>,
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// Random, once per process.
    pub boot_id: String,
    /// Raised at each start of an agent.
    pub session_epoch: u64,
    /// Counts the connections of one process.
    pub connection: u64,
    /// Hash per lane that the agent knows.
    pub lanes: BTreeMap<Lane, LaneHash>,
    /// Version of the remote's API server.
    pub kubernetes_version: String,
    /// Everything held is applied, except what a status of this session says.
    pub settled: bool,
    /// Digest of the trust the agent holds; nothing: its files say whom it trusts.
    pub trust_digest: Option<TrustDigest>,
}

/// Reads a hello.
///
/// # Errors
/// It breaks a limit, or both ends share no protocol version.
pub fn read_hello(hello: v1::Hello) -> Result<SessionHello, FrameError> {
    let (min, max) = (hello.protocol_min, hello.protocol_max);
    let protocol = common_protocol(min, max).ok_or(FrameError::Protocol {
        min,
        max,
        own_min: PROTOCOL_MIN,
        own_max: PROTOCOL_MAX,
    })?;
    at_most("features", hello.features.len(), limits::FEATURES_MAX)?;
    at_most("lanes", hello.lanes.len(), limits::FEATURES_MAX)?;
    let texts = [
        &hello.release,
        &hello.cluster_uid,
        &hello.boot_id,
        &hello.kubernetes_version,
    ];
    for text in texts.into_iter().chain(&hello.features) {
        no_longer_than("a name in the hello", text, limits::NAME_MAX_BYTES)?;
    }
    // A lane of a later release, or one whose hash the agent does not know, simply has none here.
    let known = |state: &v1::LaneState| Some((read_lane(state.lane).ok()?, LaneHash::from_bytes(&state.hash)?));
    Ok(SessionHello {
        protocol,
        release: hello.release,
        features: hello.features,
        cluster_uid: hello.cluster_uid,
        boot_id: hello.boot_id,
        session_epoch: hello.session_epoch,
        connection: hello.connection,
        lanes: hello.lanes.iter().filter_map(known).collect(),
        kubernetes_version: hello.kubernetes_version,
        settled: hello.settled,
        trust_digest: TrustDigest::from_bytes(&hello.trust_digest),
    })
}

/// Writes what is held per lane, for a hello. No hash: unknown.
#[must_use]
pub fn lane_states(lanes: &BTreeMap<Lane, (Option<LaneHash>, usize)>) -> Vec<v1::LaneState> {
    let state = |(lane, (hash, objects)): (&Lane, &(Option<LaneHash>, usize))| v1::LaneState {
        lane: write_lane(*lane),
        hash: hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default(),
        objects: u32::try_from(*objects).unwrap_or(u32::MAX),
    };
    lanes.iter().map(state).collect()
}

/// Writes what became of objects, in as many frames as they need.
pub fn status_frames<'a>(entries: impl IntoIterator<Item = (&'a Key, &'a Applied)>) -> Vec<v1::Status> {
    let entries: Vec<v1::Applied> = entries
        .into_iter()
        .map(|(key, applied)| write_applied(key, applied))
        .collect();
    // A detail may be as long as its limit: so many fit into a frame in the worst case.
    let per_frame = limits::FRAME_TARGET_BYTES / (limits::DETAIL_MAX_BYTES + limits::KEY_MAX_BYTES + 64);
    entries
        .chunks(per_frame)
        .map(|entries| v1::Status {
            entries: entries.to_vec(),
        })
        .collect()
}

/// Reads a status. Entries whose key or state this release does not know are left out.
///
/// # Errors
/// It breaks a limit.
pub fn read_status(status: v1::Status) -> Result<Vec<(Key, Applied)>, FrameError> {
    at_most("entries of a status", status.entries.len(), limits::ENTRIES_PER_MESSAGE)?;
    let mut read = Vec::with_capacity(status.entries.len());
    for entry in status.entries {
        no_longer_than("detail of a status", &entry.detail, limits::DETAIL_MAX_BYTES)?;
        let (Ok(key), Some(state)) = (entry.key.parse(), read_state(entry.state)) else {
            continue;
        };
        let version = Version::from_bytes(&entry.version);
        read.push((
            key,
            Applied {
                version,
                state,
                detail: entry.detail,
                addresses: entry.addresses,
                replicas: entry.replicas,
            },
        ));
    }
    Ok(read)
}

fn write_applied(key: &Key, applied: &Applied) -> v1::Applied {
    let state = match applied.state {
        ApplyState::Applied => v1::ApplyState::Applied,
        ApplyState::Removed => v1::ApplyState::Removed,
        ApplyState::Foreign => v1::ApplyState::Foreign,
        ApplyState::Forbidden => v1::ApplyState::Forbidden,
        ApplyState::NamespaceMissing => v1::ApplyState::NamespaceMissing,
        ApplyState::Rejected => v1::ApplyState::Rejected,
        ApplyState::Unavailable => v1::ApplyState::Unavailable,
        ApplyState::Contended => v1::ApplyState::Contended,
        ApplyState::UserDecided => v1::ApplyState::UserDecided,
        ApplyState::NotReady => v1::ApplyState::NotReady,
    };
    v1::Applied {
        key: key.to_string(),
        version: applied
            .version
            .map(|version| version.as_bytes().to_vec())
            .unwrap_or_default(),
        state: state.into(),
        detail: limits::detail(applied.detail.as_str()),
        addresses: applied.addresses,
        replicas: applied.replicas,
    }
}

fn read_state(state: i32) -> Option<ApplyState> {
    Some(match v1::ApplyState::try_from(state).ok()? {
        v1::ApplyState::Unspecified => return None,
        v1::ApplyState::Applied => ApplyState::Applied,
        v1::ApplyState::Removed => ApplyState::Removed,
        v1::ApplyState::Foreign => ApplyState::Foreign,
        v1::ApplyState::Forbidden => ApplyState::Forbidden,
        v1::ApplyState::NamespaceMissing => ApplyState::NamespaceMissing,
        v1::ApplyState::Rejected => ApplyState::Rejected,
        v1::ApplyState::Unavailable => ApplyState::Unavailable,
        v1::ApplyState::Contended => ApplyState::Contended,
        v1::ApplyState::UserDecided => ApplyState::UserDecided,
        v1::ApplyState::NotReady => ApplyState::NotReady,
    })
}
