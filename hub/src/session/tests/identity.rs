//! Trust, questions to the holder, and the end of a certificate.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use remote_istio::enrolment::{Pin, TrustDigest};

use super::*;

fn trust(epoch: u64) -> Arc<Trust> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params
        .self_signed(&KeyPair::generate().expect("a key"))
        .expect("a root");
    Arc::new(Trust {
        epoch,
        signer: Pin::of_certificate(root.der()).expect("a certificate"),
        roots: vec![root.der().clone()],
        trust_domain: "mesh.test".to_owned(),
        hubs: vec!["hub.test:8444".parse().expect("an address")],
        enrolments: vec!["hub.test:8443".parse().expect("an address")],
    })
}

fn another() -> Option<TrustDigest> {
    TrustDigest::from_bytes(&[7; 32])
}

fn trusts(session: &mut Session) -> Vec<v1::Trust> {
    let sent = frames(session, 0).into_iter();
    sent.filter_map(|frame| match frame.frame {
        Some(Frame::Trust(trust)) => Some(trust),
        _ => None,
    })
    .collect()
}

fn take(session: &mut Session, frame: v1::agent_frame::Frame) {
    let frame = v1::AgentFrame { frame: Some(frame) };
    session.frame(frame, 0, 0).expect("a good frame");
}

fn kept(session: &mut Session, epoch: u64, digest: Vec<u8>, failure: &str) {
    let failure = failure.to_owned();
    take(
        session,
        v1::agent_frame::Frame::TrustKept(v1::TrustKept { epoch, digest, failure }),
    );
}

#[test]
fn trust_is_sent_only_to_an_agent_that_keeps_another() {
    let trust = trust(3);
    let same = Some(trust.digest());
    for (case, holds, sent, epoch) in [
        ("keeps it already", same, vec![], Some(3)),
        ("keeps another", another(), vec![trust.write()], None),
        ("was given files", None, vec![], None),
    ] {
        let mut session = Agent::default().open(Start::unclaimed().trust(&trust, holds));
        assert_eq!(trusts(&mut session), sent, "{case}");
        assert_eq!(session.report().trust_epoch, epoch, "{case}");
    }
}

#[test]
fn agent_reports_what_it_keeps_and_why_it_cannot() {
    let (first, second) = (trust(3), trust(4));
    let mut session = Agent::default().open(Start::unclaimed().trust(&first, another()));
    kept(
        &mut session,
        2,
        another().expect("a digest").to_vec(),
        "the Secret is full",
    );
    let report = session.report();
    assert_eq!(
        (report.trust_epoch, report.trust_failure.as_str()),
        (None, "the Secret is full")
    );
    kept(&mut session, 3, first.digest().to_vec(), "");
    let report = session.report();
    assert_eq!((report.trust_epoch, report.trust_failure.as_str()), (Some(3), ""));

    trusts(&mut session);
    session.trust(Arc::clone(&second));
    assert_eq!(trusts(&mut session), [second.write()]);
    assert_eq!(session.report().trust_epoch, Some(3), "not kept yet");
    kept(&mut session, 99, second.digest().to_vec(), "");
    assert_eq!(
        session.report().trust_epoch,
        Some(4),
        "the epoch of what it keeps, whatever it says"
    );
    session.trust(first);
    session.trust(second);
    assert_eq!(
        trusts(&mut session),
        [],
        "back to what it keeps before anything was sent"
    );
}

#[test]
fn trust_that_was_never_sent_is_not_taken_for_kept() {
    let (first, second) = (trust(3), trust(4));
    let mut session = Agent::default().open(Start::unclaimed().trust(&first, Some(first.digest())));
    session.trust(Arc::clone(&second));
    assert_eq!(trusts(&mut session), [second.write()]);
    let unknown = another().expect("a digest").to_vec();
    for (epoch, digest) in [
        (4, unknown.clone()),
        (99, unknown),
        (4, vec![1; 5]),
        (4, first.digest().to_vec()),
    ] {
        kept(&mut session, epoch, digest, "");
        assert_eq!(session.report().trust_epoch, Some(3), "what it kept at its hello");
    }
    kept(&mut session, 4, second.digest().to_vec(), "");
    assert_eq!(session.report().trust_epoch, Some(4));
}

#[test]
fn agent_with_files_cannot_claim_to_keep_a_trust() {
    let trust = trust(3);
    let mut session = Agent::default().open(Start::unclaimed().trust(&trust, None));
    kept(&mut session, 3, trust.digest().to_vec(), "why ever");
    let report = session.report();
    assert_eq!((report.trust_epoch, report.trust_failure.as_str()), (None, ""));
}

