//! Following the trust that the hub sends in the stream.

use remote_istio::enrolment::Trust;
use remote_istio::limits;
use remote_istio::wire::v1;
use remote_istio::wire::v1::agent_frame::Frame;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Keeper, Kept, Moment};
use crate::link::Question;

impl Keeper {
    /// Uses the hub's trust from here on, and answers once it is safe.
    pub(super) fn trust(&mut self, question: Question<v1::Trust>) {
        let Question { asked, answers } = question;
        let trust = match self.judge(&asked) {
            Ok(trust) => trust,
            Err(failure) => {
                tracing::warn!(%failure, "the hub's new trust cannot be taken, the old one stays");
                return self.answer(&answers, &failure);
            }
        };
        if trust != self.kept.trust {
            let (hubs, epoch) = (trust.hubs.len(), trust.epoch);
            tracing::info!(epoch, hubs, roots = trust.roots.len(), "the hub sent a new trust");
            let signer = trust.signer != self.kept.trust.signer;
            self.kept.trust = trust;
            self.saved = false;
            self.due = self.due.of_changed_trust(&self.kept, signer, Moment::now());
        }
        self.asked = Some(answers);
        self.save.not_before = Instant::now();
        if self.saved {
            self.answer_asked();
        }
    }

    fn judge(&self, wire: &v1::Trust) -> Result<Trust, String> {
        let trust = Trust::read(wire).map_err(|error| error.to_string())?;
        let own = &self.kept.trust.trust_domain;
        if trust.trust_domain != *own {
            return Err(format!(
                "its trust domain is {:?}, not {own:?}; join again",
                trust.trust_domain
            ));
        }
        let kept = Kept {
            trust: trust.clone(),
            ..self.kept.clone()
        };
        self.parts
            .tls
            .replace(&kept.material())
            .map_err(|error| error.to_string())?;
        Ok(trust)
    }

    pub(super) fn answer_asked(&mut self) {
        if let Some(answers) = self.asked.take() {
            self.answer(&answers, "");
        }
    }

    pub(super) fn answer(&self, answers: &mpsc::Sender<Frame>, failure: &str) {
        let kept = v1::TrustKept {
            epoch: self.safe.epoch,
            digest: self.safe.digest.to_vec(),
            failure: limits::detail(failure),
        };
        // A stream that has ended hears it in the next hello.
        if answers.try_send(Frame::TrustKept(kept)).is_err() {
            tracing::debug!("the stream ended before it heard that its trust is kept");
        }
    }
}
