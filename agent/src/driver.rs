//! The one task that owns the engine: feeds it what happens, and carries out what it wants.
//!
//! Never waits for anything but the next thing to happen: writes run beside it, frames that find no room wait here.

mod first_lists;
mod journal;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use remote_istio::model::Component;
use remote_istio::policy::Policy;
use remote_istio::process::Condition;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::apply::{Applier, kind_of, name_of, unavailable, verb_of};
use crate::engine::{
    Engine, Facts, Kind, Left, ObjectName, Outcome, Output, Served, Settings, Trust, Verb, Wants, Write, WriteId,
};
use crate::link::{LinkEvent, ToHub};
use crate::metrics::Metrics;
use crate::observe::Observed;
use first_lists::first_lists;
use journal::Journal;

/// Events of the link that wait for the driver.
pub const LINK_EVENTS_QUEUED: usize = 16;

/// Frames that wait for room on their way to the hub. A whole snapshot's statuses come to some hundreds; more than
/// this means a hub that does not read, and the session ends.
const FRAMES_WAITING: usize = 4_096;

/// Findings of the tasks beside the engine that wait for the driver.
pub const FINDINGS_QUEUED: usize = 16;

/// Writes in flight may end for so long when the agent stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// The engine's next wake is never nearer than this, so that a wake in the past cannot spin.
const WAKE_FLOOR: Duration = Duration::from_millis(1);

/// What the driver needs.
pub struct Parts {
    /// For the engine.
    pub settings: Settings,
    /// The names of all watches; the engine starts once each has listed.
    pub watches: BTreeSet<String>,
    /// From the watches.
    pub observed: mpsc::Receiver<Observed>,
    /// From the link.
    pub link: mpsc::Receiver<LinkEvent>,
    /// What the hub may ask for; the settings hold what that was at the start.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// From the tasks beside the engine.
    pub findings: mpsc::Receiver<Finding>,
    /// For them: what to look after.
    pub wants: watch::Sender<Wants>,
    /// Tells the link that the engine has started.
    pub started: oneshot::Sender<()>,
    /// Carries out writes.
    pub applier: Applier,
    /// Objects accepted and not applied, for heartbeats.
    pub backlog: Arc<AtomicU32>,
    /// Counts what the engine does.
    pub metrics: Arc<Metrics>,
    /// Met once every watch has listed.
    pub listed: Condition,
    /// This agent leaves: everything it made goes, and what is left of it is told here.
    pub leaving: Option<watch::Sender<Option<Vec<Left>>>>,
}

/// What a task beside the engine found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Whether the account, role and binding of each wanted component are there, of all of them at once.
    Roles(BTreeMap<Component, Result<(), String>>),
    /// Whether Citadel has what it signs with.
    Trust(Trust),
    /// Whether the injector serves.
    Injector(Served),
}

/// Waits for the first lists, then drives the engine until `stop`.
pub async fn run(mut parts: Parts, stop: CancellationToken) {
    let origin = Instant::now();
    let listing = first_lists(&mut parts.observed, parts.watches, &parts.listed);
    let listed = tokio::select! {
        () = stop.cancelled() => return,
        listed = listing => listed,
    };
    let Some(listed) = listed else {
        // The watches have ended, and say why themselves.
        return stop.cancelled().await;
    };
    tracing::info!(objects = listed.len(), "first lists complete, engine starts");
    parts.listed.met();
    let mut engine = Engine::new(parts.settings, listed, rand::random(), nanoseconds_since(origin));
    if parts.leaving.is_some() {
        engine.leave(nanoseconds_since(origin));
    }
    // The link has ended if it does not listen.
    let _ = parts.started.send(());
    let driver = Driver {
        engine,
        origin,
        observed: parts.observed,
        link: parts.link,
        applier: parts.applier,
        backlog: parts.backlog,
        metrics: parts.metrics,
        writes: JoinSet::new(),
        in_flight: HashMap::new(),
        session: None,
        waiting: VecDeque::new(),
        journal: Journal::default(),
        policy: parts.policy,
        findings: parts.findings,
        facts: Facts::default(),
        wants: parts.wants,
        leaving: parts.leaving,
    };
    driver.run(&stop).await;
}

