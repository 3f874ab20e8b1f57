//! `revoke`, `release`, `identity list`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use remote_istio::identity::RemoteName;
use serde_json::{Value, json};

use super::central::{Central, Part};
use super::error::CommandError;
use super::table::{moment, table};
use super::token::{Killed, is_answered, kill, pretty};
use crate::args::Output;
use crate::crd::{JoinToken, RemoteIdentity, RemoteIdentitySpec, Revocation};

/// Cuts a remote off, and makes its unused tokens worthless.
pub(super) async fn revoke(
    central: &Central,
    remote: &RemoteName,
    reason: &str,
    unknown: bool,
) -> Result<String, CommandError> {
    let name = remote.as_str();
    let tokens = tokens_of(central, name).await?;
    let is_known = unknown || !tokens.is_empty() || central.identity(name).await?.is_some();
    if !is_known && !central.has_remote(name).await? {
        return Err(CommandError::Refused(format!(
            "nothing is known by the name {name}: `remote-istio-hub identity list` shows the remotes that joined; to \
             revoke it all the same, add --unknown"
        )));
    }
    // Before, so that no join that is under way undoes it; after, for a token that was made in between.
    let mut killed = kill_all(central, &tokens).await?;
    let before = cut_off(central, name, reason).await?;
    let tokens = tokens_of(central, name).await?;
    let earlier: Vec<JoinToken> = tokens
        .into_iter()
        .filter(|token| is_made_by(token, central.now))
        .collect();
    killed += kill_all(central, &earlier).await?;
    if !is_cut_off(central, name).await? {
        cut_off(central, name, reason).await?;
    }
    let way_back = match central.published().await {
        Ok(_) => format!("join again: remote-istio-hub token create {name}"),
        // Where certificates come from elsewhere there are no tokens.
        Err(_) => format!(
            "connect again: kubectl --namespace {} delete remoteidentity {name}",
            central.namespace
        ),
    };
    Ok(revoked_text(name, &before, killed, &way_back))
}

async fn tokens_of(central: &Central, name: &str) -> Result<Vec<JoinToken>, CommandError> {
    let mut tokens = central.tokens().await?;
    tokens.retain(|token| token.spec.remote == name);
    Ok(tokens)
}

/// Makes tokens worthless, also those that were used and whose join may be under way. Returns how many were open.
async fn kill_all(central: &Central, tokens: &[JoinToken]) -> Result<u32, CommandError> {
    let mut killed = 0;
    for token in tokens.iter().filter(|token| is_answered(token)) {
        killed += u32::from(kill(central, &token.name_any()).await? == Killed::Now);
    }
    Ok(killed)
}

/// Whether a token was made by then. Both times are whole seconds; one without a time counts as old.
fn is_made_by(token: &JoinToken, moment: Timestamp) -> bool {
    let made = token.metadata.creation_timestamp.as_ref();
    made.is_none_or(|made| made.0.as_second() <= moment.as_second())
}

async fn is_cut_off(central: &Central, name: &str) -> Result<bool, CommandError> {
    let identity = central.identity(name).await?;
    Ok(identity.is_some_and(|identity| identity.spec.revoked.is_some()))
}

/// What there was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// No remote had joined by the name.
    Nothing,
    /// A remote that was not revoked.
    Joined,
    /// A remote that was revoked then.
    Revoked(Time),
}

/// Revokes the identity: that is what ends sessions, and earlier tokens are worth nothing by it.
pub(super) async fn cut_off(central: &Central, name: &str, reason: &str) -> Result<Before, CommandError> {
    let attempted = format!("{name} cannot be revoked");
    let revoke = |identity: &mut RemoteIdentity| Ok(revoked(identity, reason, central.now));
    if let Some(before) = central.change(name, Part::Whole, &attempted, revoke).await? {
        return Ok(before);
    }
    let record = RemoteIdentity::new(name, never_joined(reason, central.now));
    if central.create(&record, &attempted).await?.is_some() {
        return Ok(Before::Nothing);
    }
    let before = central.change(name, Part::Whole, &attempted, revoke).await?;
    before.ok_or(CommandError::Contended { attempted })
}

/// A second revocation moves the moment, so that a token made between the two counts no longer.
fn revoked(identity: &mut RemoteIdentity, reason: &str, now: Timestamp) -> Before {
    let earlier = identity.spec.revoked.take();
    let kept = earlier.as_ref().map(|earlier| earlier.reason.clone());
    identity.spec.revoked = Some(Revocation {
        at: Time(now),
        reason: if reason.is_empty() {
            kept.unwrap_or_default()
        } else {
            reason.to_owned()
        },
    });
    earlier.map_or(Before::Joined, |earlier| Before::Revoked(earlier.at))
}

