//! `mesh-ca show`, `mesh-ca forget-root`: whom the mesh trusts, and the end of a change of central's mesh CA.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::json;

use super::central::{Central, Part};
use super::error::CommandError;
use super::table::{moment, table};
use super::token::pretty;
use crate::args::Output;
use crate::authority::certificate::{CertificateFacts, shown};
use crate::crd::RemoteIstio;
use crate::mesh_ca::{MESH_TRUST_CONFIG_MAP, MeshRoot, MeshRoots};

/// Of the status of a `RemoteIstio`.
const CONDITION: &str = "MeshTrust";

/// Shows the CA that signs, the roots, and how far each remote has come.
pub(super) async fn show(central: &Central, output: Output) -> Result<String, CommandError> {
    let found = central.api::<ConfigMap>().get_opt(MESH_TRUST_CONFIG_MAP).await;
    let attempted = || format!("ConfigMap {MESH_TRUST_CONFIG_MAP} cannot be read");
    let found = found.map_err(|error| CommandError::of_object(attempted(), error))?;
    let found = found.ok_or_else(|| missing(central))?;
    let (roots, remotes) = (read(&found), with_citadel(central).await?);
    Ok(match output {
        Output::Text => text(&roots, &remotes),
        Output::Json => json(&roots, &remotes),
    })
}

/// Takes an earlier root out of the trust.
pub(super) async fn forget_root(central: &Central, digits: &str, force: bool) -> Result<String, CommandError> {
    let behind = behind(&with_citadel(central).await?);
    let attempted = format!("ConfigMap {MESH_TRUST_CONFIG_MAP} cannot be changed");
    let change = |found: &mut ConfigMap| {
        let (forgotten, left) = without(&read(found), digits)?;
        if !behind.is_empty() && !force {
            return Err(CommandError::Refused(format!(
                "root {} is kept, for these remotes do not have an intermediate of the present CA yet: {}; wait until \
                 condition {CONDITION} of each is True, or add --force if they are not to be waited for",
                forgotten.fingerprint,
                behind.join(", ")
            )));
        }
        found.data = Some(left.write());
        Ok(forgotten)
    };
    let forgotten = central
        .change(MESH_TRUST_CONFIG_MAP, Part::Whole, &attempted, change)
        .await?;
    let forgotten = forgotten.ok_or_else(|| missing(central))?;
    Ok(format!(
        "root {} is trusted no longer; remotes take it out of their Secret cacerts within seconds.\n\n\
         Workloads with a certificate below it are not trusted any more. Where it still stands in the Secret of\n\
         central's mesh CA, take it out there too: the hub trusts what stands there.\n",
        forgotten.fingerprint
    ))
}

/// Which root is meant, and what is left without it.
fn without(roots: &MeshRoots, digits: &str) -> Result<(MeshRoot, MeshRoots), CommandError> {
    let is_meant = |root: &&MeshRoot| root.fingerprint.to_string().starts_with(digits);
    let meant: Vec<_> = roots.roots.iter().filter(is_meant).collect();
    let [meant] = meant.as_slice() else {
        let text = if meant.is_empty() {
            "no root has"
        } else {
            "several roots have"
        };
        return Err(CommandError::Refused(format!(
            "{text} a fingerprint that begins with {digits}: `remote-istio-hub mesh-ca show` lists them"
        )));
    };
    if Some(meant.fingerprint) == roots.signer_root {
        return Err(CommandError::Refused(format!(
            "root {} is that of the CA which signs now: change central's mesh CA first",
            meant.fingerprint
        )));
    }
    let mut left = roots.clone();
    left.roots.retain(|root| root.fingerprint != meant.fingerprint);
    Ok(((*meant).clone(), left))
}

fn read(found: &ConfigMap) -> MeshRoots {
    found.data.as_ref().map(MeshRoots::read).unwrap_or_default()
}