struct Driver {
    engine: Engine,
    origin: Instant,
    observed: mpsc::Receiver<Observed>,
    link: mpsc::Receiver<LinkEvent>,
    applier: Applier,
    backlog: Arc<AtomicU32>,
    metrics: Arc<Metrics>,
    writes: JoinSet<(Outcome, Duration)>,
    in_flight: HashMap<Id, Started>,
    session: Option<mpsc::Sender<ToHub>>,
    waiting: VecDeque<ToHub>,
    journal: Journal,
    policy: watch::Receiver<Arc<Policy>>,
    findings: mpsc::Receiver<Finding>,
    facts: Facts,
    wants: watch::Sender<Wants>,
    leaving: Option<watch::Sender<Option<Vec<Left>>>>,
}

/// A write that was started and has not been answered.
struct Started {
    id: WriteId,
    verb: Verb,
    kind: Kind,
    object: ObjectName,
}

type Ended = Result<(Id, (Outcome, Duration)), JoinError>;

enum Next {
    Stop,
    Observed(Option<Observed>),
    Link(Option<LinkEvent>),
    Written(Ended),
    Found(Option<Finding>),
    Policy,
    Relayed,
    Time,
}

impl Driver {
    async fn run(mut self, stop: &CancellationToken) {
        loop {
            self.carry_out();
            match self.next(stop).await {
                Next::Stop => return self.drain().await,
                Next::Observed(Some(observed)) => self.observed(observed),
                Next::Link(Some(event)) => self.link_event(event),
                // Watches and link end only when they are asked to, as this task is.
                Next::Observed(None) | Next::Link(None) | Next::Found(None) => {
                    stop.cancelled().await;
                    return self.drain().await;
                }
                Next::Written(ended) => self.written(ended),
                Next::Found(Some(finding)) => self.found(finding),
                Next::Policy => self.take_policy(),
                Next::Relayed => {}
                Next::Time => {
                    let now = self.now();
                    self.engine.tick(now);
                }
            }
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Next {
        let wake = self.engine.next_wake().map(|at| self.origin + Duration::from_nanos(at));
        let wake = wake.map(|at| at.max(Instant::now() + WAKE_FLOOR));
        let session = self.session.as_ref().filter(|_| !self.waiting.is_empty());
        let room = async {
            match session {
                Some(session) => session.reserve().await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            Some(ended) = self.writes.join_next_with_id() => Next::Written(ended),
            event = self.link.recv() => Next::Link(event),
            observed = self.observed.recv() => Next::Observed(observed),
            finding = self.findings.recv() => Next::Found(finding),
            // Whoever follows the policy ends only when it is asked to, as this task is.
            Ok(()) = self.policy.changed() => Next::Policy,
            room = room => {
                match (room, self.waiting.pop_front()) {
                    (Ok(room), Some(frame)) => room.send(frame),
                    // The link has ended this session; it says so itself.
                    _ => self.waiting.clear(),
                }
                Next::Relayed
            }
            () = time => Next::Time,
        }
    }

    fn observed(&mut self, observed: Observed) {
        let now = self.now();
        if let Observed::Seen(seen) = observed {
            self.engine.seen(seen, now);
        }
    }

    fn take_policy(&mut self) {
        let policy = Arc::clone(&self.policy.borrow_and_update());
        let now = self.now();
        self.engine.policy(policy, now);
    }

    fn found(&mut self, finding: Finding) {
        tracing::debug!(?finding, "a task beside the engine found something out");
        match finding {
            Finding::Roles(roles) => self.facts.roles = roles,
            Finding::Trust(trust) => self.facts.trust = trust,
            Finding::Injector(injector) => self.facts.injector = injector,
        }
        let now = self.now();
        self.engine.learn(self.facts.clone(), now);
    }

    fn link_event(&mut self, event: LinkEvent) {
        // Nothing of the hub is judged by an older policy than the one that let the link start.
        self.take_policy();
        let now = self.now();
        match event {
            LinkEvent::Opened { frames, greeting } => {
                self.waiting.clear();
                self.session = Some(frames);
                // The link has given up if it does not listen, and says so itself.
                let _ = greeting.send(self.engine.greet(now));
            }
            // The link has given up if it does not listen, and says that it stays.
            LinkEvent::Prepare { greeting } => drop(greeting.send(self.engine.prepare(now))),
            LinkEvent::Moved { frames } => {
                self.waiting.clear();
                self.session = Some(frames);
                self.engine.moved(now);
            }
            LinkEvent::Stayed => self.engine.stayed(now),
            LinkEvent::Welcomed(welcome) => self.engine.welcomed(&welcome, now),
            // The session is being ended; what still comes on it counts for nothing.
            LinkEvent::Delta(_) if self.session.is_none() => {}
            LinkEvent::Delta(delta) => {
                if let Err(error) = self.engine.delta(delta, now) {
                    self.close(error.to_string());
                }
            }
            LinkEvent::Closed => {
                self.session = None;
                self.waiting.clear();
                self.engine.disconnected(now);
            }
        }
    }

    /// Everything the engine wants now.
    fn carry_out(&mut self) {
        while let Some(output) = self.engine.next_output() {
            match output {
                Output::Write(id, write) => self.start(id, write),
                Output::Send(_) if self.session.is_none() => {}
                Output::Send(_) if self.waiting.len() >= FRAMES_WAITING => {
                    self.close("the hub does not read what it is sent".to_owned());
                }
                Output::Send(frame) => self.waiting.push_back(ToHub::Frame(frame)),
            }
        }
        let wants = self.engine.wants();
        self.wants.send_if_modified(|before| {
            let differs = *before != wants;
            *before = wants;
            differs
        });
        if let Some(leaving) = &self.leaving {
            let left = Some(self.engine.left());
            leaving.send_if_modified(|before| {
                let differs = *before != left;
                *before = left;
                differs
            });
        }
        let backlog = self.engine.backlog();
        self.backlog.store(backlog, Ordering::Relaxed);
        self.metrics.engine(self.engine.statistics(), backlog);
        self.journal.statistics(self.engine.statistics());
    }

    fn start(&mut self, id: WriteId, write: Write) {
        let (verb, kind, object) = (verb_of(&write), kind_of(&write), name_of(&write));
        let applier = self.applier.clone();
        let task = self.writes.spawn(async move {
            let started = Instant::now();
            (applier.write(write).await, started.elapsed())
        });
        self.in_flight.insert(task.id(), Started { id, verb, kind, object });
    }

    fn written(&mut self, ended: Ended) {
        let (task, outcome, took) = match ended {
            Ok((task, (outcome, took))) => (task, outcome, took),
            // The engine must not wait for ever for a write whose task broke.
            Err(error) => (
                error.id(),
                Outcome::Failed(unavailable(error.to_string())),
                Duration::ZERO,
            ),
        };
        let Some(Started { id, verb, kind, object }) = self.in_flight.remove(&task) else {
            return;
        };
        self.metrics.written(verb, kind, &outcome, took);
        self.journal.written(verb, &object, &outcome, took);
        let now = self.now();
        self.engine.written(id, outcome, now);
    }

    /// Has the link end the stream. Nothing else is sent on it any more.
    fn close(&mut self, reason: String) {
        tracing::warn!(%reason, "ending the session with the hub");
        self.waiting.clear();
        if let Some(session) = self.session.take()
            && let Err(error) = session.try_send(ToHub::Close(reason))
        {
            // The link notices that its other end is gone, or that nothing moves any more.
            tracing::debug!(%error, "the reason found no room");
        }
    }

    /// Lets the writes in flight end; their answers no longer lead to new ones.
    async fn drain(mut self) {
        let ending = async {
            while let Some(ended) = self.writes.join_next_with_id().await {
                self.written(ended);
            }
        };
        if timeout(DRAIN_DEADLINE, ending).await.is_err() {
            tracing::warn!(writes = self.writes.len(), "stopping with writes in flight");
        }
    }

    fn now(&self) -> u64 {
        nanoseconds_since(self.origin)
    }
}

fn nanoseconds_since(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