/// For a remote whose certificates come from elsewhere, or that is to be kept from joining by an earlier token. It had
/// no certificate of the hub's, so that its first join need not begin later than one.
fn never_joined(reason: &str, now: Timestamp) -> RemoteIdentitySpec {
    RemoteIdentitySpec {
        cluster_uid: String::new(),
        joined_at: Time(now),
        key: String::new(),
        not_before: Time(Timestamp::UNIX_EPOCH),
        released: false,
        revoked: Some(Revocation {
            at: Time(now),
            reason: reason.to_owned(),
        }),
    }
}

fn revoked_text(name: &str, before: &Before, killed: u32, way_back: &str) -> String {
    let mut text = match before {
        Before::Nothing => format!("{name} is revoked, although no remote had joined by that name with a token\n"),
        Before::Joined => format!("{name} is revoked: its sessions end, its certificates count no longer\n"),
        Before::Revoked(at) => format!("{name} is revoked, as it was since {}\n", moment(at)),
    };
    match killed {
        0 => {}
        1 => text.push_str("one token of it is worth nothing now\n"),
        several => text.extend([format!("{several} tokens of it are worth nothing now\n")]),
    }
    text.extend([format!("\nTo let it {way_back}\n")]);
    text
}

/// Lets another cluster join by the name.
pub(super) async fn release(central: &Central, remote: &RemoteName) -> Result<String, CommandError> {
    let name = remote.as_str();
    let attempted = format!("{name} cannot be released");
    let change = |identity: &mut RemoteIdentity| {
        identity.spec.released = true;
        Ok(identity.spec.cluster_uid.clone())
    };
    match central.change(name, Part::Whole, &attempted, change).await? {
        Some(cluster) => Ok(released_text(name, &cluster)),
        None => Err(CommandError::Refused(format!(
            "no remote has joined as {name}, so that nothing is to be released: `remote-istio-hub identity list` shows \
             those that have"
        ))),
    }
}

fn released_text(name: &str, cluster: &str) -> String {
    // One that was revoked before anybody joined is bound to none.
    let other = if cluster.is_empty() {
        String::new()
    } else {
        format!(", not only from {cluster}")
    };
    format!(
        "{name} is released: the next join by that name may come from any cluster{other}\n\n\
         Until then the present remote goes on. To join: remote-istio-hub token create {name}\n"
    )
}

/// Lists the identities by name.
pub(super) async fn list(central: &Central, output: Output) -> Result<String, CommandError> {
    let mut identities = central.identities().await?;
    identities.sort_by_key(ResourceExt::name_any);
    Ok(match output {
        Output::Json => pretty(&identities.iter().map(as_json).collect::<Value>()),
        Output::Text if identities.is_empty() => "no remote has joined by a token\n".to_owned(),
        Output::Text => {
            let rows: Vec<_> = identities.iter().map(row).collect();
            table(["NAME", "CLUSTER", "STATE", "EPOCH", "JOINED", "REASON"], &rows)
        }
    })
}

fn row(identity: &RemoteIdentity) -> [String; 6] {
    let RemoteIdentitySpec {
        cluster_uid,
        joined_at,
        revoked,
        ..
    } = &identity.spec;
    let epoch = identity.status.as_ref().and_then(|status| status.trust_epoch);
    [
        identity.name_any(),
        cluster_uid.clone(),
        word(&identity.spec).to_owned(),
        epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        moment(joined_at),
        revoked
            .as_ref()
            .map(|revoked| revoked.reason.clone())
            .unwrap_or_default(),
    ]
}

fn as_json(identity: &RemoteIdentity) -> Value {
    let (spec, status) = (&identity.spec, identity.status.clone().unwrap_or_default());
    json!({
        "name": identity.name_any(),
        "clusterUid": spec.cluster_uid,
        "state": word(spec),
        "trustEpoch": status.trust_epoch,
        "signer": status.signer,
        "joinedAt": moment(&spec.joined_at),
        "revoked": spec.revoked.as_ref().map(|revoked| json!({
            "at": moment(&revoked.at),
            "reason": revoked.reason,
        })),
    })
}