#[test]
fn control_frames_go_in_order_of_their_urgency() {
    let trust = trust(3);
    let mut session = Agent::default().open(Start::unclaimed().trust(&trust, another()));
    session.tick(20 * SECOND, 0, 0.5);
    session.desired(Some(World::new().set("pilot", &[1]).at(0).desired()));
    session.challenge(v1::Challenge::default());
    session.drain("why", (Duration::ZERO, Duration::ZERO));
    let sent = frames(&mut session, 20 * SECOND);
    let kinds: Vec<_> = sent.iter().map(script::kind).collect();
    assert_eq!(kinds, ["welcome", "drain", "challenge", "trust", "claim", "heartbeat"]);
}

#[test]
fn only_the_answer_to_the_last_question_counts_and_only_once() {
    let mut session = Agent::default().open(Start::unclaimed());
    let challenge = |nonce| v1::Challenge {
        nonce,
        ..v1::Challenge::default()
    };
    let answer = |nonce, yields| v1::agent_frame::Frame::Yield(v1::Yield { nonce, yields });
    take(&mut session, answer(0, true));
    assert_eq!(session.take_yielded(), None, "nobody asked");
    session.challenge(challenge(1));
    session.challenge(challenge(2));
    take(&mut session, answer(1, true));
    assert_eq!(session.take_yielded(), None, "another question");
    take(&mut session, answer(2, true));
    take(&mut session, answer(2, false));
    let yielded = Yielded { nonce: 2, yields: true };
    assert_eq!((session.take_yielded(), session.take_yielded()), (Some(yielded), None));
    assert_eq!(session.take_samples().stale_acks, 3);
}

#[test]
fn agent_is_asked_to_leave_a_moment_before_its_certificate_ends() {
    for (ends_in, drained_at) in [(100, 98 * SECOND), (10, 9 * SECOND), (-5, 0)] {
        let mut session = Agent::default().open(Start::unclaimed().ends_in(ends_in));
        frames(&mut session, 0);
        let mut now = 0;
        for _ in 0..100 {
            now = session.next_wake().max(now);
            assert!(now <= drained_at, "{ends_in}: {now}");
            session.frame(v1::AgentFrame::default(), now, 0).expect("a good frame");
            session.tick(now, 0, 0.5);
            if session.draining().is_some() {
                break;
            }
        }
        assert_eq!(
            (now, session.draining()),
            (drained_at, Some(Draining::CertificateEnds)),
            "{ends_in}"
        );
        let drain = frames(&mut session, now)
            .into_iter()
            .find_map(|frame| match frame.frame {
                Some(Frame::Drain(drain)) => Some(drain.reason),
                _ => None,
            });
        assert_eq!(drain.as_deref(), Some("certificate ends"));
        assert!(session.next_wake() > now, "it does not spin");
    }
}

#[test]
fn clock_that_is_ten_minutes_off_is_reported_and_harms_nothing() {
    for skew in [-600_000_i64, 600_000] {
        let world = World::new().set("pilot", &[1]).at(0);
        let mut agent = Agent::default();
        let mut session = agent.connected(&world);
        let own = OPENED_AT * 1_000;
        let beat = v1::Heartbeat {
            sequence: 1,
            received: 3,
            unix_milliseconds: u64::try_from(own + skew).expect("after 1970"),
            backlog: 0,
        };
        let frame = v1::AgentFrame {
            frame: Some(v1::agent_frame::Frame::Heartbeat(beat)),
        };
        session.frame(frame, 10 * SECOND, own).expect("a good frame");
        assert_eq!(session.tick(12 * SECOND, own, 0.5), None);
        assert_eq!(
            (session.draining(), session.report().clock_skew_milliseconds),
            (None, skew)
        );
    }
}

#[test]
fn states_of_objects_with_impossible_names_are_counted_and_change_nothing() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut session = Agent::default().connected(&world);
    let before = session.report();
    let keys = [
        "endpoints/../secrets/token",
        "endpoints/istio-system/pilot/../../other",
        "remote-2/endpoints/istio-system/pilot",
        "../remote-2",
        "",
    ];
    let applied = |key: &&str| v1::Applied {
        key: (*key).to_owned(),
        version: vec![1; 16],
        state: v1::ApplyState::Applied.into(),
        ..v1::Applied::default()
    };
    let entries = keys.iter().map(applied).collect();
    take(&mut session, v1::agent_frame::Frame::Status(v1::Status { entries }));
    assert_eq!(session.report(), before);
    assert_eq!(session.take_samples().unread_states, 5);
}
