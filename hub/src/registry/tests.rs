use super::*;

fn remote() -> RemoteName {
    RemoteName::new("remote-1").expect("a DNS label")
}

fn claimant(boot_id: &str, start: u64, connection: u64) -> Claimant {
    Claimant {
        boot_id: boot_id.to_owned(),
        epoch: SessionEpoch { start, connection },
        cluster_uid: "cluster-1".to_owned(),
        address: format!("address of {boot_id}"),
    }
}

fn elsewhere(claimant: Claimant) -> Claimant {
    let cluster_uid = "cluster-2".to_owned();
    Claimant {
        cluster_uid,
        ..claimant
    }
}

fn twin(holder: &Claimant, challenger: &Claimant) -> Refused {
    Refused::Twin {
        holder: Party::of(holder),
        challenger: Party::of(challenger),
    }
}

fn opened(registry: &mut Registry, remote: &RemoteName, claimant: Claimant) -> Opened {
    match registry.open(remote, claimant, None, None) {
        Ok(Outcome::Opened(opened)) => opened,
        other => panic!("not opened: {other:?}"),
    }
}

fn asked(registry: &mut Registry, claimant: Claimant) -> Ask {
    match registry.open(&remote(), claimant, None, None) {
        Ok(Outcome::Ask(ask)) => ask,
        other => panic!("not asked: {other:?}"),
    }
}

/// What the hub makes of a second session: nothing is asked, or the holder answers this.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Supersedes,
    Asks,
    Refused(Refused),
}

/// The first session is that of `a`, start 5, connection 2. Who comes next, what the first one said of it, and what
/// becomes of it.
fn rules() -> Vec<(&'static str, Claimant, Option<Answer>, Verdict)> {
    use Answer::{Silent, Stays, Yields};

    let first = first();
    let equal = claimant("b", 5, 3);
    let restarted = claimant("b", 6, 1);
    let cloned = elsewhere(claimant("b", 9, 1));
    let replaced = claimant("b", 4, 9);
    let older_agent = Refused::OlderAgent {
        holder: Party::of(&first),
        challenger: Party::of(&replaced),
    };
    vec![
        ("reconnect", claimant("a", 5, 3), None, Verdict::Supersedes),
        (
            "same connection again",
            claimant("a", 5, 2),
            None,
            Verdict::Refused(Refused::OlderConnection),
        ),
        (
            "connection that came late",
            claimant("a", 5, 1),
            None,
            Verdict::Refused(Refused::OlderConnection),
        ),
        (
            "reconnect from elsewhere",
            elsewhere(claimant("a", 5, 3)),
            None,
            Verdict::Supersedes,
        ),
        (
            "agent that was replaced",
            replaced.clone(),
            None,
            Verdict::Refused(older_agent.clone()),
        ),
        (
            "replaced one, whatever was said",
            replaced,
            Some(Yields),
            Verdict::Refused(older_agent),
        ),
        (
            "other cluster",
            cloned.clone(),
            None,
            Verdict::Refused(twin(&first, &cloned)),
        ),
        (
            "other cluster, whatever was said",
            cloned.clone(),
            Some(Yields),
            Verdict::Refused(twin(&first, &cloned)),
        ),
        ("restart", restarted.clone(), None, Verdict::Asks),
        (
            "restart, holder gone",
            restarted.clone(),
            Some(Yields),
            Verdict::Supersedes,
        ),
        (
            "restart, holder hangs",
            restarted.clone(),
            Some(Silent),
            Verdict::Supersedes,
        ),
        (
            "clone that restarted",
            restarted.clone(),
            Some(Stays),
            Verdict::Refused(twin(&first, &restarted)),
        ),
        ("same start", equal.clone(), None, Verdict::Asks),
        (
            "same start, holder gone",
            equal.clone(),
            Some(Yields),
            Verdict::Supersedes,
        ),
        (
            "same start, holder hangs",
            equal.clone(),
            Some(Silent),
            Verdict::Refused(twin(&first, &equal)),
        ),
        (
            "clone",
            equal.clone(),
            Some(Stays),
            Verdict::Refused(twin(&first, &equal)),
        ),
    ]
}

