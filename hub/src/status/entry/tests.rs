use std::sync::Arc;

use remote_istio::model::{ApplyState, Snapshot};

use super::super::conditions::{CERTIFICATE_VALID, IDENTITY_CONFLICT, time};
use super::super::test_objects::{CONNECTED_AT, REPLICA, World, condition, lanes, pilot};
use super::*;
use crate::crd::{DeletionPolicy, FORCE_DELETE_ANNOTATION, State};
use crate::registry::{Conflict, Party};
use crate::report::CertificateReport;

const SECOND: u64 = 1_000_000_000;

/// A remote and its entry; what is written comes back through the watch only when a test says so.
struct Trial {
    world: World,
    entry: Entry,
    leads: bool,
    now: u64,
    position: u64,
    /// Time alone changes what is said of certificates; most tests do without.
    knows_certificates: bool,
}

impl Trial {
    fn new(world: World) -> Self {
        Self {
            world,
            entry: Entry::new(1),
            leads: false,
            now: 100 * SECOND,
            position: 10,
            knows_certificates: false,
        }
    }

    fn leading(world: World) -> Self {
        Self {
            leads: true,
            ..Self::new(world)
        }
    }

    fn step(&mut self) -> Step {
        let seen = Seen {
            object: &self.world.remote,
            desired: self.world.desired.as_ref(),
            session: self.world.session.as_ref(),
            disconnected_at: self.world.disconnected_at,
            identity: Identity {
                certificate: self.world.identity().certificate.filter(|_| self.knows_certificates),
                ..self.world.identity()
            },
        };
        let here = Here {
            replica: REPLICA,
            leads: self.leads,
            now: self.now,
            now_unix: CONNECTED_AT + i64::try_from(self.now / SECOND).expect("small"),
        };
        self.entry.step(seen, here)
    }

    /// Does what the step asks, if it asks for a write: what is stored then.
    fn write(&mut self) -> Written {
        self.position += 1;
        let step = self.step();
        let (read, finalizers, status) = match step {
            Step::Status { read, status, .. } => (read.clone(), read.finalizers, Some(*status)),
            Step::Finalizers { read, finalizers } => (read, Some(finalizers), self.world.remote.status.clone()),
            other => panic!("{other:?} is no write"),
        };
        let metadata = ObjectMeta {
            resource_version: Some(self.position.to_string()),
            finalizers,
            ..*read
        };
        Written { metadata, status }
    }

    fn write_status(&mut self) -> Written {
        let written = self.write();
        self.entry.wrote_status(written.clone(), self.now);
        written
    }

    fn write_finalizers(&mut self) -> Written {
        let written = self.write();
        self.entry.wrote_finalizers(written.clone());
        written
    }

    /// The watch brings what was written.
    fn watched(&mut self, written: Written) {
        self.world.remote.metadata = written.metadata;
        self.world.remote.status = written.status;
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds * SECOND;
        self
    }
}

fn state(step: &Step) -> Option<State> {
    match step {
        Step::Status { status, .. } => status.state,
        _ => None,
    }
}

