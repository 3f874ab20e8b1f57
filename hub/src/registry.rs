//! Which session of a remote stands: one at a time. Pure.
//!
//! A session is ordered by the start counter of its agent, then by the connection of that process. A clone has the
//! history of the agent it was made from, so that only the question to the live holder tells it from a restart: the
//! predecessor in a rolling update has lost its Lease and yields, a twin still holds its own and says no.

mod conflict;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use remote_istio::identity::RemoteName;

pub use self::conflict::{CONFLICT_LASTS, Conflict, Conflicts, PREDECESSOR_ENDS_WITHIN, Party};
use crate::report::SessionEpoch;

/// Names one session within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// Who wants to open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Random, once per agent process.
    pub boot_id: String,
    /// Its place in the order of sessions.
    pub epoch: SessionEpoch,
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// Where it dials from.
    pub address: String,
}

/// What comes of a wish to open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may go on.
    Opened(Opened),
    /// The holder must be asked; come back with its answer.
    Ask(Ask),
}

/// A session that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its name from here on.
    pub id: SessionId,
    /// The session it replaces, which must end.
    pub superseded: Option<SessionId>,
}

/// A question to the holder of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom to ask.
    pub holder: SessionId,
    /// Names the question.
    pub nonce: u64,
    /// It must be sent; else it is under way already and its answer counts for this claimant too.
    pub is_new: bool,
}

/// What the holder said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is no longer the remote's agent.
    Yields,
    /// It still is.
    Stays,
    /// Nothing in time.
    Silent,
}

/// Why a session may not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An older connection of the process that already has a session.
    #[error("a newer connection of this agent holds the session")]
    OlderConnection,
    /// An agent that started before the one that has the session.
    #[error(
        "a newer agent holds this session: it started as number {}, this one as number {}; stop this one",
        .holder.start, .challenger.start
    )]
    OlderAgent {
        /// Who stays.
        holder: Party,
        /// Who was refused.
        challenger: Party,
    },
    /// Two agents that both believe to be the remote's.
    #[error(
        "another agent holds this session: {holder}; this one is {challenger}: two agents run with one identity; stop \
         one, or join it under a name of its own"
    )]
    Twin {
        /// Who stays.
        holder: Party,
        /// Who was refused.
        challenger: Party,
    },
    /// The name is bound to another cluster than the one the agent runs in.
    #[error(
        "the name is bound to cluster {bound}, this agent is {challenger}: join it under a name of its own, or move the \
         name with `remote-istio-hub release NAME` and a new token"
    )]
    OtherCluster {
        /// UID of the cluster that the name is bound to.
        bound: String,
        /// Who was refused.
        challenger: Party,
    },
    /// The holder changed again and again while it was asked.
    #[error("several agents of this remote came at once; try again")]
    Contended,
}

impl Refused {
    /// The two agents, if this alone shows that one identity is used by two. [`Refused::OlderAgent`] does not: a
    /// predecessor ends soon, and [`Conflicts::older`] finds the one that does not.
    #[must_use]
    pub fn parties(&self) -> Option<(Party, Party)> {
        match self {
            Self::Twin { holder, challenger } => Some((holder.clone(), challenger.clone())),
            Self::OtherCluster { bound, challenger } => Some((Party::bound(bound), challenger.clone())),
            Self::OlderConnection | Self::OlderAgent { .. } | Self::Contended => None,
        }
    }
}

/// The live sessions of this replica.
#[derive(Debug, Default)]
pub struct Registry {
    live: BTreeMap<RemoteName, Holder>,
    last_id: u64,
    last_nonce: u64,
}

#[derive(Debug)]
struct Holder {
    id: SessionId,
    claimant: Claimant,
    /// The question it has not answered yet.
    asked: Option<u64>,
}

