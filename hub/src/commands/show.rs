//! `ca show`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::json;

use super::ca;
use super::central::Central;
use super::error::CommandError;
use super::table::{moment, table};
use super::token::pretty;
use crate::args::Output;
use crate::authority::{LinkCa, Stage};
use crate::crd::RemoteIdentity;

/// Shows the CA, its roots, how far a replacement has come, and which remotes trust what.
pub(super) async fn show(central: &Central, secret: &str, output: Output) -> Result<String, CommandError> {
    let link = ca::read(central, secret).await?;
    let identities = central.identities().await?;
    Ok(match output {
        Output::Text => text(secret, &link, &identities),
        Output::Json => json(secret, &link, &identities),
    })
}

fn text(secret: &str, link: &LinkCa, identities: &[RemoteIdentity]) -> String {
    let roots: Vec<_> = link
        .root_facts()
        .into_iter()
        .map(|root| {
            let signs = if root.signs { "yes" } else { "no" };
            [root.pin.to_string(), ends(root.not_after), signs.to_owned()]
        })
        .collect();
    let epochs: Vec<_> = per_epoch(identities)
        .into_iter()
        .map(|(epoch, names)| {
            let epoch = epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
            [epoch, names.len().to_string(), names.join(", ")]
        })
        .collect();
    let mut text = format!(
        "secret  {secret}\nstage   {}\nepoch   {}\nsigner  {}\nends    {}\n\n{}",
        stage(link.stage()),
        link.epoch(),
        link.signer(),
        ends(link.signer_end()),
        table(["ROOT", "ENDS", "SIGNS"], &roots),
    );
    if !epochs.is_empty() {
        text.extend([format!("\n{}", table(["EPOCH", "REMOTES", "NAMES"], &epochs))]);
    }
    text.push_str(&next(link, identities));
    text
}

fn json(secret: &str, link: &LinkCa, identities: &[RemoteIdentity]) -> String {
    let roots = link.root_facts().into_iter().map(|root| {
        json!({
            "pin": root.pin.to_string(),
            "name": root.name,
            "endsAt": ends(root.not_after),
            "signs": root.signs,
        })
    });
    let epochs = per_epoch(identities)
        .into_iter()
        .map(|(epoch, remotes)| json!({"epoch": epoch, "remotes": remotes}));
    pretty(&json!({
        "secret": secret,
        "stage": word(link.stage()),
        "epoch": link.epoch(),
        "signer": link.signer().to_string(),
        "endsAt": ends(link.signer_end()),
        "roots": roots.collect::<Vec<_>>(),
        "epochs": epochs.collect::<Vec<_>>(),
        "behind": ca::behind(identities, link),
    }))
}

/// Names by the epoch that each remote trusts; those that never said come first. One that is revoked counts no more.
fn per_epoch(identities: &[RemoteIdentity]) -> BTreeMap<Option<i64>, Vec<String>> {
    let mut epochs: BTreeMap<Option<i64>, Vec<String>> = BTreeMap::new();
    for identity in identities.iter().filter(|identity| identity.spec.revoked.is_none()) {
        let epoch = identity.status.as_ref().and_then(|status| status.trust_epoch);
        epochs.entry(epoch).or_default().push(identity.name_any());
    }
    for names in epochs.values_mut() {
        names.sort();
    }
    epochs
}

/// What there is to do, where a replacement is under way.
fn next(link: &LinkCa, identities: &[RemoteIdentity]) -> String {
    let behind = ca::behind(identities, link);
    match link.stage() {
        Stage::Brought if !behind.is_empty() => format!(
            "\nThese did not take the newest roots yet, or hold a certificate of another signer:\n  {}\n",
            behind.join("\n  ")
        ),
        Stage::Brought | Stage::Stable => String::new(),
        Stage::Begun => "\nnext: remote-istio-hub ca switch, when all remotes trust the epoch\n".to_owned(),
        Stage::Switched if behind.is_empty() => {
            "\nnext: remote-istio-hub ca drop, no remote needs the old CA\n".to_owned()
        }
        Stage::Switched => format!(
            "\nnext: remote-istio-hub ca drop, when these do not need the old CA any more:\n  {}\n",
            behind.join("\n  ")
        ),
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Brought => "brought: it is replaced in the Secret by who keeps it there",
        Stage::Stable => "stable: made by the hub, nothing is being replaced",
        Stage::Begun => "begun: the new CA is trusted, the old one signs",
        Stage::Switched => "switched: the new CA signs, the old one is trusted",
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Brought => "Brought",
        Stage::Stable => "Stable",
        Stage::Begun => "Begun",
        Stage::Switched => "Switched",
    }
}

fn ends(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "never".to_owned(), |time| moment(&Time(time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_objects::{identity, link_ca, trusting};

    #[test]
    fn ca_is_shown_with_its_roots_and_who_trusts_what() {
        let old = link_ca();
        let new = old
            .begin(SystemTime::now())
            .and_then(|begun| begun.switch())
            .expect("switched");
        let identities = [trusting("a", 2, &new), trusting("b", 1, &old), identity("c")];
        let text = text("my-ca", &new, &identities);
        let line = |number: usize| text.lines().nth(number).unwrap_or_default().to_owned();
        assert_eq!(line(0), "secret  my-ca");
        assert_eq!(line(2), "epoch   2");
        assert_eq!(line(3), format!("signer  {}", new.signer()));
        assert!(
            line(7).starts_with(&old.signer().to_string()) && line(7).ends_with("no"),
            "{text}"
        );
        assert!(
            line(8).starts_with(&new.signer().to_string()) && line(8).ends_with("yes"),
            "{text}"
        );
        let rest: Vec<String> = (10..14).map(line).collect();
        assert_eq!(
            rest,
            [
                "EPOCH  REMOTES  NAMES",
                "-      1        c",
                "1      1        b",
                "2      1        a"
            ]
        );
        assert!(
            text.ends_with("when these do not need the old CA any more:\n  b\n  c\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn next_step_of_a_replacement_is_named() {
        let stable = link_ca();
        let begun = stable.begin(SystemTime::now()).expect("begun");
        let switched = begun.switch().expect("switched");
        assert_eq!(next(&stable, &[]), "");
        assert!(next(&begun, &[]).contains("ca switch"));
        assert!(next(&switched, &[]).contains("ca drop, no remote needs"));
    }

    #[test]
    fn json_of_a_ca_names_who_is_behind_and_shows_no_key() {
        let ca = link_ca();
        let shown = json("my-ca", &ca, &[trusting("a", 1, &ca), identity("b")]);
        let value: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(value["stage"], "Stable");
        assert_eq!(value["behind"], json!(["b"]));
        assert_eq!(
            value["epochs"],
            json!([{"epoch": null, "remotes": ["b"]}, {"epoch": 1, "remotes": ["a"]}])
        );
        assert_eq!(value["roots"][0]["signs"], true);
        assert!(!shown.contains("PRIVATE"));
    }
}
