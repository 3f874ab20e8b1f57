//! One session's place among the others, and what reaches it from outside its stream.

use std::sync::Arc;
use std::time::Duration;

use remote_istio::identity::RemoteName;
use remote_istio::tls::NotAdmitted;
use remote_istio::wire::v1;
use tokio::sync::watch;
use tokio::time::timeout;

use super::sessions::{LastSeen, Sessions};
use crate::registry::{Answer, SessionId};
use crate::report::SessionReport;
use crate::session::Yielded;

/// Why a session must end, seen from outside its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A newer session of the same remote has taken its place.
    Superseded,
    /// Its certificate does not count any more.
    NotAdmitted(NotAdmitted),
}

/// The hub's end of a session's signals.
#[derive(Debug)]
pub(super) struct Signals {
    ending: watch::Sender<Option<Ending>>,
    question: watch::Sender<Option<v1::Challenge>>,
    yielded: watch::Sender<Option<Yielded>>,
}

/// The stream's end of a session's signals.
#[derive(Debug)]
pub(super) struct Signalled {
    ending: watch::Receiver<Option<Ending>>,
    question: watch::Receiver<Option<v1::Challenge>>,
}

pub(super) fn signals() -> (Signals, Signalled) {
    let (ending, ends) = watch::channel(None);
    let (question, asks) = watch::channel(None);
    let signals = Signals {
        ending,
        question,
        yielded: watch::Sender::default(),
    };
    let signalled = Signalled {
        ending: ends,
        question: asks,
    };
    (signals, signalled)
}

impl Signals {
    /// Ends the session. Returns whether it was not about to end already.
    pub(super) fn end(&self, ending: Ending) -> bool {
        self.ending.send_replace(Some(ending)).is_none()
    }

    /// Asks the agent, if `challenge` is a new question, and waits for its answer outside of any lock.
    pub(super) fn ask(&self, holder: SessionId, nonce: u64, challenge: Option<v1::Challenge>) -> Asked {
        if challenge.is_some() {
            self.question.send_replace(challenge);
        }
        Asked {
            holder,
            nonce,
            yielded: self.yielded.subscribe(),
        }
    }

    pub(super) fn answer(&self, yielded: Yielded) {
        self.yielded.send_replace(Some(yielded));
    }
}

impl Signalled {
    /// Waits until the session must end, or its agent must be asked something. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                biased;
                ending = self.ending.wait_for(Option::is_some) => {
                    // Only a session that was replaced loses its place before it ends.
                    let ending = ending.ok().and_then(|ending| *ending);
                    return Signal::End(ending.unwrap_or(Ending::Superseded));
                }
                Ok(()) = self.question.changed() => {
                    if let Some(question) = self.question.borrow_and_update().clone() {
                        return Signal::Ask(question);
                    }
                }
            }
        }
    }
}

/// What reaches a session from outside its stream.
#[derive(Debug)]
pub(super) enum Signal {
    /// It must end.
    End(Ending),
    /// Its agent must be asked.
    Ask(v1::Challenge),
}

/// A question to the holder of a session that is under way.
#[derive(Debug)]
pub(super) struct Asked {
    holder: SessionId,
    nonce: u64,
    yielded: watch::Receiver<Option<Yielded>>,
}

impl Asked {
    /// What the holder says within `deadline`; nothing: its session has ended.
    pub(super) async fn answer(mut self, deadline: Duration) -> Option<(SessionId, Answer)> {
        let nonce = self.nonce;
        let is_answer = |yielded: &Option<Yielded>| yielded.is_some_and(|yielded| yielded.nonce == nonce);
        let answer = match timeout(deadline, self.yielded.wait_for(is_answer)).await {
            Ok(Ok(yielded)) if yielded.is_some_and(|yielded| yielded.yields) => Answer::Yields,
            Ok(Ok(_)) => Answer::Stays,
            Ok(Err(_)) => return None,
            Err(_) => Answer::Silent,
        };
        Some((self.holder, answer))
    }
}

/// One session's place among the others. It is given up when this is dropped, however that comes about.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) sessions: Arc<Sessions>,
    pub(super) remote: RemoteName,
    pub(super) id: SessionId,
}

impl Standing {
    /// Shows what the session knows, if that has changed and the session still stands.
    pub(super) fn publish(&self, report: SessionReport) {
        {
            let mut inner = self.sessions.inner.lock();
            let Some(live) = inner.live.get_mut(&self.remote).filter(|live| live.id == self.id) else {
                return;
            };
            if live.report.as_deref() == Some(&report) {
                return;
            }
            live.report = Some(Arc::new(report));
        }
        self.sessions.notify(&self.remote);
    }

    /// The agent answered a question. Whoever waits for it decides anew.
    pub(super) fn answered(&self, yielded: Yielded) {
        let mut inner = self.sessions.inner.lock();
        if !inner.registry.answered(&self.remote, self.id, yielded.nonce) {
            return;
        }
        if let Some(live) = inner.live.get(&self.remote) {
            live.signals.answer(yielded);
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        {
            let mut inner = self.sessions.inner.lock();
            if !inner.registry.close(&self.remote, self.id) {
                return;
            }
            let live = inner.live.remove(&self.remote);
            if let Some(live) = &live {
                live.peer.holds_session(false);
            }
            let seen = LastSeen {
                at: crate::clock::unix_seconds(),
                certificate: live.and_then(|live| live.report.as_ref().map(|report| report.certificate)),
            };
            inner.last_seen.insert(self.remote.clone(), seen);
        }
        self.sessions.notify(&self.remote);
    }
}
