//! What becomes of the Secret `cacerts`: from what stands there, what is wanted, and the time. Pure.

use std::time::SystemTime;

use remote_istio::model::Component;
use remote_istio::wire::v1;

use super::chain::Life;
use super::secret::{Found, NAME};
use crate::engine::{Trust, Wants};
use crate::identity::schedule::{began, renew_at, spread};

/// The Secret, as far as it is known.
#[derive(Debug, Default)]
pub(super) enum Seen {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// It cannot be looked at, and why.
    Unreadable(String),
    /// There is none.
    Absent,
    /// It is there.
    There(Box<Found>),
}

/// What the engine would have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Wish<'a> {
    /// The trust to have an intermediate of.
    pub(super) trust: Option<&'a v1::MeshTrust>,
    /// Citadel is wanted: it reads the Secret.
    pub(super) citadel: bool,
    /// What was made for a trust is to go; `orphaned`: only to be let go of.
    pub(super) removed: bool,
    /// See `removed`.
    pub(super) orphaned: bool,
}

impl<'a> Wish<'a> {
    pub(super) fn of(wants: &'a Wants) -> Self {
        Self {
            trust: wants.trust.as_ref(),
            citadel: wants.components.contains(&Component::Citadel),
            removed: wants.trust.is_none() && wants.trust_removed,
            orphaned: wants.trust_orphaned,
        }
    }

    /// The Secret has to be followed, not only looked at once.
    pub(super) fn follows(&self) -> bool {
        self.citadel || self.trust.is_some()
    }
}

/// The time, and what depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) now: SystemTime,
    /// Since when it is known that another CA signs now.
    pub(super) other_signer_since: Option<SystemTime>,
    /// From 0 to 1, the same for one certificate however often it is asked for.
    pub(super) chance: f64,
}

/// Why a new intermediate is signed, the word in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    None,
    Broken(&'static str),
    OtherSigner,
    Age,
}

impl Why {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::None => "there is none",
            Self::Broken(what) => what,
            Self::OtherSigner => "another CA signs for the mesh",
            Self::Age => "it is to be renewed",
        }
    }
}

/// So much sooner than certificates of the link: between the two roots, every remote trusts what the others do not yet.
const HASTE: u32 = 3;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing; look again then, if at all.
    Rest(Option<SystemTime>),
    /// Make a key, and have the hub sign it.
    Sign(Why),
    /// Write the roots only.
    Roots,
    /// It is this agent's, and not wanted any more.
    Delete,
    /// It is to stay, or is not this agent's any more in all but its labels.
    LetGo,
}

/// What to do next.
pub(super) fn step(seen: &Seen, wish: Wish<'_>, timing: Timing) -> Step {
    let found = match seen {
        Seen::Unknown | Seen::Unreadable(_) => return Step::Rest(None),
        Seen::Absent => None,
        Seen::There(found) => Some(found.as_ref()),
    };
    match (wish.trust, found) {
        (_, Some(found)) if !found.is_ours() => Step::Rest(None),
        // His key is nowhere else, perhaps: it is neither signed over nor deleted.
        (trust, Some(found)) if found.is_replaced() && (trust.is_some() || wish.removed) => Step::LetGo,
        (None, Some(_)) if wish.removed && wish.orphaned => Step::LetGo,
        (None, Some(_)) if wish.removed => Step::Delete,
        (None, _) => Step::Rest(None),
        (Some(_), _) if !wish.citadel => Step::Rest(None),
        (Some(_), None) => Step::Sign(Why::None),
        (Some(trust), Some(found)) => keep(found, trust, timing),
    }
}

fn keep(found: &Found, trust: &v1::MeshTrust, timing: Timing) -> Step {
    let life = match found.life() {
        Ok(life) => life,
        Err(what) => return Step::Sign(Why::Broken(what)),
    };
    let renewal = renewal(life, timing.chance);
    if timing.now >= renewal {
        return Step::Sign(Why::Age);
    }
    // The roots first: with the new one among them, what the new CA signs elsewhere is trusted here already.
    if !found.has_roots(&trust.roots) {
        return Step::Roots;
    }
    if found.is_signed_by(&trust.signer) {
        return Step::Rest(Some(renewal));
    }
    let start = began(None, life.not_before, life.not_after);
    let since = timing.other_signer_since.unwrap_or(timing.now);
    let due = since + spread(start, life.not_after, timing.chance) / HASTE;
    if timing.now >= due {
        return Step::Sign(Why::OtherSigner);
    }
    Step::Rest(Some(due.min(renewal)))
}

fn renewal(life: Life, chance: f64) -> SystemTime {
    let start = began(None, life.not_before, life.not_after);
    renew_at(start, life.not_after, chance)
}

/// Whether the intermediate that stands there is of another CA than the one that signs now.
pub(super) fn has_other_signer(seen: &Seen, wish: Wish<'_>) -> bool {
    match (seen, wish.trust) {
        (Seen::There(found), Some(trust)) => found.is_ours() && !found.is_signed_by(&trust.signer),
        _ => false,
    }
}

/// What to say of it. `trouble`: of the last attempt to have it signed or written.
pub(super) fn verdict(seen: &Seen, wish: Wish<'_>, now: SystemTime, trouble: Option<&str>) -> Trust {
    let found = match seen {
        Seen::Unknown => return Trust::Unknown,
        // What is to go may still stand there: that it is gone, nobody has seen.
        Seen::Unreadable(_) if wish.removed && (wish.orphaned || !wish.citadel) => return Trust::Unknown,
        Seen::Unreadable(why) => return Trust::Missing(why.clone()),
        Seen::Absent => return Trust::Missing(absent(wish, trouble)),
        Seen::There(found) => found,
    };
    let ready = |own| Trust::Ready {
        hash: found.hash(),
        own,
    };
    if !found.is_ours() {
        let lacks = found.lacks();
        return if lacks.is_empty() {
            ready(false)
        } else {
            Trust::Missing(incomplete(&lacks))
        };
    }
    if wish.removed {
        // Whatever is in it: it still has to go.
        return ready(true);
    }
    if found.is_replaced() {
        return ready(false);
    }
    match found.life() {
        Ok(life) if now < life.not_after => ready(true),
        Ok(_) => Trust::Missing(with_trouble("the remote's intermediate CA has ended", trouble)),
        Err(what) => {
            let text = format!("the Secret {NAME} cannot be used: {what}; it is being signed anew");
            Trust::Missing(with_trouble(&text, trouble))
        }
    }
}

fn absent(wish: Wish<'_>, trouble: Option<&str>) -> String {
    if wish.trust.is_none() {
        return format!(
            "Citadel has no CA to sign with: ask the operator of central to grant one (the hub's flag --sign-mesh-ca), or \
             put a Secret {NAME} of your own into this namespace"
        );
    }
    if !wish.citadel {
        return "no intermediate CA is signed while this remote holds no Citadel to sign with it".to_owned();
    }
    with_trouble("the remote's intermediate CA is not signed yet", trouble)
}

fn incomplete(lacks: &[&str]) -> String {
    format!(
        "the Secret {NAME} is not this agent's, and lacks {}, which Citadel reads: complete it, or delete it",
        lacks.join(", ")
    )
}

fn with_trouble(text: &str, trouble: Option<&str>) -> String {
    trouble.map_or_else(|| text.to_owned(), |trouble| format!("{text}: {trouble}"))
}

#[cfg(test)]
mod tests;
