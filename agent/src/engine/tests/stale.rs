//! Endpoints that nobody vouches for any more.

use super::*;

fn rules(action: v1::StaleAction, seconds: u32) -> (Key, Arc<Object>) {
    let rules = v1::Rules {
        stale_action: action.into(),
        stale_after_seconds: seconds,
    };
    let key = Key::component(Component::Rules, "istio-system");
    (key, Arc::new(Object::new(1, None, Body::Rules(rules))))
}

impl Bench {
    fn ready(&self) -> Vec<bool> {
        let slices = self.remote.slices("istio-pilot");
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = endpoints.map(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready));
        ready.map(Option::unwrap_or_default).collect()
    }

    fn lose(&mut self) {
        self.engine.disconnected(self.now);
    }
}

fn with(action: v1::StaleAction) -> Bench {
    let mut bench = Bench::connected();
    bench.send(&[rules(action, 600)], &[]);
    bench.send(&[(pilot(), endpoints(&["10.0.0.1", "10.0.0.2"]))], &[]);
    bench.pass(60);
    bench.lose();
    bench
}

#[test]
fn endpoints_stay_ready_until_the_time_is_up_and_are_not_ready_then() {
    let mut bench = with(v1::StaleAction::NotReady);
    bench.pass(599);
    assert_eq!(bench.ready(), [true, true]);
    bench.pass(2);
    assert_eq!(bench.ready(), [false, false]);
    assert_eq!(bench.engine.statistics().drift_repaired, 0);
}

#[test]
fn withdrawn_endpoints_go_and_the_service_stays() {
    let mut bench = with(v1::StaleAction::Withdraw);
    bench.pass(601);
    assert_eq!(bench.addresses(), Vec::<IpAddr>::new());
    assert!(!bench.remote.slices("istio-pilot").is_empty());
}

#[test]
fn without_a_rule_stale_beats_empty_for_ever() {
    for action in [v1::StaleAction::Keep, v1::StaleAction::Unspecified] {
        let mut bench = with(action);
        bench.pass(86_400);
        assert_eq!(bench.ready(), [true, true], "{action:?}");
    }
}

#[test]
fn a_hub_that_returns_without_a_change_restores_them_shortly_after_its_welcome() {
    let mut bench = with(v1::StaleAction::NotReady);
    bench.pass(601);
    let greeting = bench.connect("hub-1");
    // They are known, though what stands is not what was accepted.
    assert!(greeting.lanes[&Lane::Endpoints].0.is_some());
    bench.settle();
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::NotReady));
    assert_eq!(bench.ready(), [false, false]);
    bench.pass(3);
    assert_eq!(bench.ready(), [true, true]);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
}

#[test]
fn a_hub_that_returns_with_news_restores_them_with_it() {
    let mut bench = with(v1::StaleAction::Withdraw);
    bench.pass(601);
    bench.connect("hub-2");
    bench.send(&[(pilot(), endpoints(&["10.0.0.3"]))], &[]);
    bench.settle();
    assert_eq!(bench.addresses(), ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(bench.ready(), [true]);
}

#[test]
fn a_welcome_without_a_remote_istio_vouches_for_nothing() {
    let mut bench = with(v1::StaleAction::NotReady);
    bench.pass(601);
    bench.engine.greet(bench.now);
    let claim = v1::Claim {
        claimed: false,
        message: String::new(),
    };
    let welcome = v1::Welcome {
        claim: Some(claim),
        ..v1::Welcome::default()
    };
    bench.engine.welcomed(&welcome, bench.now);
    bench.pass(60);
    assert_eq!(bench.ready(), [false, false]);
}

#[test]
fn a_connection_that_comes_and_goes_does_not_start_the_time_anew() {
    let mut bench = with(v1::StaleAction::NotReady);
    bench.pass(400);
    bench.connect("hub-1");
    bench.settle();
    bench.lose();
    bench.pass(201);
    assert_eq!(bench.ready(), [false, false]);
}

#[test]
fn restarted_agent_still_knows_the_set_that_it_aged() {
    for action in [v1::StaleAction::NotReady, v1::StaleAction::Withdraw] {
        let mut bench = with(action);
        bench.pass(601);
        let mut bench = bench.restart(settings());
        let (hash, objects) = bench.engine.greet(bench.now).lanes[&Lane::Endpoints];
        let held = bench.held.iter().filter(|(key, _)| key.lane() == Lane::Endpoints);
        let expected = lane_hash(held.map(|(key, object)| (key, object.version)));
        assert_eq!((hash, objects), (Some(expected), 1), "{action:?}");
        bench.settle();
        assert_eq!(bench.ready(), [true, true], "{action:?}");
    }
}

#[test]
fn a_set_accepted_just_before_the_loss_is_recorded_before_it_ages() {
    let mut bench = Bench::connected();
    bench.send(&[rules(v1::StaleAction::Withdraw, 0)], &[]);
    bench.settle();
    bench.pass(5);
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.settle();
    // The record follows two seconds later; the loss does not wait for that.
    bench.lose();
    bench.settle();
    assert_eq!(bench.addresses(), Vec::<IpAddr>::new());
    let mut bench = bench.restart(settings());
    assert!(bench.engine.greet(bench.now).lanes[&Lane::Endpoints].0.is_some());
}
