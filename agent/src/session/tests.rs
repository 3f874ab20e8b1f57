use remote_istio::lane::Payload;
use remote_istio::model::{Body, ServiceIntent, lane_hash};
use remote_istio::wire::v1::agent_frame::Frame;

use super::*;

fn key(name: &str) -> Key {
    Key::service("istio-system", name)
}

fn object(position: u64) -> Arc<Object> {
    Arc::new(Object::new(position, None, Body::Service(ServiceIntent::default())))
}

fn session() -> Session {
    let admit = |key: &Key, _: &Object| match key.name() {
        Some("refused") => Err((NackReason::Policy, "not here".to_owned())),
        _ => Ok(()),
    };
    Session::new(BTreeMap::new(), Box::new(admit))
}

fn opened() -> Session {
    let mut session = session();
    open(&mut session, "hub-1");
    session
}

fn open(session: &mut Session, boot_id: &str) {
    session.greet(&BTreeMap::new());
    session.welcomed(&v1::Welcome {
        boot_id: boot_id.to_owned(),
        ..v1::Welcome::default()
    });
}

fn delta(nonce: u64, names: &[&str], complete: bool) -> v1::Delta {
    let upserts: Vec<_> = names.iter().map(|name| (key(name), Payload::Full(object(1)))).collect();
    let mut sorted: Vec<Key> = upserts.iter().map(|(key, _)| key.clone()).collect();
    sorted.sort();
    let next_hash = lane_hash(sorted.iter().map(|key| (key, object(1).version)));
    let change = Change {
        nonce,
        complete,
        released: false,
        orphaned: false,
        upserts,
        removals: vec![],
        next_hash,
    };
    convert::delta_parts(Lane::Config, &change).remove(0)
}

fn hash(names: &[&str]) -> LaneHash {
    let keys: BTreeMap<Key, _> = names.iter().map(|name| (key(name), object(1).version)).collect();
    lane_hash(keys.iter().map(|(key, version)| (key, *version)))
}

fn outputs(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.next_output()).collect()
}

/// Nonce, hash and refused keys of the acks among these outputs.
fn acks(outputs: &[Output]) -> Vec<(u64, LaneHash, Vec<Key>)> {
    let ack = |output: &Output| match output {
        Output::Send(Frame::Ack(ack)) => {
            let (_, nonce, hash, nacks, _) = convert::read_ack(ack.clone()).unwrap();
            Some((nonce, hash, nacks.into_iter().map(|nack| nack.key).collect()))
        }
        _ => None,
    };
    outputs.iter().filter_map(ack).collect()
}

fn applied(state: ApplyState) -> Applied {
    Applied {
        version: Some(object(1).version),
        state,
        detail: String::new(),
        addresses: 0,
        replicas: None,
    }
}

#[test]
fn delta_is_acknowledged_once_it_is_kept() {
    let mut session = opened();
    session.delta(delta(1, &["a", "refused"], false)).unwrap();
    let [
        Output::Keep {
            lane: Lane::Config,
            judged,
            source,
        },
    ] = <[Output; 1]>::try_from(outputs(&mut session)).unwrap()
    else {
        panic!("something else than one delta to keep")
    };
    assert_eq!(judged.upserts, [(key("a"), object(1))]);
    assert_eq!(source, "hub-1");
    assert_eq!(session.held(Lane::Config), 0);
    session.kept(Lane::Config);
    assert_eq!(acks(&outputs(&mut session)), [(1, hash(&["a"]), vec![key("refused")])]);
    assert_eq!(session.held(Lane::Config), 1);
}

#[test]
fn object_that_cannot_be_kept_is_refused_and_not_held() {
    let mut session = opened();
    session.delta(delta(1, &["a", "b"], false)).unwrap();
    outputs(&mut session);
    session.refuse(Lane::Config, &key("b"), "its record is not ours".to_owned());
    session.kept(Lane::Config);
    assert_eq!(acks(&outputs(&mut session)), [(1, hash(&["a"]), vec![key("b")])]);
}

#[test]
fn second_delta_before_the_ack_ends_the_stream() {
    let mut session = opened();
    session.delta(delta(1, &["a"], false)).unwrap();
    let error = session.delta(delta(2, &["b"], false)).unwrap_err();
    assert_eq!(error, SessionError::Protocol(ProtocolError::Unanswered(2)));
}

