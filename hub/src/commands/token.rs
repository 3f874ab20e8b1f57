//! `token create`, `token list`, `token revoke`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use remote_istio::enrolment::Token;
use serde_json::{Value, json};

use super::central::{Central, Part};
use super::error::CommandError;
use super::install::NewToken;
use super::table::{moment, table};
use crate::args::{Output, TokenOutput, TokenRequest};
use crate::crd::{JoinToken, JoinTokenSpec, RemoteIdentity, TokenState};

/// How many ids are tried: they are random, 40 bits.
const IDS: u32 = 3;

/// Makes a token and tells how to join by it.
pub(super) async fn create(central: &Central, request: &TokenRequest) -> Result<String, CommandError> {
    let link = central.published().await?;
    let remote = request.remote.as_str();
    let has_remote = central.has_remote(remote).await?;
    let identity = central.identity(remote).await?;
    let expires_at = central.now.checked_add(request.lifetime);
    let expires_at =
        Time(expires_at.map_err(|error| CommandError::Refused(format!("--ttl cannot be added: {error}")))?);
    let spec = |token: &Token, created_by: &str| JoinTokenSpec {
        remote: remote.to_owned(),
        secret_hash: token.secret_hash(),
        expires_at: expires_at.clone(),
        approval: request.approval,
        cluster_uid: request.cluster_uid.clone(),
        created_by: created_by.to_owned(),
    };
    let created_by = central.whoami().await;
    let attempted = format!("no token can be made for {remote}");
    for _ in 0..IDS {
        let token = Token::new(rand::random(), rand::random());
        let record = JoinToken::new(token.id(), spec(&token, &created_by));
        let Some(made) = central.create(&record, &attempted).await? else {
            continue;
        };
        if let Some(refusal) = barred(&made, identity.as_ref()) {
            kill(central, token.id()).await?;
            return Err(refusal);
        }
        let new = NewToken {
            token: &token,
            remote,
            expires_at: expires_at.clone(),
            lifetime: request.lifetime,
            approval: request.approval,
            link: &link,
            chart: &request.chart,
            has_remote,
            bound_to: bound_to(identity.as_ref(), request.cluster_uid.as_deref()),
        };
        return Ok(match request.output {
            TokenOutput::Text => new.text(),
            TokenOutput::Json => pretty(&new.json()),
            TokenOutput::Token => format!("{}\n", token.reveal()),
        });
    }
    Err(CommandError::Contended { attempted })
}

/// A hub would take the token for one from before the revocation, for ever.
fn barred(made: &JoinToken, identity: Option<&RemoteIdentity>) -> Option<CommandError> {
    let revoked = identity?.spec.revoked.as_ref()?;
    let created = made.metadata.creation_timestamp.as_ref()?;
    (revoked.at.0.as_second() > created.0.as_second()).then(|| {
        let (remote, at, created) = (&made.spec.remote, moment(&revoked.at), moment(created));
        CommandError::Refused(format!(
            "{remote} was revoked at {at}, which lies after central's clock, {created}: no token made now would be \
             taken; run `remote-istio-hub revoke {remote}` once more, which sets the moment anew, then make the token"
        ))
    })
}

/// The cluster that stands in the way of a join, as far as can be said before it.
fn bound_to<'a>(identity: Option<&'a RemoteIdentity>, wanted: Option<&str>) -> Option<&'a str> {
    let spec = &identity?.spec;
    let free = spec.released || spec.revoked.is_some() || spec.cluster_uid.is_empty();
    (!free && wanted != Some(spec.cluster_uid.as_str())).then_some(spec.cluster_uid.as_str())
}

/// Lists the tokens, those that end last at the end.
pub(super) async fn list(central: &Central, output: Output) -> Result<String, CommandError> {
    let mut tokens = central.tokens().await?;
    tokens.sort_by_key(|token| (token.spec.expires_at.clone(), token.name_any()));
    Ok(match output {
        Output::Json => pretty(
            &tokens
                .iter()
                .map(|token| as_json(token, central.now))
                .collect::<Value>(),
        ),
        Output::Text if tokens.is_empty() => "there are no tokens: make one with `token create NAME`\n".to_owned(),
        Output::Text => {
            let rows: Vec<_> = tokens.iter().map(|token| row(token, central.now)).collect();
            table(["ID", "REMOTE", "STATE", "APPROVAL", "EXPIRES", "FROM"], &rows)
        }
    })
}