fn missing(central: &Central) -> CommandError {
    CommandError::Refused(format!(
        "there is no ConfigMap {MESH_TRUST_CONFIG_MAP} in namespace {}: no hub there has signed for the mesh yet, which \
         it does with --sign-mesh-ca once it found central's mesh CA; name the hub's namespace with --namespace",
        central.namespace
    ))
}

async fn with_citadel(central: &Central) -> Result<Vec<RemoteIstio>, CommandError> {
    let mut remotes = central.all::<RemoteIstio>("RemoteIstios cannot be listed").await?;
    remotes.retain(|remote| remote.spec.citadel.is_some());
    remotes.sort_by_key(ResourceExt::name_any);
    Ok(remotes)
}

/// Names of those that do not have an intermediate of the present CA, as far as their status says.
fn behind(remotes: &[RemoteIstio]) -> Vec<String> {
    let is_behind = |remote: &&RemoteIstio| condition(remote).is_none_or(|condition| condition.status != "True");
    remotes.iter().filter(is_behind).map(ResourceExt::name_any).collect()
}

fn condition(remote: &RemoteIstio) -> Option<&Condition> {
    let conditions = &remote.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == CONDITION)
}

fn text(roots: &MeshRoots, remotes: &[RemoteIstio]) -> String {
    let rows: Vec<_> = roots.roots.iter().map(|root| root_row(roots, root)).collect();
    let signer = roots.signer.map(|pin| pin.to_string()).unwrap_or_default();
    let mut text = format!(
        "signer  {signer}\n\n{}",
        table(["ROOT", "SIGNS", "SINCE", "ENDS", "NAME"], &rows)
    );
    for root in &roots.roots {
        text.extend([format!("\n{}  {}", short(root), root.fingerprint)]);
    }
    text.push('\n');
    let rows: Vec<_> = remotes
        .iter()
        .map(|remote| {
            let condition = condition(remote);
            let [status, reason, message] = condition
                .map(|condition| [&condition.status, &condition.reason, &condition.message].map(Clone::clone))
                .unwrap_or_default();
            [remote.name_any(), status, reason, message]
        })
        .collect();
    if !rows.is_empty() {
        text.extend([format!("\n{}", table(["REMOTE", "TRUST", "REASON", "MESSAGE"], &rows))]);
    }
    text
}

fn root_row(roots: &MeshRoots, root: &MeshRoot) -> [String; 5] {
    let facts = CertificateFacts::read(&root.certificate);
    let signs = if Some(root.fingerprint) == roots.signer_root {
        "yes"
    } else {
        "no"
    };
    let ends = facts.as_ref().map(|facts| shown(facts.not_after));
    let name = facts.map(|facts| facts.subject);
    let since = moment(&Time(root.since));
    [
        short(root),
        signs.to_owned(),
        since,
        ends.unwrap_or_default(),
        name.unwrap_or_default(),
    ]
}

fn short(root: &MeshRoot) -> String {
    root.fingerprint.to_string().chars().take(12).collect()
}

fn json(roots: &MeshRoots, remotes: &[RemoteIstio]) -> String {
    let listed = roots.roots.iter().map(|root| {
        let facts = CertificateFacts::read(&root.certificate);
        let ends = facts.as_ref().map_or(SystemTime::UNIX_EPOCH, |facts| facts.not_after);
        json!({
            "fingerprint": root.fingerprint.to_string(),
            "name": facts.map(|facts| facts.subject),
            "since": moment(&Time(root.since)),
            "endsAt": shown(ends),
            "signs": Some(root.fingerprint) == roots.signer_root,
        })
    });
    let remotes = remotes.iter().map(|remote| {
        let condition = condition(remote);
        json!({
            "remote": remote.name_any(),
            "trust": condition.map(|condition| &condition.status),
            "reason": condition.map(|condition| &condition.reason),
            "message": condition.map(|condition| &condition.message),
        })
    });
    pretty(&json!({
        "signer": roots.signer.map(|pin| pin.to_string()),
        "roots": listed.collect::<Vec<_>>(),
        "remotes": remotes.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests;
