//! `join list`, `join approve`, `join deny`: joins that wait for a person.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::central::{Central, Part};
use super::error::CommandError;
use super::table::table;
use super::token::{is_named, pretty, state};
use crate::args::Output;
use crate::crd::{JoinToken, TokenClaim, TokenState};

/// What a person says to a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may go on.
    Approve,
    /// It may not.
    Deny,
}

/// Lists the joins that wait.
pub(super) async fn list(central: &Central, output: Output) -> Result<String, CommandError> {
    let mut waiting = central.tokens().await?;
    waiting.retain(|token| waits(token, central.now));
    waiting.sort_by_key(|token| (token.spec.remote.clone(), token.name_any()));
    Ok(match output {
        Output::Json => pretty(&waiting.iter().map(as_json).collect::<Value>()),
        Output::Text if waiting.is_empty() => "no join waits for approval\n".to_owned(),
        Output::Text => {
            let rows: Vec<_> = waiting.iter().map(row).collect();
            table(["REMOTE", "TOKEN", "CLUSTER", "FROM"], &rows)
        }
    })
}

/// Answers the join that waits: that of this remote, or of the token with this id.
pub(super) async fn answer(central: &Central, which: &str, answer: Answer) -> Result<String, CommandError> {
    let tokens = central.tokens().await?;
    let id = only(&tokens, which, central.now)?;
    let attempted = format!("the join with token {id} cannot be answered");
    let now = central.now;
    let decide = |token: &mut JoinToken| answered(token, answer, now);
    match central.change(&id, Part::Status, &attempted, decide).await? {
        Some(text) => Ok(text),
        None => Err(gone(which)),
    }
}

/// A token whose bearer waits for a person.
fn waits(token: &JoinToken, now: Timestamp) -> bool {
    state(token) == TokenState::Pending && token.spec.expires_at.0 > now
}

/// The id of the one join that is meant.
fn only(tokens: &[JoinToken], which: &str, now: Timestamp) -> Result<String, CommandError> {
    let meant = tokens
        .iter()
        .filter(|token| is_named(token, which) && waits(token, now));
    let ids: Vec<String> = meant.map(ResourceExt::name_any).collect();
    match ids.as_slice() {
        [] => Err(gone(which)),
        [id] => Ok(id.clone()),
        several => Err(CommandError::Refused(format!(
            "{} joins of {which} wait: name one by its token, as `remote-istio-hub join list` shows it: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

fn gone(which: &str) -> CommandError {
    CommandError::Refused(format!(
        "no join of {which} waits for approval: `remote-istio-hub join list` shows those that do"
    ))
}

/// Decided on what stands there at the moment of the write: it may not be what was listed.
fn answered(token: &mut JoinToken, answer: Answer, now: Timestamp) -> Result<String, CommandError> {
    let remote = token.spec.remote.clone();
    if !waits(token, now) {
        return Err(gone(&remote));
    }
    let status = token.status.get_or_insert_default();
    let TokenClaim {
        key,
        cluster_uid,
        address,
    } = status.claim.clone().unwrap_or_default();
    let (state, said) = match answer {
        Answer::Approve => (TokenState::Approved, "approved: it joins within seconds"),
        Answer::Deny => (TokenState::Denied, "denied: its token is worth nothing now"),
    };
    status.state = state;
    Ok(format!(
        "{remote} is {said}\n\ncluster  {cluster_uid}\nfrom     {address}\nkey      {key}\n"
    ))
}

fn row(token: &JoinToken) -> [String; 4] {
    let claim = claim(token);
    [
        token.spec.remote.clone(),
        token.name_any(),
        claim.cluster_uid,
        claim.address,
    ]
}

fn as_json(token: &JoinToken) -> Value {
    json!({"remote": token.spec.remote, "token": token.name_any(), "claim": claim(token)})
}

fn claim(token: &JoinToken) -> TokenClaim {
    let status = token.status.as_ref();
    status.and_then(|status| status.claim.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_objects::{at, token};

    #[test]
    fn only_a_join_that_waits_is_meant() {
        let tokens = [
            token("aaaaaaaa", "remote-1", TokenState::Used),
            token("bbbbbbbb", "remote-1", TokenState::Pending),
            token("cccccccc", "remote-2", TokenState::Pending),
        ];
        assert_eq!(only(&tokens, "remote-1", at(0)).expect("one waits"), "bbbbbbbb");
        assert_eq!(only(&tokens, "cccccccc", at(0)).expect("one waits"), "cccccccc");
        for (which, now) in [("aaaaaaaa", at(0)), ("remote-3", at(0)), ("remote-1", at(3600))] {
            let error = only(&tokens, which, now).expect_err(which).to_string();
            assert!(error.starts_with(&format!("no join of {which} waits")), "{error}");
        }
    }

    #[test]
    fn several_joins_of_one_remote_must_be_named_by_their_tokens() {
        let tokens = [
            token("aaaaaaaa", "remote-1", TokenState::Pending),
            token("bbbbbbbb", "remote-1", TokenState::Pending),
        ];
        let error = only(&tokens, "remote-1", at(0)).expect_err("two wait").to_string();
        assert!(error.ends_with("aaaaaaaa, bbbbbbbb"), "{error}");
        assert_eq!(only(&tokens, "bbbbbbbb", at(0)).expect("one is named"), "bbbbbbbb");
    }

    #[test]
    fn answer_changes_the_state_alone_and_says_who_was_answered() {
        for (answer, state, word) in [
            (Answer::Approve, TokenState::Approved, "approved"),
            (Answer::Deny, TokenState::Denied, "denied"),
        ] {
            let mut answered = token("aaaaaaaa", "remote-1", TokenState::Pending);
            let mut expected = answered.clone();
            expected.status.get_or_insert_default().state = state;
            let text = super::answered(&mut answered, answer, at(0)).expect("it waits");
            assert_eq!(answered, expected);
            assert!(text.starts_with(&format!("remote-1 is {word}: ")), "{text}");
            assert!(text.contains("uid-of-remote-1") && text.contains("192.0.2.1") && text.contains("sha256:00"));
        }
    }

    #[test]
    fn join_that_no_longer_waits_when_it_is_written_is_not_answered() {
        for state in [
            TokenState::Unused,
            TokenState::Used,
            TokenState::Dead,
            TokenState::Denied,
        ] {
            let mut token = token("aaaaaaaa", "remote-1", state);
            assert!(answered(&mut token, Answer::Approve, at(0)).is_err(), "{state:?}");
        }
        let mut late = token("aaaaaaaa", "remote-1", TokenState::Pending);
        assert!(answered(&mut late, Answer::Approve, at(3600)).is_err());
    }
}