fn row(token: &JoinToken, now: Timestamp) -> [String; 6] {
    let claim = token.status.as_ref().and_then(|status| status.claim.as_ref());
    [
        token.name_any(),
        token.spec.remote.clone(),
        word(token, now).to_owned(),
        format!("{:?}", token.spec.approval),
        moment(&token.spec.expires_at),
        claim.map(|claim| claim.address.clone()).unwrap_or_default(),
    ]
}

fn as_json(token: &JoinToken, now: Timestamp) -> Value {
    let status = token.status.clone().unwrap_or_default();
    json!({
        "id": token.name_any(),
        "remote": token.spec.remote,
        "state": word(token, now),
        "approval": token.spec.approval,
        "clusterUid": token.spec.cluster_uid,
        "createdBy": token.spec.created_by,
        "expiresAt": moment(&token.spec.expires_at),
        "usedAt": status.used_at.as_ref().map(moment),
        "claim": status.claim,
    })
}

/// Where a token stands.
pub(super) fn state(token: &JoinToken) -> TokenState {
    token.status.as_ref().map(|status| status.state).unwrap_or_default()
}

/// Whether a hub may still answer it with a certificate: also one that was used, to whom used it.
pub(super) fn is_answered(token: &JoinToken) -> bool {
    is_open(token) || state(token) == TokenState::Used
}

/// Whether somebody may still get a certificate by it, if it did not expire.
fn is_open(token: &JoinToken) -> bool {
    matches!(
        state(token),
        TokenState::Unused | TokenState::Pending | TokenState::Approved
    )
}

/// Where a token stands, in a word; time passes without a write.
fn word(token: &JoinToken, now: Timestamp) -> &'static str {
    if is_open(token) && token.spec.expires_at.0 <= now {
        return "Expired";
    }
    match state(token) {
        TokenState::Unused => "Unused",
        TokenState::Pending => "Pending",
        TokenState::Approved => "Approved",
        TokenState::Denied => "Denied",
        TokenState::Used => "Used",
        TokenState::Dead => "Dead",
    }
}

/// Makes the token with this id worthless, or all of this remote.
pub(super) async fn revoke(central: &Central, which: &str) -> Result<String, CommandError> {
    let tokens = central.tokens().await?;
    let mut named = tokens.iter().filter(|token| is_named(token, which)).peekable();
    if named.peek().is_none() {
        return Err(CommandError::Refused(format!(
            "there is no token {which} and no token of a remote {which}: `remote-istio-hub token list` shows all"
        )));
    }
    let mut text = String::new();
    for token in named {
        let (id, remote) = (token.name_any(), &token.spec.remote);
        text.extend([match kill(central, &id).await? {
            Killed::Now => format!("token {id} of {remote} is worth nothing now\n"),
            Killed::Before(state) => format!("token {id} of {remote} was worth nothing already: {state:?}\n"),
            Killed::Used => format!(
                "token {id} of {remote} was used already: to cut the remote off, run `remote-istio-hub revoke {remote}`\n"
            ),
        }]);
    }
    Ok(text)
}

/// Whether a person who writes `which` means this token.
pub(super) fn is_named(token: &JoinToken, which: &str) -> bool {
    token.spec.remote == which || token.metadata.name.as_deref() == Some(which)
}

/// What became of a token that was to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Killed {
    /// Nobody can join by it any more.
    Now,
    /// Nobody could anyway.
    Before(TokenState),
    /// Somebody had joined by it; from now on it is not answered again.
    Used,
}

/// Makes a token worthless. One that is gone in the meantime is that.
pub(super) async fn kill(central: &Central, id: &str) -> Result<Killed, CommandError> {
    let attempted = format!("token {id} cannot be revoked");
    let change = |token: &mut JoinToken| Ok(dead(token));
    let killed = central.change(id, Part::Status, &attempted, change).await?;
    Ok(killed.unwrap_or(Killed::Before(TokenState::Dead)))
}

fn dead(token: &mut JoinToken) -> Killed {
    let before = state(token);
    match before {
        TokenState::Denied | TokenState::Dead => return Killed::Before(before),
        _ => token.status.get_or_insert_default().state = TokenState::Dead,
    }
    if before == TokenState::Used {
        Killed::Used
    } else {
        Killed::Now
    }
}