impl Registry {
    /// Decides whether a session may be opened, and which one must end for it. `bound`: UID of the cluster that the
    /// name is bound to, where that is known. `answer`: of the holder that was asked for this claimant; it counts only
    /// while that one still holds the session.
    ///
    /// # Errors
    /// Another session of this remote stands and stays, or the claimant is not who bears the name.
    pub fn open(
        &mut self,
        remote: &RemoteName,
        claimant: Claimant,
        bound: Option<&str>,
        answer: Option<(SessionId, Answer)>,
    ) -> Result<Outcome, Refused> {
        if let Some(bound) = bound.filter(|bound| *bound != claimant.cluster_uid) {
            let (bound, challenger) = (bound.to_owned(), Party::of(&claimant));
            return Err(Refused::OtherCluster { bound, challenger });
        }
        let mut superseded = None;
        if let Some(holder) = self.live.get_mut(remote) {
            let answer = answer
                .filter(|(asked, _)| *asked == holder.id)
                .map(|(_, answer)| answer);
            match judge(&holder.claimant, &claimant, answer)? {
                Judgement::Supersedes => superseded = Some(holder.id),
                Judgement::AsksHolder => return Ok(Outcome::Ask(holder.ask(&mut self.last_nonce))),
            }
        }
        self.last_id += 1;
        let id = SessionId(self.last_id);
        let holder = Holder {
            id,
            claimant,
            asked: None,
        };
        self.live.insert(remote.clone(), holder);
        Ok(Outcome::Opened(Opened { id, superseded }))
    }

    /// A session answered a question. Returns whether that question was under way.
    pub fn answered(&mut self, remote: &RemoteName, id: SessionId, nonce: u64) -> bool {
        let holder = self.live.get_mut(remote).filter(|holder| holder.id == id);
        let Some(holder) = holder.filter(|holder| holder.asked == Some(nonce)) else {
            return false;
        };
        holder.asked = None;
        true
    }

    /// A session has ended. Returns whether it was the one that stood; a superseded one is not.
    pub fn close(&mut self, remote: &RemoteName, id: SessionId) -> bool {
        let stood = self.stands(remote, id);
        if stood {
            self.live.remove(remote);
        }
        stood
    }

    /// Whether this session is the one that stands.
    #[must_use]
    pub fn stands(&self, remote: &RemoteName, id: SessionId) -> bool {
        self.live.get(remote).is_some_and(|holder| holder.id == id)
    }

    /// How many sessions stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

impl Holder {
    fn ask(&mut self, last_nonce: &mut u64) -> Ask {
        let is_new = self.asked.is_none();
        let nonce = *self.asked.get_or_insert_with(|| {
            *last_nonce += 1;
            *last_nonce
        });
        Ask {
            holder: self.id,
            nonce,
            is_new,
        }
    }
}

/// What becomes of a claimant that is not refused.
enum Judgement {
    Supersedes,
    AsksHolder,
}

fn judge(holder: &Claimant, claimant: &Claimant, answer: Option<Answer>) -> Result<Judgement, Refused> {
    if holder.boot_id == claimant.boot_id {
        return if claimant.epoch.connection > holder.epoch.connection {
            Ok(Judgement::Supersedes)
        } else {
            Err(Refused::OlderConnection)
        };
    }
    let twin = || Refused::Twin {
        holder: Party::of(holder),
        challenger: Party::of(claimant),
    };
    if holder.cluster_uid != claimant.cluster_uid {
        return Err(twin());
    }
    let order = claimant.epoch.start.cmp(&holder.epoch.start);
    if order == Ordering::Less {
        return Err(Refused::OlderAgent {
            holder: Party::of(holder),
            challenger: Party::of(claimant),
        });
    }
    match answer {
        None => Ok(Judgement::AsksHolder),
        Some(Answer::Yields) => Ok(Judgement::Supersedes),
        // A holder that hangs must not lock its successor out.
        Some(Answer::Silent) if order == Ordering::Greater => Ok(Judgement::Supersedes),
        Some(Answer::Stays | Answer::Silent) => Err(twin()),
    }
}
