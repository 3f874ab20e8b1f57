//! The remote's policy while it changes.

use remote_istio::lane::NackReason;
use remote_istio::policy::Runs;

use super::*;

fn policy(refused: &[&str]) -> Arc<Policy> {
    Arc::new(Policy {
        refused_ranges: refused.iter().map(|text| text.parse().unwrap()).collect(),
        ..(*settings().policy).clone()
    })
}

/// Every policy that was told, by digest.
fn policies(bench: &Bench) -> Vec<Vec<u8>> {
    bench.policies.iter().map(|policy| policy.digest.clone()).collect()
}

fn digest(policy: &Policy) -> Vec<u8> {
    policy.digest().as_bytes().to_vec()
}

#[test]
fn policy_is_told_after_each_welcome_and_at_each_change() {
    let mut bench = Bench::connected();
    bench.settle();
    let (first, second) = (settings().policy, policy(&["10.96.0.0/12"]));
    assert_eq!(policies(&bench), [digest(&first)]);
    bench.engine.policy(Arc::clone(&second), bench.now);
    bench.engine.policy(Arc::clone(&second), bench.now);
    bench.settle();
    assert_eq!(policies(&bench), [digest(&first), digest(&second)]);
    bench.engine.disconnected(bench.now);
    bench.engine.policy(Arc::clone(&first), bench.now);
    bench.settle();
    assert_eq!(policies(&bench).len(), 2, "nobody listens");
    bench.connect("hub-1");
    bench.settle();
    assert_eq!(policies(&bench)[2..], [digest(&first)]);
}

#[test]
fn what_comes_is_judged_by_the_newest_policy() {
    let mut bench = Bench::connected();
    bench.engine.policy(policy(&["10.0.0.0/24"]), bench.now);
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.settle();
    let nacks: Vec<Nack> = bench.acks().into_iter().flat_map(|(_, nacks)| nacks).collect();
    assert_eq!((nacks.len(), nacks[0].reason), (1, NackReason::Policy));
    assert!(
        nacks[0].detail.starts_with("address-service-range: "),
        "{}",
        nacks[0].detail
    );
    assert_eq!(bench.engine.states.len(), 0);
    bench.engine.policy(policy(&[]), bench.now);
    bench.held.clear();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.settle();
    assert_eq!(bench.told(&pilot()).unwrap().state, ApplyState::Applied);
}

#[test]
fn what_is_held_and_no_longer_allowed_stands_is_reported_and_written_no_more() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(10);
    let before = bench.remote.objects.clone();
    let writes = bench.remote.log.len();
    bench.engine.policy(policy(&["10.0.0.0/24"]), bench.now);
    bench.settle();
    let told = bench.told(&pilot()).unwrap();
    assert_eq!((told.state, told.addresses), (ApplyState::Forbidden, 1));
    assert!(
        told.detail.contains("left as it is: address-service-range: "),
        "{}",
        told.detail
    );
    bench.pass(60);
    assert_eq!(bench.remote.objects, before);
    assert_eq!(bench.remote.log.len(), writes);
    bench.engine.policy(policy(&[]), bench.now);
    bench.settle();
    assert_eq!(bench.told(&pilot()).unwrap().state, ApplyState::Applied);
}

#[test]
fn what_is_no_longer_allowed_is_still_removed_when_asked() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[1]))], &[]);
    bench.pass(10);
    let none = Policy {
        namespaces: BTreeSet::new(),
        ..Policy::default()
    };
    bench.engine.policy(Arc::new(none), bench.now);
    bench.settle();
    assert_eq!(bench.told(&pilot_service()).unwrap().state, ApplyState::Forbidden);
    bench.send(&[], &[pilot_service()]);
    bench.pass(10);
    assert_eq!(bench.told(&pilot_service()).unwrap().state, ApplyState::Removed);
    assert!(!bench.remote.objects.keys().any(|name| name.kind == Kind::Service));
}

#[test]
fn restarted_agent_judges_what_it_kept() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[1]))], &[]);
    bench.pass(10);
    let narrow = Policy {
        components: Runs::ALL.into(),
        ..Policy::default()
    };
    let mut bench = bench.restart(Settings {
        policy: Arc::new(narrow),
        ..settings()
    });
    bench.connect("hub-1");
    bench.settle();
    let told = bench.told(&pilot_service()).unwrap();
    assert_eq!(told.state, ApplyState::Forbidden, "{}", told.detail);
}

#[test]
fn guard_holds_what_the_policy_says() {
    let mut bench = Bench::connected();
    let names = |number: u32| Key::service("istio-system", &format!("s{number}"));
    let upserts: Vec<(Key, Arc<Object>)> = (0..6).map(|number| (names(number), service(&[1]))).collect();
    bench.send(&upserts, &[]);
    bench.pass(10);
    let few = Policy {
        most_removals: Some(2),
        ..(*settings().policy).clone()
    };
    bench.engine.policy(Arc::new(few), bench.now);
    bench.frames.clear();
    bench.send(&[], &[names(0), names(1), names(2)]);
    bench.settle();
    let nacks: Vec<Nack> = bench.acks().into_iter().flat_map(|(_, nacks)| nacks).collect();
    assert_eq!(nacks.len(), 3);
    assert!(nacks.iter().all(|nack| nack.reason == NackReason::GuardHeld));
    bench.frames.clear();
    bench.send(&[], &[names(0), names(1)]);
    bench.settle();
    assert_eq!(bench.acks().into_iter().map(|(_, nacks)| nacks.len()).sum::<usize>(), 0);
}