/// JSON as people can read it too.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_objects::{at, identity, token};
    use crate::crd::{JoinTokenStatus, Revocation};

    #[test]
    fn open_token_past_its_end_is_expired_and_a_used_one_stays_used() {
        for (state, before, after) in [
            (TokenState::Unused, "Unused", "Expired"),
            (TokenState::Pending, "Pending", "Expired"),
            (TokenState::Approved, "Approved", "Expired"),
            (TokenState::Denied, "Denied", "Denied"),
            (TokenState::Used, "Used", "Used"),
            (TokenState::Dead, "Dead", "Dead"),
        ] {
            let token = token("abcdefgh", "remote-1", state);
            assert_eq!(word(&token, at(3599)), before);
            assert_eq!(word(&token, at(3600)), after);
        }
    }

    #[test]
    fn row_of_a_token_says_who_came_with_it() {
        let cells = |token: &JoinToken| row(token, at(0)).join(" ");
        let used = token("abcdefgh", "remote-1", TokenState::Used);
        assert_eq!(
            cells(&used),
            "abcdefgh remote-1 Used Manual 2027-01-15T09:00:00Z 192.0.2.1"
        );
        let unused = token("abcdefgh", "remote-1", TokenState::Unused);
        assert_eq!(cells(&unused), "abcdefgh remote-1 Unused Manual 2027-01-15T09:00:00Z ");
    }

    #[test]
    fn json_of_a_token_has_no_hash() {
        let used = as_json(&token("abcdefgh", "remote-1", TokenState::Used), at(0));
        assert!(!used.to_string().contains(&"0".repeat(64)), "{used}");
        assert_eq!(used["state"], "Used");
        assert_eq!(used["claim"]["clusterUid"], "uid-of-remote-1");
    }

    #[test]
    fn killing_a_token_keeps_what_else_its_status_says() {
        for (state, expected) in [
            (TokenState::Unused, Killed::Now),
            (TokenState::Pending, Killed::Now),
            (TokenState::Approved, Killed::Now),
            (TokenState::Used, Killed::Used),
        ] {
            let mut killed = token("abcdefgh", "remote-1", state);
            let before = killed.status.clone().unwrap_or_default();
            assert_eq!(dead(&mut killed), expected);
            let after = JoinTokenStatus {
                state: TokenState::Dead,
                ..before
            };
            assert_eq!(killed.status, Some(after));
        }
        for state in [TokenState::Denied, TokenState::Dead] {
            let mut killed = token("abcdefgh", "remote-1", state);
            let before = killed.clone();
            assert_eq!(dead(&mut killed), Killed::Before(state));
            assert_eq!(killed, before);
        }
    }

    #[test]
    fn name_of_a_living_cluster_is_said_unless_it_is_the_one_that_is_wanted() {
        let active = identity("remote-1");
        assert_eq!(bound_to(None, None), None);
        assert_eq!(bound_to(Some(&active), None), Some("uid-of-remote-1"));
        assert_eq!(bound_to(Some(&active), Some("other")), Some("uid-of-remote-1"));
        assert_eq!(bound_to(Some(&active), Some("uid-of-remote-1")), None);
        let mut released = active.clone();
        released.spec.released = true;
        assert_eq!(bound_to(Some(&released), None), None);
        let mut revoked = active;
        revoked.spec.revoked = Some(Revocation {
            at: Time(at(0)),
            reason: String::new(),
        });
        assert_eq!(bound_to(Some(&revoked), None), None);
    }

    #[test]
    fn token_from_before_a_revocation_by_a_clock_ahead_is_not_handed_out() {
        let mut made = token("abcdefgh", "remote-1", TokenState::Unused);
        made.metadata.creation_timestamp = Some(Time(at(10)));
        let revoked = |second| {
            let mut identity = identity("remote-1");
            identity.spec.revoked = Some(Revocation {
                at: Time(at(second)),
                reason: String::new(),
            });
            identity
        };
        let text = barred(&made, Some(&revoked(11))).expect("barred").to_string();
        assert!(text.contains("`remote-istio-hub revoke remote-1` once more"), "{text}");
        assert!(barred(&made, Some(&revoked(10))).is_none());
        assert!(barred(&made, Some(&identity("remote-1"))).is_none());
        assert!(barred(&made, None).is_none());
    }

    #[test]
    fn token_is_named_by_its_id_or_by_its_remote() {
        let token = token("abcdefgh", "remote-1", TokenState::Unused);
        assert!(is_named(&token, "abcdefgh"));
        assert!(is_named(&token, "remote-1"));
        assert!(!is_named(&token, "remote"));
    }
}
