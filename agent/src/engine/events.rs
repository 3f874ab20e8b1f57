//! What the engine makes of events: which keys they concern, and what they change in a key's progress.

use std::collections::BTreeSet;
use std::sync::Arc;

use remote_istio::lane::Judged;
use remote_istio::model::{ApplyState, Component, Key, Lane, Object};

use super::progress::{DECIDED_PAUSE, Fault, Replacement};
use super::record::{Inventory, Record};
use super::state::State;
use super::{Engine, Failure, Flight, Kind, ObjectName, Outcome, Output, Resource, Write, matching, names, plan};
use crate::session;

impl Engine {
    /// Takes what the session has to say.
    pub(super) fn listen(&mut self) {
        while let Some(output) = self.session.next_output() {
            match output {
                session::Output::Send(frame) => self.outputs.push_back(Output::Send(frame)),
                session::Output::Keep { lane, judged, source } => self.keep(lane, judged, &source),
            }
        }
    }

    fn keep(&mut self, lane: Lane, judged: Judged, source: &str) {
        for nack in &judged.nacks {
            *self.statistics.nacks.entry(nack.reason).or_default() += 1;
        }
        let mut open = BTreeSet::new();
        for (key, object) in judged.upserts {
            if self.accept(&key, object, source) {
                open.insert(key);
            }
        }
        for key in judged.removals {
            if self.let_go(&key, source, judged.orphaned) {
                open.insert(key);
            }
        }
        match lane {
            // What the hub of this session sends is what it vouches for.
            Lane::Endpoints => self.away.vouched(),
            Lane::Config => {
                self.config_heard = true;
                self.mesh_may_differ();
            }
        }
        // After a snapshot the hub has to be told anew what became of what it holds.
        let of_lane = self.states.iter().filter(|(key, _)| key.lane() == lane);
        self.reports
            .extend(of_lane.filter_map(|(key, state)| Some((key.clone(), state.report.clone()?))));
        self.dirty.extend(open.iter().cloned());
        self.keeping.insert(lane, open);
        self.settle_lane(lane);
    }

    fn accept(&mut self, key: &Key, object: Arc<Object>, source: &str) -> bool {
        let (settings, now) = (&self.settings, self.now);
        let fresh = || {
            State::new(Record {
                key: key.clone(),
                object: Arc::clone(&object),
                removed: false,
                orphaned: false,
                source: source.to_owned(),
                // Another release than ours, so that accepting it is a change.
                release: String::new(),
                sequence: 0,
                inventory: Inventory::new(),
            })
        };
        let is_new = !self.states.contains_key(key);
        let state = self.states.entry(key.clone()).or_insert_with(fresh);
        let was_open = !is_new && state.report.is_none();
        if !state.accept(settings, &self.surroundings, object, source, now) {
            return state.keeping;
        }
        state.keeping = true;
        self.reports.remove(key);
        self.statistics.merged += u64::from(was_open);
        true
    }

    fn let_go(&mut self, key: &Key, source: &str, orphaned: bool) -> bool {
        let Some(state) = self.states.get_mut(key) else {
            return false;
        };
        if !state.remove(&self.settings, source, orphaned, self.now) {
            return state.keeping;
        }
        state.keeping = true;
        self.reports.remove(key);
        true
    }

    /// A key is kept: if a delta waited for it alone, that is acknowledged.
    pub(super) fn kept(&mut self, key: &Key) {
        if let Some(state) = self.states.get_mut(key) {
            state.keeping = false;
        }
        self.no_longer_open(key);
    }

    /// A key cannot be kept: it is refused, so that the others of its delta stand.
    pub(super) fn refused(&mut self, key: &Key, detail: String) {
        if self.keeping.get(&key.lane()).is_some_and(|open| open.contains(key)) {
            self.session.refuse(key.lane(), key, detail);
            *self
                .statistics
                .nacks
                .entry(remote_istio::lane::NackReason::Policy)
                .or_default() += 1;
        }
        self.no_longer_open(key);
    }

    fn no_longer_open(&mut self, key: &Key) {
        let lane = key.lane();
        if self.keeping.get_mut(&lane).is_some_and(|open| open.remove(key)) {
            self.settle_lane(lane);
        }
    }

