//! `ca begin`, `ca switch`, `ca drop`: a made CA is replaced step by step, and no remote is left behind unnamed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use remote_istio::identity::RemoteName;

use super::central::{Central, Part};
use super::error::CommandError;
use super::identity;
use crate::authority::LinkCa;
use crate::crd::RemoteIdentity;

/// Reads the CA.
pub(super) async fn read(central: &Central, secret: &str) -> Result<LinkCa, CommandError> {
    let found = central.api::<Secret>().get_opt(secret).await;
    let found = found.map_err(|error| CommandError::of_object(format!("Secret {secret} cannot be read"), error))?;
    let found = found.ok_or_else(|| missing(central, secret))?;
    parsed(&found, secret, SystemTime::from(central.now))
}

/// Step 1 of 3.
pub(super) async fn begin(central: &Central, secret: &str) -> Result<String, CommandError> {
    let now = SystemTime::from(central.now);
    let begun = change(central, secret, |ca| step(ca.begin(now))).await?;
    Ok(format!(
        "a new CA is trusted beside the old one, which still signs: epoch {epoch}\n\n\
         Remotes that are connected take it within seconds. When `remote-istio-hub ca show` counts all\n\
         of them under epoch {epoch}, go on: remote-istio-hub ca switch\n",
        epoch = begun.epoch()
    ))
}

/// Step 2 of 3.
pub(super) async fn switch(central: &Central, secret: &str) -> Result<String, CommandError> {
    let switched = change(central, secret, |ca| step(ca.switch())).await?;
    let behind = behind(&central.identities().await?, &switched);
    let mut text = format!(
        "the new CA signs from now on: {}\n\n\
         Remotes that are connected renew their certificates soon. When `remote-istio-hub ca show` says\n\
         that none needs the old CA, end it: remote-istio-hub ca drop\n\n\
         Join commands that were printed before pin the old CA; make new tokens for them.\n",
        switched.pin()
    );
    if !behind.is_empty() {
        text.extend([format!("\nneeds the old CA still: {}\n", behind.join(", "))]);
    }
    Ok(text)
}

/// Step 3 of 3. Whoever is forgotten is revoked first: without the old root it could neither connect nor recover.
pub(super) async fn drop_old(central: &Central, secret: &str, forget: &[RemoteName]) -> Result<String, CommandError> {
    let ca = read(central, secret).await?;
    step(ca.drop_old())?;
    let identities = central.identities().await?;
    let behind = behind(&identities, &ca);
    let forgotten = forgotten(&identities, &behind, forget)?;
    for name in &forgotten {
        identity::cut_off(central, name, "forgotten when the old CA of the link was dropped").await?;
    }
    let epoch = ca.epoch();
    let dropped = change(central, secret, |ca| {
        if ca.epoch() == epoch {
            return step(ca.drop_old());
        }
        Err(CommandError::Refused(
            "the CA was changed by somebody else in the meantime: look at `remote-istio-hub ca show`".to_owned(),
        ))
    });
    let dropped = dropped.await?;
    let mut text = format!("the old CA is trusted no longer: epoch {}\n", dropped.epoch());
    for name in forgotten {
        text.extend([format!(
            "{name} is revoked: to let it join again, run `remote-istio-hub token create {name}`\n"
        )]);
    }
    Ok(text)
}

/// Names of the remotes that could not go on without the old roots: they did not say that they trust the newest ones,
/// or hold a certificate of another signer. One that is revoked counts no more.
pub(super) fn behind(identities: &[RemoteIdentity], ca: &LinkCa) -> Vec<String> {
    let (epoch, signer) = (ca.epoch(), ca.signer().to_string());
    let needs_old = |identity: &&RemoteIdentity| {
        let status = identity.status.clone().unwrap_or_default();
        let trusted = status.trust_epoch.and_then(|epoch| u64::try_from(epoch).ok());
        trusted.is_none_or(|trusted| trusted < epoch) || status.signer.as_ref() != Some(&signer)
    };
    let counted = identities.iter().filter(|identity| identity.spec.revoked.is_none());
    let mut names: Vec<String> = counted.filter(needs_old).map(ResourceExt::name_any).collect();
    names.sort();
    names
}

/// Those of the remotes in the way that a person gives up: all of them, or nothing is done.
fn forgotten(
    identities: &[RemoteIdentity],
    behind: &[String],
    forget: &[RemoteName],
) -> Result<Vec<String>, CommandError> {
    let is_known = |name: &&RemoteName| identities.iter().any(|identity| identity.name_any() == name.as_str());
    if let Some(unknown) = forget.iter().find(|name| !is_known(name)) {
        return Err(CommandError::Refused(format!(
            "--forget {unknown}: no remote has joined by that name; `remote-istio-hub identity list` shows those that have"
        )));
    }
    let is_given_up = |name: &String| forget.iter().any(|forget| forget.as_str() == name);
    let left: Vec<&str> = behind
        .iter()
        .filter(|name| !is_given_up(name))
        .map(String::as_str)
        .collect();
    if left.is_empty() {
        return Ok(behind.to_vec());
    }
    Err(CommandError::Refused(format!(
        "the old CA is still needed by {}: wait until they were connected and renewed their certificates, or cut them \
         off for good with --forget {}",
        left.join(", "),
        left.join(",")
    )))
}