fn first() -> Claimant {
    claimant("a", 5, 2)
}

#[test]
fn second_session_replaces_the_first_only_by_the_rules() {
    for (case, second, answer, expected) in rules() {
        let mut registry = Registry::default();
        let first = opened(&mut registry, &remote(), first());
        let answer = answer.map(|answer| (first.id, answer));
        let verdict = match registry.open(&remote(), second, None, answer) {
            Ok(Outcome::Opened(second)) => {
                assert_eq!(second.superseded, Some(first.id), "{case}");
                assert!(registry.stands(&remote(), second.id), "{case}");
                Verdict::Supersedes
            }
            Ok(Outcome::Ask(ask)) => {
                assert_eq!((ask.holder, ask.is_new), (first.id, true), "{case}");
                Verdict::Asks
            }
            Err(refused) => Verdict::Refused(refused),
        };
        assert_eq!(verdict, expected, "{case}");
        let stays = expected != Verdict::Supersedes;
        assert_eq!(registry.stands(&remote(), first.id), stays, "{case}");
        assert_eq!(registry.len(), 1, "{case}");
    }
}

#[test]
fn name_bound_to_another_cluster_is_refused_with_or_without_a_holder() {
    let mut registry = Registry::default();
    let stranger = elsewhere(claimant("b", 9, 1));
    let expected = Refused::OtherCluster {
        bound: "cluster-1".to_owned(),
        challenger: Party::of(&stranger),
    };
    let mut open = |claimant: &Claimant| registry.open(&remote(), claimant.clone(), Some("cluster-1"), None);
    assert_eq!(open(&stranger), Err(expected.clone()));
    assert!(matches!(open(&claimant("a", 1, 1)), Ok(Outcome::Opened(_))));
    assert_eq!(open(&stranger), Err(expected.clone()));
    let parties = (Party::bound("cluster-1"), Party::of(&stranger));
    assert_eq!(expected.parties(), Some(parties));
}

#[test]
fn several_challengers_share_one_question_and_the_second_faces_the_new_holder() {
    let mut registry = Registry::default();
    let first = opened(&mut registry, &remote(), claimant("a", 1, 1));
    let question = asked(&mut registry, claimant("b", 2, 1));
    let shared = asked(&mut registry, claimant("c", 3, 1));
    assert_eq!((shared.nonce, shared.is_new), (question.nonce, false));
    assert!(registry.answered(&remote(), first.id, question.nonce));
    assert!(!registry.answered(&remote(), first.id, question.nonce), "twice");

    let yielded = Some((first.id, Answer::Yields));
    let second = registry.open(&remote(), claimant("b", 2, 1), None, yielded);
    let Ok(Outcome::Opened(second)) = second else {
        panic!("the first challenger takes over: {second:?}")
    };
    let third = registry.open(&remote(), claimant("c", 3, 1), None, yielded);
    let expected = Ask {
        holder: second.id,
        nonce: question.nonce + 1,
        is_new: true,
    };
    assert_eq!(
        third,
        Ok(Outcome::Ask(expected)),
        "the answer was not that of this holder"
    );
}

#[test]
fn answer_of_a_holder_that_has_left_is_not_needed() {
    let mut registry = Registry::default();
    let first = opened(&mut registry, &remote(), claimant("a", 5, 1));
    let question = asked(&mut registry, claimant("b", 5, 1));
    assert!(registry.close(&remote(), first.id));
    assert!(!registry.answered(&remote(), first.id, question.nonce));
    opened(&mut registry, &remote(), claimant("b", 5, 1));
}

#[test]
fn new_question_is_asked_after_the_last_was_answered() {
    let mut registry = Registry::default();
    let first = opened(&mut registry, &remote(), claimant("a", 5, 1));
    let question = asked(&mut registry, claimant("b", 5, 1));
    assert!(
        !registry.answered(&remote(), first.id, question.nonce + 1),
        "never asked"
    );
    assert!(registry.answered(&remote(), first.id, question.nonce));
    let again = asked(&mut registry, claimant("b", 5, 2));
    assert_eq!((again.nonce, again.is_new), (question.nonce + 1, true));
}