    fn settle_lane(&mut self, lane: Lane) {
        if self.keeping.get(&lane).is_some_and(BTreeSet::is_empty) {
            self.keeping.remove(&lane);
            self.session.kept(lane);
            self.count_held();
            self.listen();
        }
    }

    pub(super) fn count_held(&mut self) {
        self.statistics.held = Lane::ALL.map(|lane| (lane, self.session.held(lane))).into();
    }

    /// An object changed in the remote: marks the keys it concerns, and lifts pauses it may have been the reason of.
    pub(super) fn changed(&mut self, name: &ObjectName) {
        let keys: Vec<Key> = match name.kind {
            Kind::Service => {
                let (namespace, service) = (&name.namespace, &name.name);
                let component = self.keys.get(name).cloned();
                let of_name = [Key::endpoints(namespace, service), Key::service(namespace, service)];
                of_name.into_iter().chain(component).collect()
            }
            Kind::Endpoints => vec![Key::endpoints(&name.namespace, &name.name)],
            Kind::EndpointSlice | Kind::ConfigMap | Kind::Deployment | Kind::MutatingWebhook => {
                self.keys.get(name).cloned().into_iter().collect()
            }
            Kind::Namespace => return self.namespace_changed(&name.name),
        };
        for key in keys {
            let Some(state) = self.states.get_mut(&key) else {
                continue;
            };
            if let Some(progress) = state.progress.get_mut(name)
                && progress
                    .fault
                    .as_ref()
                    .is_none_or(|fault| fault.state == ApplyState::Foreign)
            {
                progress.fault = None;
                progress.retry_now();
            }
            self.dirty.insert(key);
        }
    }

    fn namespace_changed(&mut self, namespace: &str) {
        if namespace == self.settings.namespace {
            self.namespace_may_differ();
        }
        let is_there = self
            .observed
            .namespace(namespace)
            .is_some_and(|found| !found.terminating);
        let name = names::namespace(namespace);
        for (key, state) in self.states.iter_mut().filter(|(key, _)| key.namespace() == namespace) {
            let waits = |fault: &Fault| match fault.state {
                ApplyState::NamespaceMissing => is_there,
                ApplyState::UserDecided => true,
                _ => false,
            };
            let mut concerned = state.progress.contains_key(&name) || matches!(key, Key::Injection { .. });
            for progress in state
                .progress
                .values_mut()
                .filter(|progress| progress.fault.as_ref().is_some_and(waits))
            {
                progress.fault = None;
                progress.retry_now();
                concerned = true;
            }
            if concerned {
                self.dirty.insert(key.clone());
            }
        }
    }

    /// What an answer changes.
    pub(super) fn answered(&mut self, flight: &Flight, outcome: Outcome) {
        let Flight { key, object, write, .. } = flight;
        let Some(state) = self.states.get_mut(key) else { return };
        state.in_flight = None;
        match outcome {
            Outcome::Done(answer) => {
                state.progress(object).answered();
                match (write, answer) {
                    (Write::Delete { .. }, None) => self.deleted(key, object),
                    // Its finalizers hold it: it is only going.
                    (Write::Delete { .. } | Write::Release { .. }, Some(answer)) => self.seen_in_answer(flight, answer),
                    (_, Some(answer)) => self.stored(flight, answer),
                    // What became of it the watch will tell.
                    (_, None) => {}
                }
            }
            Outcome::Failed(failure) => self.failed(flight, &failure),
        }
    }

    fn stored(&mut self, flight: &Flight, answer: Resource) {
        let Flight { key, object, write, .. } = flight;
        let Some(state) = self.states.get_mut(key) else { return };
        match write {
            Write::Create(_) if object.kind != Kind::ConfigMap => {
                state.inventory.insert(object.clone(), Some(answer.uid().to_owned()));
                state.defer_record(self.now);
            }
            Write::Apply(sent) if sent.metadata().is_some() && !matching::matches(sent, &answer) => {
                let progress = state.progress(object);
                if progress.replacement == Replacement::None && object.kind != Kind::ConfigMap {
                    progress.replacement = Replacement::Due;
                } else {
                    let detail = format!(
                        "the API server holds {} otherwise than it was applied: look for a webhook that changes it",
                        plan::describe(object)
                    );
                    progress.reject(detail, self.now, &mut self.random);
                }
            }
            _ => {}
        }
        // From here on a difference is somebody else's doing, however soon it comes.
        let wanted = state.wanted.iter().find(|(name, _)| name == object);
        if wanted.is_some_and(|(_, wanted)| matching::matches(wanted, &answer)) {
            state.progress(object).settle(self.now);
        }
        self.seen_in_answer(flight, answer);
    }

