//! What to do next for one key: at most one write, chosen from what is wanted and what is observed.
//!
//! Nothing is remembered here of what was planned before: the same call after any event, crash or answer finds the
//! next write anew, and none when everything is as it should be.

mod component;
mod injection;
mod order;
mod ownership;
mod record;
mod removal;
mod webhook;
mod words;
mod workload;

use rand::rngs::StdRng;
use remote_istio::model::{Applied, ApplyState, Component, Key, Lane};

use super::observed::Observed;
use super::progress::{Fault, Replacement};
use super::state::State;
use super::surroundings::Stale;
use super::{Facts, Kind, ObjectName, Resource, Settings, Statistics, Write, admit, matching, names};
pub use order::Others;
pub use words::{describe, foreign};
use words::{finalizers, is_terminating, lingers};

/// What the planner may look at.
pub struct Planner<'a> {
    /// The agent's configuration.
    pub settings: &'a Settings,
    /// What the remote holds.
    pub observed: &'a Observed,
    /// What the tasks beside the engine found out.
    pub facts: &'a Facts,
    /// How far the other components are.
    pub others: Others,
    /// What has become of the endpoints while nobody vouches for them.
    pub stale: Option<Stale>,
    /// Counts drift.
    pub statistics: &'a mut Statistics,
    /// For pauses.
    pub random: &'a mut StdRng,
    /// Now, nanoseconds.
    pub now: u64,
}

/// What is to be done about one key.
#[derive(Debug, Default)]
pub struct Step {
    /// The next write and what it writes to.
    pub write: Option<(ObjectName, Write)>,
    /// What was accepted is kept and survives a restart.
    pub kept: bool,
    /// Why it cannot be kept, for as long as nobody does anything about it.
    pub unkeepable: Option<String>,
    /// Nothing of the key is left: forget it.
    pub gone: bool,
    /// What the remote made of what was accepted; nothing while that is still open.
    pub report: Option<Applied>,
    /// When to look again without an event.
    pub wake: Option<u64>,
}

/// What one object needs.
enum Need {
    /// It is as it should be.
    Nothing,
    /// This write.
    Write(Write),
    /// The record must announce it first.
    Announcement,
    /// Something is in the way; its progress says what.
    Waits,
}

impl Step {
    /// Another moment to look again.
    fn wake_at(&mut self, at: u64) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

impl Planner<'_> {
    /// The next step for a key without a write in flight.
    pub fn step(&mut self, state: &mut State) -> Step {
        if !admit::serves(self.settings, &state.key) {
            let detail = format!(
                "namespace {} is no longer among the agent's --service-namespaces: what stands there is left as it is",
                state.key.namespace()
            );
            return self.left_as_it_is(state, detail, Step::default());
        }
        if state.removed {
            return self.remove(state);
        }
        if let Some(refused) = state.refused.clone() {
            let mut step = Step::default();
            // What nobody may repair any more must not stand in the way of pods.
            if let Key::Component {
                component: Component::Injector,
                ..
            } = state.key
            {
                let given_up = self.deployment(state).is_none();
                self.withdraw(state, given_up, &mut step);
                if step.write.is_some() {
                    return step;
                }
            }
            let detail = format!("no longer allowed, what stands is left as it is: {refused}");
            return self.left_as_it_is(state, detail, step);
        }
        match state.key.lane() {
            Lane::Endpoints => self.endpoints(state),
            Lane::Config => self.config(state),
        }
    }

    /// Kept from a time when the namespace was watched, or the policy another: nothing is written any more.
    fn left_as_it_is(&mut self, state: &mut State, detail: String, mut step: Step) -> Step {
        step.kept = self.recorded(state);
        if state.keeping && !step.kept {
            self.write_record(state, &mut step);
        }
        step.report = Some(applied(
            state,
            Fault::new(ApplyState::Forbidden, detail),
            self.standing(state),
        ));
        step
    }

