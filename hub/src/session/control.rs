//! Control frames that wait to be sent: at most one of each kind, the newest.

use remote_istio::wire::v1;
use remote_istio::wire::v1::hub_frame::Frame;

/// One place per kind, so that a stuck transport cannot pile them up.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) welcome: Option<v1::Welcome>,
    pub(super) challenge: Option<v1::Challenge>,
    pub(super) trust: Option<v1::Trust>,
    pub(super) claim: Option<v1::Claim>,
    pub(super) heartbeat: Option<v1::Heartbeat>,
    pub(super) drain: Option<v1::Drain>,
}

impl Control {
    /// The next one; the welcome is always first on a stream.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let welcome = self.welcome.take().map(Frame::Welcome);
        welcome
            .or_else(|| self.drain.take().map(Frame::Drain))
            .or_else(|| self.challenge.take().map(Frame::Challenge))
            .or_else(|| self.trust.take().map(Frame::Trust))
            .or_else(|| self.claim.take().map(Frame::Claim))
            .or_else(|| self.heartbeat.take().map(Frame::Heartbeat))
    }
}
