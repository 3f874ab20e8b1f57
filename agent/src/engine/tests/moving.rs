//! A session that moves from one stream to another while writes are under way.

use super::*;

impl Bench {
    fn moved(&mut self) {
        self.engine.moved(self.now);
        let welcome = v1::Welcome {
            boot_id: "hub-1".to_owned(),
            ..v1::Welcome::default()
        };
        self.engine.welcomed(&welcome, self.now);
        self.frames.clear();
        self.settle();
    }

    fn statuses(&self) -> usize {
        self.frames
            .iter()
            .filter(|frame| matches!(frame, Frame::Status(_)))
            .count()
    }
}

#[test]
fn what_is_applied_while_the_session_moves_is_told_on_the_second_stream() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    let greeting = bench.engine.prepare(bench.now);
    assert_eq!(greeting.lanes[&Lane::Endpoints], (None, 0), "it is still being kept");
    bench.settle();
    assert_eq!(bench.statuses(), 0, "the first stream is told nothing more");
    bench.moved();
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
}

#[test]
fn object_that_goes_while_the_session_moves_is_told_as_removed() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.settle();
    bench.send(&[], &[pilot()]);
    assert!(!bench.engine.prepare(bench.now).settled);
    bench.settle();
    bench.moved();
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Removed));
}

#[test]
fn settled_session_moves_without_a_word() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.settle();
    let greeting = bench.engine.prepare(bench.now);
    assert!(greeting.settled);
    bench.moved();
    assert_eq!(bench.frames, []);
    assert_eq!(bench.engine.greet(bench.now), greeting);
}

#[test]
fn session_that_stays_goes_on_reporting_and_acknowledging() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.engine.prepare(bench.now);
    bench.settle();
    bench.engine.stayed(bench.now);
    bench.settle();
    assert_eq!(bench.acks(), [(1, vec![])]);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
    bench.send(&[(pilot(), endpoints(&["10.0.0.2"]))], &[]);
    bench.settle();
    assert_eq!(bench.acks().len(), 2);
}