    /// Endpoints: the written slices are what is kept.
    fn endpoints(&mut self, state: &mut State) -> Step {
        let mut step = Step {
            kept: self.recorded(state),
            ..Step::default()
        };
        // Aged slices no longer say what was accepted: the record does, before anything ages.
        if self.stale.is_some() && !step.kept {
            self.write_record(state, &mut step);
            step.report = self
                .record_fault(state)
                .map(|fault| applied(state, fault, self.standing(state)));
            return step;
        }
        let slices = state.slices.len();
        let stranger = self.foreign_service(&state.key);
        if stranger.is_none() {
            let in_place = self.objects(state, 0..slices, &mut step);
            if step.write.is_none() && in_place {
                self.leftovers(state, &mut step);
            }
            if step.write.is_none() {
                let kinds = |name: &ObjectName| name.kind == Kind::EndpointSlice;
                step.kept |= in_place && !state.leftovers().iter().any(kinds);
            }
            if step.write.is_none() {
                self.objects(state, slices..state.wanted.len(), &mut step);
            }
        }
        let fault = stranger.or_else(|| self.fault(state)).or_else(|| self.aged());
        // One object that cannot be written holds back no other: its content is kept in the record.
        if step.write.is_none() && !step.kept && fault.as_ref().is_some_and(Fault::lasts) {
            self.write_record(state, &mut step);
        }
        self.finish(state, fault, step)
    }

    /// Config: the record is what is kept, and nothing is applied before.
    fn config(&mut self, state: &mut State) -> Step {
        let mut step = Step {
            kept: self.recorded(state),
            ..Step::default()
        };
        if state.keeping && !step.kept {
            self.write_record(state, &mut step);
            step.report = self.record_fault(state).map(|fault| applied(state, fault, 0));
            return step;
        }
        let fault = match state.key.clone() {
            Key::Injection { namespace } => self.inject(state, &namespace, &mut step),
            Key::Component { component, .. } => self.component(state, component, &mut step),
            Key::Service { .. } | Key::Endpoints { .. } => {
                if self.objects(state, 0..state.wanted.len(), &mut step) && step.write.is_none() {
                    self.leftovers(state, &mut step);
                }
                self.fault(state)
            }
        };
        self.finish(state, fault, step)
    }

    /// That the endpoints are not what was accepted, because nobody vouches for that.
    fn aged(&self) -> Option<Fault> {
        let detail = format!(
            "{}, for the hub has been away for longer than the rules allow",
            self.stale?.words()
        );
        Some(Fault::new(ApplyState::NotReady, detail))
    }

    fn finish(&mut self, state: &mut State, fault: Option<Fault>, step: Step) -> Step {
        let mut step = self.concluded(state, fault, step);
        if let Some(report) = &mut step.report {
            report.replicas = self.deployment(state).map(workload::replicas);
        }
        step
    }

    fn concluded(&mut self, state: &mut State, fault: Option<Fault>, mut step: Step) -> Step {
        if step.write.is_some() {
            step.report = fault.map(|fault| applied(state, fault, self.standing(state)));
            return step;
        }
        self.refresh_record(state, &mut step);
        let settled = Self::is_settled(state);
        // Without a record nothing can be announced, so nothing new be made.
        let fault = fault.or_else(|| self.record_fault(state).filter(|_| !settled));
        step.report = match fault {
            Some(fault) => Some(applied(state, fault, self.standing(state))),
            None if settled && (step.kept || !state.keeping) => Some(applied(
                state,
                Fault::new(ApplyState::Applied, ""),
                self.standing(state),
            )),
            None => None,
        };
        step
    }

    /// A service of the same name that is not ours: slices beside it would be merged into it.
    fn foreign_service(&self, key: &Key) -> Option<Fault> {
        let name = names::of_service(Kind::Service, key);
        let service = self.observed.get(&name)?;
        (!self.observed.is_owned(service)).then(|| foreign(self.settings, &name))
    }

    /// Finds the first write among these objects; whether all are as they should be.
    fn objects(&mut self, state: &mut State, range: std::ops::Range<usize>, step: &mut Step) -> bool {
        let mut in_place = true;
        for index in range {
            match self.need(state, index, step) {
                Need::Nothing => {}
                Need::Write(write) => {
                    step.write = Some((state.wanted[index].0.clone(), write));
                    return false;
                }
                Need::Announcement => {
                    self.write_record(state, step);
                    if step.write.is_some() {
                        return false;
                    }
                    in_place = false;
                }
                Need::Waits => in_place = false,
            }
        }
        in_place
    }