    fn seen_in_answer(&mut self, flight: &Flight, answer: Resource) {
        let is_gone = flight.gone.is_some_and(|gone| answer.revision() <= Some(gone));
        // Somebody else's newer change may already be known.
        if !is_gone && self.observed.put(answer) {
            self.changed(&flight.object);
        }
    }

    fn deleted(&mut self, key: &Key, object: &ObjectName) {
        // With a finalizer it is only going: the watch has shown that, or will.
        self.observed.remove(object);
        let Some(state) = self.states.get_mut(key) else { return };
        let progress = state.progress(object);
        if progress.replacement == Replacement::Due {
            progress.replacement = Replacement::Done;
        }
        if state.wanted.iter().any(|(name, _)| name == object) {
            state.inventory.insert(object.clone(), None);
        } else {
            state.inventory.remove(object);
            state.progress.remove(object);
        }
        self.changed(object);
    }

    fn failed(&mut self, flight: &Flight, failure: &Failure) {
        let Flight { key, object, write, .. } = flight;
        *self.statistics.failures.entry(reason(failure)).or_default() += 1;
        let Some(state) = self.states.get_mut(key) else { return };
        let what = plan::describe(object);
        let stranger = plan::foreign(&self.settings, object);
        match (failure, write) {
            (Failure::NotFound, Write::Delete { .. } | Write::Release { .. }) => return self.deleted(key, object),
            (Failure::NotFound, _) => {
                self.observed.remove(object);
            }
            // What has the name now is another object, which no watch shows: not ours, whoever's it is.
            (Failure::Conflict(message), Write::Delete { .. } | Write::Release { .. })
                if self.observed.get(object).is_none() && message.to_lowercase().contains("uid") =>
            {
                return self.deleted(key, object);
            }
            // It has come to be known meanwhile: whose it is can be seen.
            (Failure::AlreadyExists, _) if self.observed.get(object).is_some() => return,
            _ => {}
        }
        let progress = state.progress(object);
        progress.failed(failure, stranger, self.now, &mut self.random);
        if let (Failure::Rejected(message), Write::Apply(_)) = (failure, write)
            && is_immutable(message)
        {
            progress.immutable(&what, message);
        }
        if let (Failure::Forbidden(message), Key::Component { component, .. }) = (failure, key) {
            progress.fault = Some(Fault::new(ApplyState::Forbidden, forbidden(*component, message)));
        }
        if let (Failure::Conflict(message), Kind::Namespace) = (failure, object.kind) {
            let detail = format!("somebody else holds the injection label of {what}, that stands: {message}");
            progress.fault = Some(Fault::new(ApplyState::UserDecided, detail));
            progress.retry_at = Some(self.now + DECIDED_PAUSE);
        }
    }
}

/// Whether the API server refused a change for that the field cannot change, as it says of selectors and cluster IPs.
fn is_immutable(message: &str) -> bool {
    ["field is immutable", "may not change once set"]
        .iter()
        .any(|words| message.contains(words))
}

/// What to do about a right that the agent lacks for a component.
fn forbidden(component: Component, message: &str) -> String {
    let values = match component {
        Component::Citadel | Component::Trust => "components.citadel.enabled=true",
        Component::Injector => "components.sidecarInjector.enabled=true",
        Component::Mesh | Component::Rules => {
            "components.citadel.enabled=true or components.sidecarInjector.enabled=true"
        }
    };
    format!("{message}; set {values} of chart remote-istio-agent, or apply deploy/roles/components.yaml")
}

/// The word for a failure in metrics.
fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::AlreadyExists => "AlreadyExists",
        Failure::NotFound => "NotFound",
        Failure::Conflict(_) => "Conflict",
        Failure::NamespaceMissing(_) => "NamespaceMissing",
        Failure::Forbidden(_) => "Forbidden",
        Failure::Rejected(_) => "Rejected",
        Failure::Unavailable { .. } => "Unavailable",
    }
}