#[test]
fn new_session_gets_the_finalizer_then_the_status_and_then_nothing() {
    let mut trial = Trial::new(World::settled());
    let with_finalizer = trial.write_finalizers();
    assert_eq!(with_finalizer.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
    // The watch still shows the resource as it was before both writes.
    let Step::Status { read, .. } = trial.step() else {
        panic!("no status")
    };
    assert_eq!(
        read.resource_version.as_deref(),
        Some("11"),
        "writes over its own write"
    );
    let written = trial.write_status();
    assert_eq!(trial.step(), Step::Nothing);
    trial.watched(written);
    assert_eq!(trial.after(1_000).step(), Step::Nothing);
    assert_eq!(trial.entry.written, None, "nothing is kept once the watch has it");
}

#[test]
fn finalizers_of_others_stay() {
    let mut world = World::settled();
    world.remote.metadata.finalizers = Some(vec!["example.test/other".to_owned()]);
    let mut trial = Trial::new(world);
    let added = trial.write_finalizers();
    let both = Some(vec!["example.test/other".to_owned(), FINALIZER.to_owned()]);
    assert_eq!(added.metadata.finalizers, both);
    let mut trial = Trial::leading(World::deleting());
    trial.world.remote.metadata.finalizers = both;
    (trial.world.session, trial.world.remote.status) = (None, None);
    let removed = trial.write_finalizers();
    assert_eq!(removed.metadata.finalizers, Some(vec!["example.test/other".to_owned()]));
    assert_eq!(trial.step(), Step::Nothing, "no status for what is about to go");
}

#[test]
fn resource_without_a_session_is_written_by_the_leader_only() {
    assert_eq!(Trial::new(World::created()).step(), Step::Nothing);
    let mut trial = Trial::leading(World::created());
    assert_eq!(state(&trial.step()), Some(State::Created));
    trial.write_status();
    assert_eq!(trial.step(), Step::Nothing);
}

#[test]
fn lost_agent_flips_at_once_and_a_second_flip_waits_a_second() {
    let mut trial = Trial::leading(World::settled());
    trial.write_finalizers();
    trial.write_status();
    let report = trial.world.session.take();
    trial.world.disconnected_at = Some(CONNECTED_AT + 150);
    assert_eq!(state(&trial.after(50).step()), Some(State::Reconciling));
    trial.write_status();
    trial.world.session = report;
    trial.world.disconnected_at = None;
    assert_eq!(trial.step(), Step::At(trial.now + SECOND));
    assert_eq!(state(&trial.after(1).step()), Some(State::Available));
}

#[test]
fn address_that_comes_back_within_seconds_costs_no_write() {
    let mut trial = Trial::new(World::settled());
    trial.write_finalizers();
    trial.write_status();
    let settled = trial.world.clone();
    trial.after(300);
    trial.world.desired.as_mut().expect("some").services[0].addresses = 2;
    Arc::make_mut(&mut trial.world.session().applied).remove(&pilot());
    assert_eq!(trial.step(), Step::At(trial.now + 3 * SECOND), "catching up");
    trial.after(1);
    trial.world.session().applied = settled.session.clone().expect("some").applied;
    assert_eq!(
        trial.step(),
        Step::At(trial.now + 5 * SECOND),
        "applied, with another count"
    );
    trial.after(2).world = settled;
    assert_eq!(trial.step(), Step::Nothing);
    assert_eq!(trial.after(100).step(), Step::Nothing);
}

#[test]
fn agent_that_comes_back_to_a_restarted_hub_costs_one_write() {
    let mut world = World::settled();
    world.remote.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    world.store(CONNECTED_AT);
    let settled = world.session().clone();
    world.session().epoch.connection = 3;
    world.session().connected_at = CONNECTED_AT + 90;
    world.session().lanes = lanes(false);
    let mut trial = Trial::new(world);
    assert_eq!(
        trial.step(),
        Step::At(trial.now + 3 * SECOND),
        "nothing is compared yet"
    );
    trial.world.session().lanes = settled.lanes;
    let written = trial.write_status().status.expect("written");
    assert_eq!(written.state, Some(State::Available));
    assert_eq!(written.last_contact, Some(time(CONNECTED_AT + 90)));
    assert_eq!(trial.step(), Step::Nothing);
}

#[test]
fn failure_is_written_at_once_with_the_count_that_waited() {
    let mut trial = Trial::new(World::settled());
    trial.write_finalizers();
    trial.write_status();
    trial.world.desired.as_mut().expect("some").services[0].addresses = 2;
    let Step::At(moment) = trial.after(10).step() else {
        panic!("counts wait")
    };
    assert_eq!(moment, trial.now + 50 * SECOND, "a minute since the last write");
    trial.world.report(&pilot(), ApplyState::Forbidden, "");
    let written = trial.write_status().status.expect("written");
    assert_eq!(
        (written.state, written.services[0].addresses_sent),
        (Some(State::ReconcileFailed), 2)
    );
}

#[test]
fn conflict_waits_and_decides_anew_over_the_newer_resource() {
    let mut trial = Trial::new(World::settled());
    trial.write_finalizers();
    trial.entry.failed(trial.now);
    let Step::At(moment) = trial.step() else {
        panic!("waits")
    };
    assert!(moment > trial.now && moment <= trial.now + SECOND, "{moment}");
    // Meanwhile the watch brings what the other one wrote.
    trial.world.remote.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    trial.world.remote.metadata.resource_version = Some("77".to_owned());
    trial.world.store(CONNECTED_AT);
    trial.now = moment;
    assert_eq!(trial.step(), Step::Nothing, "the other one wrote the same");
    trial.world.remote.status = None;
    let Step::Status { read, .. } = trial.step() else {
        panic!("writes")
    };
    assert_eq!(read.resource_version.as_deref(), Some("77"));
}

#[test]
fn status_of_another_replica_with_a_later_session_is_not_overwritten() {
    let mut world = World::settled();
    world.remote.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    world.session().epoch.connection = 3;
    let mut status = world.status(CONNECTED_AT);
    status.replica = Some("hub-1".to_owned());
    world.remote.status = Some(status);
    world.session().epoch.connection = 2;
    let mut trial = Trial::leading(world);
    assert_eq!(trial.step(), Step::At(trial.now + 45 * SECOND));
    trial.world.session().epoch.connection = 4;
    assert_eq!(state(&trial.step()), Some(State::Available));
}

#[test]
fn agent_of_a_restarted_hub_may_take_its_time_to_come_back() {
    let mut world = World::lost(CONNECTED_AT);
    world.disconnected_at = None;
    let mut trial = Trial::leading(world);
    assert_eq!(
        trial.step(),
        Step::At(trial.now + 45 * SECOND),
        "stored as connected, session not here yet"
    );
    assert_eq!(trial.after(44).step(), Step::At(trial.now + SECOND));
    assert_eq!(state(&trial.after(1).step()), Some(State::Reconciling));
}

#[test]
fn resource_that_the_watch_cannot_read_is_written_once() {
    let mut trial = Trial::leading(World::created());
    trial.write_status();
    // The watch brings its metadata but never its status.
    trial.world.remote.metadata.resource_version = Some("11".to_owned());
    assert_eq!(trial.step(), Step::Nothing);
    trial.world.remote.metadata.resource_version = Some("15".to_owned());
    assert_eq!(trial.step(), Step::Nothing);
}

#[test]
fn resource_of_another_uid_starts_anew() {
    let mut trial = Trial::leading(World::created());
    trial.write_status();
    trial.world.remote.metadata.uid = Some("u2".to_owned());
    trial.world.desired.as_mut().expect("some").uid = "u2".to_owned();
    let Step::At(moment) = trial.step() else {
        panic!("flips wait a second")
    };
    trial.now = moment;
    let Step::Status { read, before, .. } = trial.step() else {
        panic!("writes")
    };
    assert_eq!((read.uid.as_deref(), before), (Some("u2"), None));
}

#[test]
fn deletion_with_a_quiet_session_comes_back_by_itself_to_let_go() {
    let mut world = World::deleting();
    world.accept_removal();
    world.session().applied = Arc::default();
    let mut trial = Trial::new(world);
    let first = trial.step();
    assert_eq!(state(&first), Some(State::Reconciling), "{first:?}");
    trial.write_status();
    assert_eq!(trial.step(), Step::At(115 * SECOND));
    trial.now = 115 * SECOND;
    assert_eq!(trial.write_finalizers().metadata.finalizers, Some(vec![]));
}

#[test]
fn time_alone_wakes_the_writer_for_a_certificate_and_for_the_end_of_a_conflict() {
    let mut trial = Trial::new(World::settled());
    trial.knows_certificates = true;
    // Tests begin at 100 s; a certificate of 1000 s after its issue at 100 s.
    trial.world.session().certificate = CertificateReport {
        not_before: CONNECTED_AT + 100 - 900,
        not_after: CONNECTED_AT + 1_100,
    };
    let finalizers = trial.write_finalizers();
    trial.watched(finalizers);
    let written = trial.write_status();
    trial.watched(written);
    assert_eq!(trial.step(), Step::At(950 * SECOND), "85 percent");

    trial.world.conflict = Some(Conflict {
        holder: Party::bound("one"),
        challenger: Party::bound("other"),
        seen_at: 100 * SECOND,
    });
    let written = trial.after(2).write_status();
    trial.watched(written);
    assert_eq!(trial.step(), Step::At(700 * SECOND), "ten minutes after it showed");
    trial.world.conflict = None;
    let written = trial.after(598).write_status();
    let conflict = condition(written.status.as_ref().expect("written"), IDENTITY_CONFLICT);
    assert_eq!(
        (conflict.status.as_str(), conflict.reason.as_str()),
        ("False", "NoConflict")
    );
    trial.watched(written);

    trial.now = 950 * SECOND;
    let written = trial.write_status();
    let overdue = condition(written.status.as_ref().expect("written"), CERTIFICATE_VALID);
    assert_eq!(
        (overdue.status.as_str(), overdue.reason.as_str()),
        ("True", "RenewalOverdue")
    );
    trial.watched(written);
    assert_eq!(trial.step(), Step::At(1_100 * SECOND), "its end");
}

#[test]
fn renewal_writes_no_status() {
    let mut trial = Trial::new(World::settled());
    trial.knows_certificates = true;
    let finalizers = trial.write_finalizers();
    trial.watched(finalizers);
    let written = trial.write_status();
    trial.watched(written);
    let certificate = &mut trial.world.session().certificate;
    certificate.not_before += 57_600;
    certificate.not_after += 57_600;
    let overdue_at = certificate.overdue_at() - CONNECTED_AT;
    let again = Step::At(u64::try_from(overdue_at).expect("later") * SECOND);
    assert_eq!(trial.after(57_600).step(), again);
}

#[test]
fn forced_deletion_writes_the_tombstone_before_the_finalizer_goes() {
    let mut world = World::deleting();
    world.remote.metadata.annotations = Some([(FORCE_DELETE_ANNOTATION.to_owned(), "true".to_owned())].into());
    world.session = None;
    world.disconnected_at = Some(CONNECTED_AT);
    let mut trial = Trial::leading(world);
    let Step::Tombstone(tombstone) = trial.step() else {
        panic!("no tombstone")
    };
    let known = (
        tombstone.uid.as_str(),
        tombstone.cluster_uid.as_str(),
        tombstone.generation,
    );
    assert_eq!(known, ("u1", "c1", 2));
    assert_eq!(tombstone.deletion_policy, DeletionPolicy::Delete);
    trial.entry.failed(trial.now);
    assert!(matches!(trial.step(), Step::At(_)), "a failed write is tried again");
    assert!(matches!(trial.after(60).step(), Step::Tombstone(again) if again.uid == "u1"));
    trial.entry.wrote_tombstone("of another");
    assert!(
        matches!(trial.step(), Step::Tombstone(_)),
        "the tombstone of another resource is none"
    );
    trial.entry.wrote_tombstone(&tombstone.uid);
    assert_eq!(trial.write_finalizers().metadata.finalizers, Some(Vec::new()));
}

#[test]
fn tombstone_orphans_as_the_index_read_it_last() {
    let mut world = World::deleting();
    world.remote.metadata.annotations = Some([(FORCE_DELETE_ANNOTATION.to_owned(), "true".to_owned())].into());
    world.session = None;
    let desired = world.desired.as_mut().expect("computed");
    for lane in desired.lanes.values_mut() {
        *lane = Arc::new(Snapshot::cleared(true));
    }
    let Step::Tombstone(tombstone) = Trial::leading(world).step() else {
        panic!("no tombstone")
    };
    assert!(tombstone.orphans());
}
