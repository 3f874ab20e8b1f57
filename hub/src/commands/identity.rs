//! `revoke`, `release`, `identity list`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use remote_istio::identity::RemoteName;
use serde_json::{Value, json};

use super::central::{Central, Part};
use super::error::CommandError;
use super::table::{moment, table};
use super::token::{Killed, is_open, kill, pretty};
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
    let tokens = central.tokens().await?;
    let tokens: Vec<&JoinToken> = tokens.iter().filter(|token| token.spec.remote == name).collect();
    let is_known = unknown || !tokens.is_empty() || central.identity(name).await?.is_some();
    if !is_known && !central.has_remote(name).await? {
        return Err(CommandError::Refused(format!(
            "nothing is known by the name {name}: `remote-istio-hub identity list` shows the remotes that joined; to \
             revoke it all the same, add --unknown"
        )));
    }
    let before = cut_off(central, name, reason).await?;
    let mut killed = 0;
    for token in tokens.into_iter().filter(|token| is_open(token)) {
        killed += u32::from(kill(central, &token.name_any()).await? == Killed::Now);
    }
    Ok(revoked_text(name, &before, killed))
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

/// The identity first: it is what ends sessions, and the tokens are worth nothing by it.
pub(super) async fn cut_off(central: &Central, name: &str, reason: &str) -> Result<Before, CommandError> {
    let attempted = format!("{name} cannot be revoked");
    let revoke = |identity: &mut RemoteIdentity| Ok(revoked(identity, reason, central.now));
    if let Some(before) = central.change(name, Part::Whole, &attempted, revoke).await? {
        return Ok(before);
    }
    let record = RemoteIdentity::new(name, never_joined(reason, central.now));
    if central.create(&record, &attempted).await? {
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

/// For a remote whose certificates come from elsewhere, or that is to be kept from joining by an earlier token.
fn never_joined(reason: &str, now: Timestamp) -> RemoteIdentitySpec {
    RemoteIdentitySpec {
        cluster_uid: String::new(),
        joined_at: Time(now),
        not_before: Time(now),
        released: false,
        revoked: Some(Revocation {
            at: Time(now),
            reason: reason.to_owned(),
        }),
    }
}

fn revoked_text(name: &str, before: &Before, killed: u32) -> String {
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
    text.extend([format!(
        "\nTo let it join again: remote-istio-hub token create {name}\n"
    )]);
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
    use crate::commands::test_objects::{at, identity};

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
        let expected = "remote-1 is revoked: its sessions end, its certificates count no longer\n\
                        2 tokens of it are worth nothing now\n\n\
                        To let it join again: remote-istio-hub token create remote-1\n";
        assert_eq!(revoked_text("remote-1", &Before::Joined, 2), expected);
        let again = revoked_text("remote-1", &Before::Revoked(Time(at(0))), 1);
        assert!(again.starts_with("remote-1 is revoked, as it was since 2027-01-15T08:00:00Z\none token of it"));
        let never = revoked_text("remote-1", &Before::Nothing, 0);
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