fn word(spec: &RemoteIdentitySpec) -> &'static str {
    match spec {
        RemoteIdentitySpec { revoked: Some(_), .. } => "Revoked",
        RemoteIdentitySpec { released: true, .. } => "Released",
        _ => "Active",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::central::tests::{answered, listed, refused, script};
    use crate::commands::test_objects::{at, identity, token};
    use crate::crd::TokenState;

    #[test]
    fn revocation_keeps_the_rest_of_an_identity_and_says_what_was_before() {
        let mut cut = identity("remote-1");
        let mut expected = cut.clone();
        expected.spec.revoked = Some(Revocation {
            at: Time(at(10)),
            reason: "stolen".to_owned(),
        });
        assert_eq!(revoked(&mut cut, "stolen", at(10)), Before::Joined);
        assert_eq!(cut, expected);
    }

    #[test]
    fn name_that_never_joined_lets_its_first_join_begin_when_it_likes() {
        let spec = never_joined("", at(0));
        assert_eq!(spec.not_before, Time(Timestamp::UNIX_EPOCH));
        assert_eq!(spec.revoked.expect("revoked").at, Time(at(0)));
    }

    /// What the hub's script says of one token, whose state was last this.
    fn stands(id: &str, state: TokenState) -> (u16, Value) {
        let mut token = token(id, "remote-1", state);
        token.metadata.creation_timestamp = Some(Time(at(0)));
        answered(token)
    }

    fn cut() -> RemoteIdentity {
        let mut cut = identity("remote-1");
        revoked(&mut cut, "", at(0));
        cut
    }

    fn wrote(asked: &[(http::Method, String, Value)]) -> Vec<String> {
        let puts = asked.iter().filter(|(method, ..)| method == http::Method::PUT);
        let path = |path: &str| path.rsplit_once("/mesh/").map(|(_, path)| path.to_owned());
        puts.filter_map(|(_, asked, _)| path(asked)).collect()
    }

    #[tokio::test]
    async fn tokens_are_worth_nothing_before_and_after_the_identity_is_revoked_whatever_their_state() {
        use TokenState::{Dead, Unused, Used};
        let mut later = token("cccccccc", "remote-1", Unused);
        later.metadata.creation_timestamp = Some(Time(at(1)));
        let (central, asked) = script([
            listed([stands("aaaaaaaa", Used)]),
            // A join by it may be under way.
            stands("aaaaaaaa", Used),
            stands("aaaaaaaa", Dead),
            answered(identity("remote-1")),
            answered(cut()),
            // Made meanwhile.
            listed([stands("aaaaaaaa", Dead), stands("bbbbbbbb", Unused), answered(later)]),
            stands("bbbbbbbb", Unused),
            stands("bbbbbbbb", Dead),
            answered(cut()),
            refused(404, "NotFound"),
        ]);
        let remote = RemoteName::new("remote-1").expect("a name");
        let text = revoke(&central, &remote, "", true).await.expect("revoked");
        assert!(text.contains("one token of it is worth nothing now"), "{text}");
        assert_eq!(
            wrote(&asked.lock()),
            [
                "jointokens/aaaaaaaa/status",
                "remoteidentities/remote-1",
                "jointokens/bbbbbbbb/status"
            ]
        );
        assert!(
            text.ends_with("connect again: kubectl --namespace mesh delete remoteidentity remote-1\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn revocation_that_a_join_undid_meanwhile_is_done_again() {
        let (central, asked) = script([
            listed([]),
            answered(identity("remote-1")),
            answered(cut()),
            listed([]),
            answered(identity("remote-1")),
            answered(identity("remote-1")),
            answered(cut()),
            refused(404, "NotFound"),
        ]);
        let remote = RemoteName::new("remote-1").expect("a name");
        revoke(&central, &remote, "", true).await.expect("revoked");
        let path = "remoteidentities/remote-1";
        assert_eq!(wrote(&asked.lock()), [path, path]);
    }

    #[test]
    fn second_revocation_is_later_and_keeps_the_reason_unless_there_is_a_new_one() {
        let mut cut = identity("remote-1");
        revoked(&mut cut, "stolen", at(10));
        assert_eq!(revoked(&mut cut, "", at(20)), Before::Revoked(Time(at(10))));
        let revocation = |second, reason: &str| {
            Some(Revocation {
                at: Time(at(second)),
                reason: reason.to_owned(),
            })
        };
        assert_eq!(cut.spec.revoked, revocation(20, "stolen"));
        revoked(&mut cut, "lost", at(30));
        assert_eq!(cut.spec.revoked, revocation(30, "lost"));
    }

    #[test]
    fn what_a_revocation_did_is_said() {
        let way_back = "join again: remote-istio-hub token create remote-1";
        let expected = "remote-1 is revoked: its sessions end, its certificates count no longer\n\
                        2 tokens of it are worth nothing now\n\n\
                        To let it join again: remote-istio-hub token create remote-1\n";
        assert_eq!(revoked_text("remote-1", &Before::Joined, 2, way_back), expected);
        let again = revoked_text("remote-1", &Before::Revoked(Time(at(0))), 1, way_back);
        assert!(again.starts_with("remote-1 is revoked, as it was since 2027-01-15T08:00:00Z\none token of it"));
        let never = revoked_text("remote-1", &Before::Nothing, 0, way_back);
        assert!(never.starts_with("remote-1 is revoked, although no remote had joined"));
        assert!(!never.contains("token of it"));
    }

    #[test]
    fn identity_is_listed_with_its_state() {
        let active = identity("remote-1");
        let mut released = active.clone();
        released.spec.released = true;
        let mut cut = released.clone();
        revoked(&mut cut, "stolen", at(10));
        for (identity, state) in [(&active, "Active"), (&released, "Released"), (&cut, "Revoked")] {
            assert_eq!(row(identity)[2], state);
            assert_eq!(as_json(identity)["state"], state);
        }
        assert_eq!(
            row(&cut).join(" "),
            "remote-1 uid-of-remote-1 Revoked  2027-01-15T08:00:00Z stolen"
        );
    }
}
