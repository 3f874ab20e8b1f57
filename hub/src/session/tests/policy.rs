//! The remote's policy.

use remote_istio::policy::Runs;

use super::*;

fn tell(session: &mut Session, policy: v1::Policy) {
    let frame = Some(v1::agent_frame::Frame::Policy(policy));
    session.frame(v1::AgentFrame { frame }, 0, 0).expect("a good frame");
}

fn policy(most: u32) -> Policy {
    Policy {
        components: Runs::ALL.into(),
        most_removals: Some(most),
        ..Policy::default()
    }
}

#[test]
fn policy_of_the_remote_is_reported() {
    let mut session = Agent::default().connected(&World::new().at(0));
    assert_eq!(session.report().policy, None);
    tell(&mut session, policy(1).to_wire());
    assert_eq!(session.report().policy.as_deref(), Some(&policy(1)));
}

#[test]
fn what_was_refused_is_asked_for_again_when_the_policy_changes_and_only_then() {
    let world = World::new().set("pilot", &[1]).set("policy", &[2]).at(0);
    let mut agent = Agent::default();
    agent.refuses = Some(Key::endpoints("istio-system", "policy"));
    let mut session = agent.connected(&world);
    tell(&mut session, policy(1).to_wire());
    let sent = frames(&mut session, 0);
    assert_eq!(deltas(&sent), 1, "it may be another one than before");
    agent.take_all(&mut session, sent, 0);
    assert_eq!(session.report().refused.len(), 1);
    tell(&mut session, policy(1).to_wire());
    assert_eq!(frames(&mut session, 0), [], "nothing new");
    agent.refuses = None;
    tell(&mut session, policy(2).to_wire());
    let sent = frames(&mut session, 0);
    assert_eq!(delta(&sent[0]).upserts.len(), 1);
    agent.take_all(&mut session, sent, 0);
    assert_eq!(session.report().refused, []);
    assert_eq!(agent.hashes(), world.hashes());
}

#[test]
fn answer_by_the_old_policy_that_comes_after_the_new_one_is_asked_for_again() {
    let world = World::new().set("pilot", &[1]).set("policy", &[2]).at(0);
    let mut agent = Agent::default();
    agent.refuses = Some(Key::endpoints("istio-system", "policy"));
    let mut session = agent.open(Start::claimed(&world));
    for frame in frames(&mut session, 0) {
        agent.take(frame);
    }
    tell(&mut session, policy(1).to_wire());
    agent.refuses = None;
    agent.answer(&mut session, 0);
    let sent = frames(&mut session, 0);
    agent.take_all(&mut session, sent, 0);
    assert_eq!(session.report().refused, []);
    assert_eq!(agent.hashes(), world.hashes());
}

#[test]
fn policy_that_cannot_be_read_is_as_none_and_ends_nothing() {
    let mut session = Agent::default().connected(&World::new().at(0));
    tell(&mut session, policy(1).to_wire());
    let broken = v1::Policy {
        endpoint_ranges: vec!["everywhere".to_owned()],
        ..v1::Policy::default()
    };
    tell(&mut session, broken);
    assert_eq!(session.report().policy, None);
    assert_eq!(session.take_samples().unknown_frames, 1);
}
