//! Sizes, times and rates that hub and agent share. Every message, list and string on the wire has its bound here.

use std::time::Duration;

/// Largest message either end accepts, bytes. A sender keeps well below it, see [`FRAME_TARGET_BYTES`].
pub const FRAME_MAX_BYTES: usize = 256 * 1024;

/// Size at which a sender starts the next part of a delta, bytes, so that a heartbeat never waits for long behind state.
pub const FRAME_TARGET_BYTES: usize = 64 * 1024;

/// Upserts and removals in one part of a delta.
pub const CHANGES_PER_PART: usize = 4_096;

/// Parts of one delta: with [`FRAME_TARGET_BYTES`] 64 MiB, the most one lane may hold.
pub const PARTS_PER_DELTA: u32 = 1_024;

/// Objects one lane of one remote may hold.
pub const OBJECTS_PER_LANE: usize = 10_000;

/// Addresses one endpoint set may hold.
pub const ENDPOINTS_PER_SET: usize = 20_000;

/// Groups of ports one endpoint set may hold.
pub const PORT_SETS_PER_SET: usize = 16;

/// Ports of one service, as the API server allows for an `EndpointSlice`.
pub const PORTS_PER_SET: usize = 100;

/// Bytes of a key: the longest kind and two DNS labels.
pub const KEY_MAX_BYTES: usize = 160;

/// Bytes of a name on the wire: port names, zones, networks, releases, replica names.
pub const NAME_MAX_BYTES: usize = 253;

/// Bytes of the parameters of one component, encoded.
pub const COMPONENT_MAX_BYTES: usize = 32 * 1024;

/// Bytes of the name of an image.
pub const IMAGE_MAX_BYTES: usize = 1_024;

/// Bytes of a list of address ranges in one text.
pub const RANGES_MAX_BYTES: usize = 4_096;

/// Roots of the mesh one trust may hold: the one that signs, and those of earlier ones.
pub const MESH_ROOTS: usize = 8;

/// Entries of one list of a remote's policy.
pub const POLICY_ENTRIES: usize = 1_000;

/// Bytes of a remote's policy, encoded: it also stands in the status of the `RemoteIstio`.
pub const POLICY_MAX_BYTES: usize = 32 * 1024;

/// Bytes of a text for people: details of nacks and states, drain reasons.
pub const DETAIL_MAX_BYTES: usize = 1_024;

/// Nacks in one ack, entries in one status. A peer with more to say sends another message.
pub const ENTRIES_PER_MESSAGE: usize = 512;

/// Features a hello may name.
pub const FEATURES_MAX: usize = 64;

/// Between two heartbeats of one end, before jitter of a tenth.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// A peer that has said nothing for so long is gone.
pub const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(25);

/// A peer whose heartbeat shows no progress for so long, although something was sent to it, no longer reads.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(20);

/// From an accepted connection to the peer's hello, or from hello to welcome.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// One frame may wait so long for room in the transport; then the stream is closed.
pub const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// Dialling one address.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A whole TLS handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// TLS handshakes in flight on one listener; more wait in the kernel's accept queue.
pub const HANDSHAKES_IN_FLIGHT: usize = 256;

/// HTTP/2 pings, both ends. Load balancers cut idle connections from 60 s on.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Answer to an HTTP/2 ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests one connection may have open; an agent needs one.
pub const STREAMS_PER_CONNECTION: u32 = 8;

/// HTTP/2 window of one stream at the hub, bytes: it receives little, and a thousand sessions each may fill theirs.
pub const HUB_STREAM_WINDOW: u32 = 128 * 1024;

/// HTTP/2 window of one connection at the hub, bytes.
pub const HUB_CONNECTION_WINDOW: u32 = 256 * 1024;

/// HTTP/2 window of one stream at the agent, bytes.
pub const AGENT_STREAM_WINDOW: u32 = 1024 * 1024;

/// HTTP/2 window of one connection at the agent, bytes.
pub const AGENT_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Header list of one request, bytes.
pub const HEADER_LIST_BYTES: u32 = 8 * 1024;

/// Frames queued between a session and its connection. The state machine holds one delta per lane back, so a
/// full queue means a stuck transport.
pub const FRAMES_QUEUED: usize = 64;

/// First and largest pause of a reconnect, full jitter between zero and the current one.
pub const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A session that lived so long makes the next reconnect start from the first pause again.
pub const HEALTHY_AFTER: Duration = Duration::from_mins(1);

/// Roots one trust may hold: those of a rollover and some of a user's own.
pub const TRUST_ROOTS: usize = 16;

/// Addresses of one port one trust may hold.
pub const TRUST_ADDRESSES: usize = 16;

/// Bytes of one certificate, DER.
pub const CERTIFICATE_MAX_BYTES: usize = 16 * 1024;

/// Certificates of one chain.
pub const CHAIN_MAX: usize = 8;

/// Bytes of one signing request, DER.
pub const REQUEST_MAX_BYTES: usize = 4 * 1024;

/// Bytes of one message on the enrolment port.
pub const ENROLMENT_MESSAGE_BYTES: usize = 192 * 1024;

/// How far back a certificate's validity begins: clocks that are ten minutes off still see it as valid.
pub const BACKDATED: Duration = Duration::from_mins(15);

/// A token and a key get the same answer so long after the first, for an answer may be lost.
pub const ANSWER_KEPT: Duration = Duration::from_mins(10);

/// The holder of a session has so long to say whether it yields.
pub const YIELD_DEADLINE: Duration = Duration::from_secs(5);

/// TLS handshakes in flight on the enrolment port; strangers knock there.
pub const ENROLMENT_HANDSHAKES_IN_FLIGHT: usize = 64;

/// Connections open on the enrolment port; more wait in the kernel's accept queue.
pub const ENROLMENT_CONNECTIONS: usize = 256;

/// A connection to the enrolment port lives no longer, counted from its acceptance: a join takes a few round trips.
pub const ENROLMENT_CONNECTION_LIFETIME: Duration = Duration::from_secs(30);

/// From an accepted connection to the first byte of its client. Who dials through a proxy has a round trip to it first.
pub const FIRST_BYTE_DEADLINE: Duration = Duration::from_secs(3);

/// Of the places at one listener, one source address (IPv6: one /64) may take one in so many.
pub const SOURCE_SHARE: usize = 4;

/// Connections one remote may have open at one replica: that of its session, that of the next one, and those of its
/// predecessor in a rolling update.
pub const CONNECTIONS_PER_REMOTE: usize = 4;

/// Head of a proxy's answer to CONNECT, bytes.
pub const PROXY_ANSWER_MAX_BYTES: usize = 8 * 1024;

/// Addresses in one `EndpointSlice`, the default of Kubernetes' own controller.
pub const ADDRESSES_PER_SLICE: usize = 100;

/// Removals in one delta that pass the guard whatever the share: see [`guard_allows`].
pub const GUARD_FLOOR: usize = 10;

/// Whether `removed` of `held` objects may go in one delta without a person's release: at most ten or a fifth.
#[must_use]
pub fn guard_allows(removed: usize, held: usize) -> bool {
    removed <= GUARD_FLOOR.max(held / 5)
}

/// Cuts a text for people at a character boundary to [`DETAIL_MAX_BYTES`].
#[must_use]
pub fn detail(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > DETAIL_MAX_BYTES {
        let end = (0..=DETAIL_MAX_BYTES)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}
