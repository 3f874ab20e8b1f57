//! Removes tokens that ended a while ago. Every replica does; whoever comes second finds nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;

use super::records::{RecordError, Records};
use super::tokens::Tokens;
use crate::clock;
use crate::crd::JoinToken;

/// A token stays so long after its end, used or not, for people and to tell a replay from a mistake.
const KEPT_AFTER_END: SignedDuration = SignedDuration::from_hours(1);

/// Between two looks, without jitter.
const INTERVAL: Duration = Duration::from_mins(5);

/// Tokens removed in one look: the rest waits for the next.
const REMOVED_AT_ONCE: usize = 200;

/// Looks for ever.
pub(super) async fn run(tokens: &Tokens, records: &dyn Records) {
    loop {
        let pause = INTERVAL.mul_f64(rand::rng().random_range(0.5..=1.5));
        tokio::time::sleep(pause).await;
        let now = Timestamp::from_second(clock::unix_seconds()).unwrap_or(Timestamp::MIN);
        sweep(&over(tokens.all(), now), records).await;
    }
}

async fn sweep(over: &[Arc<JoinToken>], records: &dyn Records) {
    for token in over.iter().take(REMOVED_AT_ONCE) {
        let id = token.metadata.name.as_deref().unwrap_or_default();
        match records.remove_token(token).await {
            Ok(()) => tracing::debug!(%id, remote = %token.spec.remote, "old token removed"),
            // Another replica was first.
            Err(RecordError::Gone | RecordError::Conflict) => {}
            Err(error) => {
                tracing::warn!(%id, %error, "an old token cannot be removed, trying again later");
                return;
            }
        }
    }
}

/// Those that ended long enough ago.
fn over(tokens: Vec<Arc<JoinToken>>, now: Timestamp) -> Vec<Arc<JoinToken>> {
    let is_over = |token: &Arc<JoinToken>| now.duration_since(token.spec.expires_at.0) >= KEPT_AFTER_END;
    tokens.into_iter().filter(is_over).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::crd::{Approval, JoinTokenSpec};

    #[test]
    fn token_is_over_an_hour_after_its_end_and_no_sooner() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let spec = JoinTokenSpec {
            remote: "remote-1".to_owned(),
            secret_hash: String::new(),
            expires_at: Time(at(1_000)),
            approval: Approval::Automatic,
            cluster_uid: None,
            created_by: String::new(),
        };
        let tokens = vec![Arc::new(JoinToken::new("aaaaaaaa", spec))];
        assert_eq!(over(tokens.clone(), at(4_599)), []);
        assert_eq!(over(tokens.clone(), at(4_600)), tokens);
    }
}