    fn need(&mut self, state: &mut State, index: usize, step: &mut Step) -> Need {
        let (name, wanted) = state.wanted[index].clone();
        let (observed, now) = (self.observed, self.now);
        let Some(found) = observed.get(&name) else {
            return self.need_creation(state, &name, &wanted, step);
        };
        if !self.observed.is_owned(found) && !self.is_unlabelled(state, &name, found) {
            state.progress(&name).fault = Some(foreign(self.settings, &name));
            return Need::Waits;
        }
        if self.observed.is_owned(found) && !self.owns(state, &name, found) {
            // Ours by its labels, though not by its UID: somebody restored it from a copy.
            state.inventory.insert(name.clone(), None);
            if !self.announced(state, &name) {
                return Need::Announcement;
            }
        }
        state.inventory.insert(name.clone(), Some(found.uid().to_owned()));
        if matching::matches(&wanted, found) {
            let progress = state.progress(&name);
            progress.settle(now);
            if let Some(quiet) = progress.quiet_at() {
                step.wake_at(quiet);
            }
            return Need::Nothing;
        }
        if is_terminating(found) {
            let finalizers = finalizers(found);
            if !finalizers.is_empty() {
                let detail = lingers(&name, &finalizers);
                state.progress(&name).fault = Some(Fault::new(ApplyState::NotReady, detail));
            }
            return Need::Waits;
        }
        if !self.may_write(state, &name, step) {
            return Need::Waits;
        }
        if state.progress(&name).replacement == Replacement::Due {
            return Need::Write(Write::Delete {
                object: name,
                uid: found.uid().to_owned(),
            });
        }
        Need::Write(Write::Apply(Resource::clone(&wanted).with_uid(found.uid())))
    }

    fn need_creation(&mut self, state: &mut State, name: &ObjectName, wanted: &Resource, step: &mut Step) -> Need {
        let former = state.inventory.insert(name.clone(), None).flatten();
        if former.is_some() {
            state.progress(name).former = former;
        }
        if !self.announced(state, name) && state.progress(name).blocked(self.now).is_none() {
            return Need::Announcement;
        }
        if !self.may_write(state, name, step) {
            return Need::Waits;
        }
        // Its name is taken and no watch shows by whom: by the one we made, if somebody took our labels off it.
        let progress = state.progress(name);
        if progress.taken
            && let Some(uid) = progress.former.take()
        {
            return Need::Write(Write::Apply(wanted.clone().with_uid(&uid)));
        }
        Need::Write(Write::Create(wanted.clone()))
    }

    /// Whether no pause forbids a write; if the write repairs drift, it is counted.
    fn may_write(&mut self, state: &mut State, name: &ObjectName, step: &mut Step) -> bool {
        let now = self.now;
        let progress = state.progress(name);
        if let Some(at) = progress.blocked(now) {
            step.wake_at(at);
            return false;
        }
        if progress.settled && progress.fault.is_none() {
            if let Err(at) = progress.repair(now, self.random) {
                step.wake_at(at);
                return false;
            }
            self.statistics.drift_repaired += 1;
        }
        true
    }

    /// What stands in the way of the key's objects, the first of them.
    fn fault(&self, state: &State) -> Option<Fault> {
        let record = names::record(self.settings, &state.key);
        let objects = state.progress.iter().filter(|(name, _)| **name != record);
        let faults = objects.clone().filter_map(|(_, progress)| progress.fault.clone());
        // What a person must look at hides behind no passing one.
        let first = faults.min_by_key(|fault| !fault.lasts());
        first.or_else(|| {
            let contended = objects.clone().find(|(_, progress)| progress.contended())?;
            let detail = format!(
                "somebody keeps changing {}: it is restored more slowly",
                describe(contended.0)
            );
            Some(Fault::new(ApplyState::Contended, detail))
        })
    }

    /// How many of the set's addresses stand in the remote.
    fn standing(&self, state: &State) -> u32 {
        let slices = state.wanted.iter().take(state.slices.len());
        let owned =
            slices.filter_map(|(name, _)| self.observed.get(name).filter(|found| self.observed.is_owned(found)));
        let count: usize = owned
            .map(|found| match found {
                Resource::EndpointSlice(slice) => slice.endpoints.as_ref().map_or(0, Vec::len),
                _ => 0,
            })
            .sum();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

fn applied(state: &State, fault: Fault, addresses: u32) -> Applied {
    let version = (!state.removed).then_some(state.object.version);
    Applied {
        version,
        state: fault.state,
        detail: fault.detail,
        addresses,
        replicas: None,
    }
}