#[test]
fn what_is_being_kept_outlives_its_stream_and_is_not_acknowledged_on_the_next() {
    let mut session = opened();
    session.delta(delta(1, &["a"], false)).unwrap();
    open(&mut session, "hub-2");
    assert!(matches!(outputs(&mut session).as_slice(), [Output::Keep { .. }]));
    session.delta(delta(1, &["a", "b"], true)).unwrap();
    assert_eq!(outputs(&mut session), []);
    session.kept(Lane::Config);
    let next = outputs(&mut session);
    assert_eq!(acks(&next), []);
    assert!(
        matches!(next.as_slice(), [Output::Keep { source, .. }] if source == "hub-2"),
        "{next:?}"
    );
    session.kept(Lane::Config);
    assert_eq!(acks(&outputs(&mut session)), [(1, hash(&["a", "b"]), vec![])]);
}

#[test]
fn snapshot_that_is_not_what_it_says_ends_the_stream_even_while_another_is_kept() {
    let mut session = opened();
    session.delta(delta(1, &["a"], false)).unwrap();
    open(&mut session, "hub-1");
    let mut lying = delta(1, &["a"], true);
    lying.next_hash = hash(&["other"]).as_bytes().to_vec();
    assert!(matches!(
        session.delta(lying),
        Err(SessionError::Protocol(ProtocolError::Hash { .. }))
    ));
}

#[test]
fn lane_that_is_being_kept_is_greeted_as_unknown() {
    let mut session = opened();
    session.delta(delta(1, &["a"], false)).unwrap();
    let (lanes, _) = session.greet(&BTreeMap::new());
    assert_eq!(lanes[&Lane::Config], (None, 0));
    assert_eq!(lanes[&Lane::Endpoints], (Some(lane_hash([])), 0));
    session.kept(Lane::Config);
    let (lanes, settled) = session.greet(&[(key("a"), applied(ApplyState::Applied))].into());
    assert_eq!(lanes[&Lane::Config], (Some(hash(&["a"])), 1));
    assert!(settled);
}

#[test]
fn greeting_is_not_settled_while_something_held_is_open() {
    let mut session = opened();
    session.delta(delta(1, &["a", "b"], false)).unwrap();
    session.kept(Lane::Config);
    let (_, settled) = session.greet(&[(key("a"), applied(ApplyState::Applied))].into());
    assert!(!settled);
}

#[test]
fn only_news_is_reported() {
    let mut session = opened();
    let mut state: BTreeMap<Key, Applied> = [(key("a"), applied(ApplyState::Foreign))].into();
    session.applied(&state);
    assert_eq!(outputs(&mut session).len(), 1);
    session.applied(&state);
    assert_eq!(outputs(&mut session), []);
    state.insert(key("a"), applied(ApplyState::Applied));
    session.applied(&state);
    assert_eq!(outputs(&mut session).len(), 1);
}

#[test]
fn greeting_stands_for_what_is_applied_and_the_rest_is_reported_anew() {
    let mut session = opened();
    let state: BTreeMap<Key, Applied> = [
        (key("a"), applied(ApplyState::Applied)),
        (key("b"), applied(ApplyState::Foreign)),
    ]
    .into();
    session.applied(&state);
    outputs(&mut session);
    session.greet(&state);
    session.applied(&state);
    let [Output::Send(Frame::Status(status))] = <[Output; 1]>::try_from(outputs(&mut session)).unwrap() else {
        panic!("something else than one status")
    };
    assert_eq!(
        convert::read_status(status).unwrap(),
        [(key("b"), applied(ApplyState::Foreign))]
    );
}

#[test]
fn snapshot_makes_everything_in_its_lane_news_again() {
    let mut session = opened();
    let state: BTreeMap<Key, Applied> = [(key("a"), applied(ApplyState::Applied))].into();
    session.applied(&state);
    outputs(&mut session);
    session.delta(delta(1, &["a"], true)).unwrap();
    session.kept(Lane::Config);
    outputs(&mut session);
    session.applied(&state);
    assert_eq!(outputs(&mut session).len(), 1);
}

#[test]
fn greeting_for_a_second_stream_leaves_the_first_one_alone() {
    let mut session = opened();
    session.delta(delta(1, &["a"], false)).unwrap();
    let (lanes, _) = session.greeting(&BTreeMap::new());
    assert_eq!(lanes[&Lane::Config], (None, 0), "it is still being kept");
    session.kept(Lane::Config);
    assert_eq!(acks(&outputs(&mut session)), [(1, hash(&["a"]), vec![])]);
    session.delta(delta(2, &["b"], false)).unwrap();
    session.kept(Lane::Config);
    outputs(&mut session);
    let state = [(key("a"), applied(ApplyState::Applied))].into();
    session.reopen(&state);
    session.delta(delta(1, &["c"], false)).unwrap();
    session.applied(&state);
    assert!(
        matches!(outputs(&mut session).as_slice(), [Output::Keep { .. }]),
        "a new stream, and nothing to report of what its hello stands for"
    );
}