#[test]
fn superseded_session_that_ends_late_does_not_close_the_new_one() {
    let mut registry = Registry::default();
    let first = opened(&mut registry, &remote(), claimant("a", 1, 1));
    let second = opened(&mut registry, &remote(), claimant("a", 1, 2));
    assert!(!registry.close(&remote(), first.id));
    assert!(registry.stands(&remote(), second.id));
    assert!(registry.close(&remote(), second.id));
    assert!(registry.is_empty());
}

#[test]
fn remotes_do_not_touch_each_other() {
    let mut registry = Registry::default();
    let other = RemoteName::new("remote-2").expect("a DNS label");
    let first = opened(&mut registry, &remote(), claimant("a", 1, 1));
    let second = opened(&mut registry, &other, claimant("b", 1, 1));
    assert_eq!(second.superseded, None);
    assert!(registry.close(&remote(), first.id));
    assert_eq!(registry.len(), 1);
}

#[test]
fn conflict_stands_until_it_has_not_shown_for_a_while() {
    let lasts = u64::try_from(CONFLICT_LASTS.as_nanos()).expect("small");
    let at = |address: &str, start| Party {
        address: address.to_owned(),
        cluster_uid: "cluster".to_owned(),
        start,
    };
    let parties = (at("10.0.0.1:1", 1), at("10.0.0.2:1", 1));
    let mut conflicts = Conflicts::default();
    assert!(conflicts.note(&remote(), parties.clone(), 0));
    // Another port, another start: the same agents.
    assert!(!conflicts.note(&remote(), (at("10.0.0.1:9", 4), at("10.0.0.2:7", 3)), 100));
    let expected = Conflict {
        holder: parties.0.clone(),
        challenger: parties.1.clone(),
        seen_at: 100,
    };
    assert_eq!(conflicts.current(&remote(), 100 + lasts - 1), Some(&expected));
    assert_eq!(conflicts.current(&remote(), 100 + lasts), None);
    assert!(conflicts.note(&remote(), parties.clone(), 100 + lasts), "it is back");
    assert!(
        conflicts.note(&remote(), (parties.0, at("10.0.0.3:1", 1)), 100 + lasts),
        "a third one"
    );
}

#[test]
fn older_agent_that_still_comes_after_a_minute_is_no_predecessor() {
    let second = 1_000_000_000;
    let other = RemoteName::new("remote-2").expect("a DNS label");
    let mut conflicts = Conflicts::default();
    assert!(!conflicts.older(&remote(), "clone", 0));
    assert!(!conflicts.older(&remote(), "clone", 59 * second));
    // Others come in between, and are not held against it nor it against them.
    assert!(!conflicts.older(&remote(), "predecessor", 59 * second));
    assert!(!conflicts.older(&other, "clone", 60 * second));
    assert!(conflicts.older(&remote(), "clone", 60 * second));
    assert!(!conflicts.older(&remote(), "predecessor", 61 * second));
    // Who was away for as long as a conflict lasts is new.
    let lasts = u64::try_from(CONFLICT_LASTS.as_nanos()).expect("small");
    assert!(conflicts.older(&remote(), "clone", 59 * second + lasts));
    assert!(!conflicts.older(&remote(), "clone", 59 * second + 2 * lasts));
}

#[test]
fn older_agents_with_ever_new_names_do_not_pile_up() {
    let mut conflicts = Conflicts::default();
    for number in 0..1_000 {
        assert!(!conflicts.older(&remote(), "clone", number));
        assert!(!conflicts.older(&remote(), &number.to_string(), number));
    }
    let minute = u64::try_from(PREDECESSOR_ENDS_WITHIN.as_nanos()).expect("small");
    assert!(
        conflicts.older(&remote(), "clone", minute),
        "who keeps coming is remembered"
    );
    assert!(!conflicts.older(&remote(), "0", minute), "who came long ago is not");
}
