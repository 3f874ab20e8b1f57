//! From marked keys to writes in flight and reports.

use remote_istio::model::{Applied, ApplyState, Component, Key};

use super::plan::{Others, Planner, Step};
use super::state::State;
use super::{Engine, Flight, ObjectName, Output, Verb, Write, WriteId};

/// Writes in flight: enough to bring a fresh remote up quickly, few enough not to crowd its API server's fair share.
const WRITES_IN_FLIGHT: usize = 16;

impl Engine {
    /// Looks at marked keys while writes may be started, then reports.
    pub(super) fn run(&mut self) {
        while self.in_flight.len() < WRITES_IN_FLIGHT {
            let Some(key) = self.dirty.pop_first() else { break };
            self.advance(&key);
        }
        if self.welcomed && self.prepared.is_none() && !self.reports.is_empty() {
            let reports = std::mem::take(&mut self.reports);
            self.session.applied(&reports);
            self.listen();
        }
    }

    fn advance(&mut self, key: &Key) {
        let others = self.look_around();
        let Some(state) = self.states.get_mut(key) else { return };
        if state.in_flight.is_some() {
            return;
        }
        let mut planner = Planner {
            settings: &self.settings,
            observed: &self.observed,
            facts: &self.surroundings.facts,
            others,
            stale: self.surroundings.stale,
            statistics: &mut self.statistics,
            random: &mut self.random,
            now: self.now,
        };
        let step = planner.step(state);
        let Step {
            write,
            kept,
            unkeepable,
            gone,
            report,
            wake,
        } = step;
        match wake {
            Some(at) => self.wakes.insert(key.clone(), at),
            None => self.wakes.remove(key),
        };
        self.index(key);
        self.report(key, report);
        if let Some((object, write)) = write {
            self.start(key, object, write);
        }
        if kept {
            self.kept(key);
        } else if let Some(detail) = unkeepable {
            self.refused(key, detail);
        }
        if gone {
            self.forget(key);
        }
        self.look_around();
    }

    /// How far the components are now; if that is news, each of them is looked at again.
    fn look_around(&mut self) -> Others {
        let others = self.others();
        if self.others != others {
            self.others = others;
            self.mark_components();
        }
        others
    }

    /// How far the components are, for each other.
    fn others(&self) -> Others {
        let is_there = |component| self.state_of(component).is_some();
        let mesh = self.state_of(Component::Mesh).filter(|state| !state.removed);
        let is_ours = |name: &ObjectName| {
            self.observed
                .get(name)
                .is_some_and(|found| self.observed.is_owned(found))
        };
        let stands = |state: &State| state.wanted.iter().all(|(name, _)| is_ours(name));
        Others {
            mesh: mesh.map(stands),
            readers: is_there(Component::Citadel) || is_there(Component::Injector),
            citadel: is_there(Component::Citadel),
        }
    }

    fn mark_components(&mut self) {
        let components = self.states.keys().filter(|key| matches!(key, Key::Component { .. }));
        self.dirty.extend(components.cloned());
    }

    fn start(&mut self, key: &Key, object: ObjectName, write: Write) {
        self.last_write += 1;
        let id = WriteId(self.last_write);
        let verb = match &write {
            Write::Create(_) => Verb::Create,
            Write::Apply(_) => Verb::Apply,
            Write::Delete { .. } => Verb::Delete,
            Write::Release { .. } => Verb::Release,
        };
        *self.statistics.writes.entry((object.kind, verb)).or_default() += 1;
        if let Some(state) = self.states.get_mut(key) {
            state.in_flight = Some((id, object.clone()));
        }
        self.outputs.push_back(Output::Write(id, write.clone()));
        self.in_flight.insert(
            id,
            Flight {
                key: key.clone(),
                object,
                write,
                gone: None,
            },
        );
    }

    fn report(&mut self, key: &Key, report: Option<Applied>) {
        let Some(state) = self.states.get_mut(key) else { return };
        let contended = |report: &Option<Applied>| {
            usize::from(
                report
                    .as_ref()
                    .is_some_and(|report| report.state == ApplyState::Contended),
            )
        };
        self.statistics.contended =
            (self.statistics.contended + contended(&report)).saturating_sub(contended(&state.report));
        if let Some(report) = &report
            && state.report.as_ref() != Some(report)
        {
            self.reports.insert(key.clone(), report.clone());
        }
        state.report = report;
    }

    fn forget(&mut self, key: &Key) {
        let gone = Applied {
            version: None,
            state: ApplyState::Removed,
            detail: String::new(),
            addresses: 0,
            replicas: None,
        };
        self.report(key, Some(gone));
        if let Some(state) = self.states.remove(key) {
            for name in state.names(&self.settings) {
                self.keys.remove(&name);
            }
        }
        self.wakes.remove(key);
    }

    pub(super) fn index(&mut self, key: &Key) {
        let Some(state) = self.states.get(key) else { return };
        for name in state.names(&self.settings) {
            self.keys.entry(name).or_insert_with(|| key.clone());
        }
    }
}