/// Changes the CA by one step, over what was read.
async fn change(
    central: &Central,
    secret: &str,
    step: impl Fn(&LinkCa) -> Result<LinkCa, CommandError>,
) -> Result<LinkCa, CommandError> {
    let attempted = format!("Secret {secret} cannot be changed");
    let now = SystemTime::from(central.now);
    let change = |found: &mut Secret| {
        let present = parsed(found, secret, now)?;
        let next = step(&present)?;
        // What else somebody keeps there stays.
        let data = found.data.get_or_insert_default();
        data.retain(|key, _| !present.to_secret().contains_key(key));
        data.extend(
            next.to_secret()
                .into_iter()
                .map(|(key, value)| (key, ByteString(value))),
        );
        Ok(next)
    };
    let changed = central.change(secret, Part::Whole, &attempted, change).await?;
    changed.ok_or_else(|| missing(central, secret))
}

fn parsed(found: &Secret, secret: &str, now: SystemTime) -> Result<LinkCa, CommandError> {
    let data = found.data.clone().unwrap_or_default();
    let data: BTreeMap<String, Vec<u8>> = data.into_iter().map(|(key, value)| (key, value.0)).collect();
    // One that has ended can still be replaced.
    let ca = LinkCa::from_secret_of_any_time(&data, now);
    let ca = ca.map_err(|error| CommandError::Refused(format!("Secret {secret} holds no usable CA: {error}")))?;
    ca.ok_or_else(|| {
        CommandError::Refused(format!(
            "Secret {secret} is empty: the hub makes a CA into it when it starts with --link-ca made"
        ))
    })
}

fn missing(central: &Central, secret: &str) -> CommandError {
    CommandError::Refused(format!(
        "there is no Secret {secret} in namespace {}: name the hub's namespace with --namespace, the Secret with \
         --link-ca-secret; a hub with --link-ca files has none",
        central.namespace
    ))
}

fn step<E: std::error::Error>(taken: Result<LinkCa, E>) -> Result<LinkCa, CommandError> {
    taken.map_err(|error| CommandError::Refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_objects::{at, identity, link_ca, trusting};
    use crate::crd::Revocation;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn remotes(names: &[&str]) -> Vec<RemoteName> {
        let names = names.iter().map(|name| RemoteName::new(name).expect("a DNS label"));
        names.collect()
    }

    #[test]
    fn remote_needs_the_old_ca_until_it_trusts_the_new_one_and_has_a_certificate_of_it() {
        let old = link_ca();
        let new = old
            .begin(SystemTime::now())
            .and_then(|begun| begun.switch())
            .expect("switched");
        let mut revoked = trusting("f", 1, &old);
        revoked.spec.revoked = Some(Revocation {
            at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)),
            reason: String::new(),
        });
        let identities = [
            trusting("e", 2, &new),
            trusting("d", 3, &new),
            trusting("c", 1, &new),
            trusting("b", 2, &old),
            identity("a"),
            revoked,
        ];
        assert_eq!(behind(&identities, &new), names(&["a", "b", "c"]));
    }

    #[test]
    fn every_remote_in_the_way_must_be_named() {
        let identities = ["a", "b", "c"].map(identity);
        let behind = names(&["a", "b"]);
        let error = forgotten(&identities, &behind, &remotes(&["a"])).expect_err("b is in the way");
        assert!(
            error.to_string().starts_with("the old CA is still needed by b: "),
            "{error}"
        );
        let all = forgotten(&identities, &behind, &remotes(&["b", "a"])).expect("all are named");
        assert_eq!(all, behind);
    }

    #[test]
    fn remote_that_is_named_without_need_is_not_cut_off_and_an_unknown_one_is_an_error() {
        let identities = ["a", "b"].map(identity);
        let forgotten_of = |forget| forgotten(&identities, &names(&["a"]), &remotes(forget));
        assert_eq!(forgotten_of(&["a", "b"]).expect("known"), names(&["a"]));
        let error = forgotten_of(&["a", "x"]).expect_err("unknown").to_string();
        assert!(error.starts_with("--forget x: "), "{error}");
    }

    #[test]
    fn secret_without_a_ca_is_said_to_be_empty_and_a_broken_one_is_named() {
        let error = parsed(&Secret::default(), "my-ca", SystemTime::now())
            .expect_err("empty")
            .to_string();
        assert!(error.starts_with("Secret my-ca is empty"), "{error}");
        let mut broken = Secret::default();
        let entry = ("tls.key".to_owned(), ByteString(b"x".to_vec()));
        broken.data.get_or_insert_default().extend([entry]);
        let error = parsed(&broken, "my-ca", SystemTime::now())
            .expect_err("broken")
            .to_string();
        assert!(error.starts_with("Secret my-ca holds no usable CA: "), "{error}");
    }
}
