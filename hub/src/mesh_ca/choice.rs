//! Which Secret holds central's mesh CA, as Istio decides it, and what to say where none is usable. Pure.

use std::time::SystemTime;

use remote_istio::enrolment::Pin;

use super::problem::MeshCaProblem;
use super::signer::{Data, MeshSigner};

/// The CA that the user plugs in.
pub const PLUGGED_IN: &str = "cacerts";

/// The CA that Istio makes where none is plugged in.
pub const SELF_SIGNED: &str = "istio-ca-secret";

/// A Secret as it was seen last. Not to be printed: it holds a key.
#[derive(Default)]
pub(super) enum Seen {
    /// Nobody knows yet.
    #[default]
    Unknown,
    /// There is none.
    Missing,
    /// It may not be read.
    Forbidden,
    /// With these entries.
    Data(Data),
}

/// What the Secrets hold.
#[derive(Debug)]
pub(super) enum Found {
    /// Not all of them were looked at yet.
    Unknown,
    /// No CA.
    Nothing(String),
    /// One that cannot be used, and why.
    Unusable(String),
    /// One that may sign, and the name of its Secret.
    Usable(Box<MeshSigner>, String),
}

/// The names to look under, the first that holds anything of a CA counts.
pub(super) fn names(given: Option<&str>) -> Vec<String> {
    let names = given.map_or_else(|| vec![PLUGGED_IN, SELF_SIGNED], |given| vec![given]);
    names.into_iter().map(str::to_owned).collect()
}

/// `held`: the Secret whose CA signs now; while it is gone no other takes its place, for who replaces a Secret deletes it
/// first. `link`: keys that are trusted on the link.
pub(super) fn choose<'a>(
    secrets: impl Iterator<Item = (&'a str, &'a Seen)> + Clone,
    held: Option<&str>,
    link: &[Pin],
    namespace: &str,
    now: SystemTime,
) -> Found {
    let mut gone = None;
    for (name, seen) in secrets.clone() {
        let data = match seen {
            Seen::Unknown => return Found::Unknown,
            Seen::Forbidden => return Found::Nothing(forbidden("Secret", name, namespace)),
            Seen::Missing => &Data::new(),
            Seen::Data(data) => data,
        };
        let read = MeshSigner::read(data, now).and_then(|signer| match signer {
            Some(signer) => refuse_link(&signer, link).map(|()| Some(signer)),
            None => Ok(None),
        });
        match read {
            Ok(Some(signer)) => {
                return match gone {
                    None => Found::Usable(Box::new(signer), name.to_owned()),
                    Some(gone) => Found::Unusable(format!(
                        "Secret {namespace}/{gone} is gone or empty; to sign by the CA of Secret {name} from now on, name it \
                         with --mesh-ca-secret"
                    )),
                };
            }
            Ok(None) if held == Some(name) => gone = held,
            Ok(None) => {}
            Err(problem) => return Found::Unusable(format!("the mesh CA of Secret {namespace}/{name}: {problem}")),
        }
    }
    let names: Vec<&str> = secrets.map(|(name, _)| name).collect();
    Found::Nothing(format!(
        "no mesh CA is found in namespace {namespace}: Secret {} is missing or empty; install Citadel or plug a CA in, \
         or name another Secret with --mesh-ca-secret",
        names.join(" and ")
    ))
}

/// What to say of an object that the hub may not read.
pub(super) fn forbidden(kind: &str, name: &str, namespace: &str) -> String {
    format!("{kind} {namespace}/{name} may not be read by the hub: apply deploy/roles/hub-mesh-ca.yaml")
}

fn refuse_link(signer: &MeshSigner, link: &[Pin]) -> Result<(), MeshCaProblem> {
    let shared = signer.keys().into_iter().find(|(pin, _)| link.contains(pin));
    shared.map_or(Ok(()), |(_, name)| Err(MeshCaProblem::TrustedOnTheLink(name)))
}
