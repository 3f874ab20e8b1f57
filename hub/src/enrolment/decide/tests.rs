use super::*;
use crate::crd::Revocation;

const NOW: i64 = 1_000_000;
const BACKDATED: i64 = 15 * 60;
const BACKDATED_ANEW: i64 = 11 * 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn key(name: &str) -> Pin {
    Pin::of_key_info(name.as_bytes())
}

/// One situation: what is kept, and who asks.
#[derive(Clone)]
struct Case {
    spec: JoinTokenSpec,
    status: JoinTokenStatus,
    created: i64,
    certificate_begins: Option<i64>,
    record: Option<RemoteIdentitySpec>,
    key: Pin,
    cluster_uid: &'static str,
}

fn case() -> Case {
    Case {
        spec: JoinTokenSpec {
            remote: "remote-1".to_owned(),
            secret_hash: String::new(),
            expires_at: Time(at(NOW + 3_600)),
            approval: Approval::Automatic,
            cluster_uid: None,
            created_by: String::new(),
        },
        status: JoinTokenStatus::default(),
        created: NOW - 10,
        certificate_begins: None,
        record: None,
        key: key("first"),
        cluster_uid: "cluster-1",
    }
}

fn record(cluster_uid: &str, not_before: i64) -> RemoteIdentitySpec {
    RemoteIdentitySpec {
        cluster_uid: cluster_uid.to_owned(),
        joined_at: Time(at(NOW - 100_000)),
        key: String::new(),
        not_before: Time(at(not_before)),
        released: false,
        revoked: None,
    }
}

fn revoked(at_second: i64) -> RemoteIdentitySpec {
    RemoteIdentitySpec {
        revoked: Some(Revocation {
            at: Time(at(at_second)),
            reason: String::new(),
        }),
        ..record("cluster-1", 5)
    }
}

impl Case {
    fn ask(&self) -> Ask<'_> {
        Ask {
            key: self.key,
            cluster_uid: self.cluster_uid,
            address: "192.0.2.1:5",
        }
    }

    fn decide(&self) -> Decision {
        self.decide_at(NOW)
    }

    fn decide_at(&self, now: i64) -> Decision {
        let token = Kept {
            spec: &self.spec,
            status: &self.status,
            created: at(self.created),
            certificate_begins: self.certificate_begins.map(at),
        };
        decide(&token, self.record.as_ref(), &self.ask(), at(now))
    }

    fn state(mut self, state: TokenState) -> Self {
        let claim = self.ask().claim();
        self.status.state = state;
        self.status.claim = Some(claim);
        self
    }

    fn with_record(self, record: RemoteIdentitySpec) -> Self {
        Self {
            record: Some(record),
            ..self
        }
    }

    /// Carries out an issue up to the write of the token.
    fn used(mut self) -> Self {
        let Decision::Issue { begins } = self.decide() else {
            panic!("{:?}", self.decide());
        };
        self.status = used(&self.ask(), "PEM".to_owned(), at(NOW));
        self.certificate_begins = Some(begins.as_second());
        self
    }

    /// Carries out the binding.
    fn bound(mut self) -> Self {
        let Decision::Answer { bind: Some(record) } = self.decide() else {
            panic!("{:?}", self.decide());
        };
        self.record = Some(record);
        self
    }

    fn dead(&self) -> Decision {
        Decision::Kill(JoinTokenStatus {
            state: TokenState::Dead,
            certificate: None,
            ..self.status.clone()
        })
    }
}

fn begins(second: i64) -> Decision {
    Decision::Issue { begins: at(second) }
}

#[test]
fn good_token_is_issued_then_used_then_bound_then_answered() {
    assert_eq!(case().decide(), begins(NOW - BACKDATED));
    let used = case().used();
    let expected = RemoteIdentitySpec {
        joined_at: Time(at(NOW)),
        key: key("first").to_string(),
        ..record("cluster-1", NOW - BACKDATED)
    };
    assert_eq!(used.decide(), Decision::Answer { bind: Some(expected) });
    assert_eq!(used.bound().decide(), Decision::Answer { bind: None });
}

#[test]
fn f31_crash_after_the_signature_leaves_a_token_that_is_issued_again() {
    // Nothing was written: the same question has the same answer.
    assert_eq!(case().decide_at(NOW + 5), begins(NOW + 5 - BACKDATED));
    // The token was written and the name was not bound: it is bound to the same certificate.
    let used = case().used();
    let Decision::Answer { bind: Some(bound) } = used.decide_at(NOW + 5) else {
        panic!("{:?}", used.decide());
    };
    assert_eq!(bound.not_before, Time(at(NOW - BACKDATED)));
}

#[test]
fn f36_answer_that_was_lost_is_given_again_for_ten_minutes_to_the_same_key() {
    let joined = case().used().bound();
    assert_eq!(joined.decide_at(NOW + 599), Decision::Answer { bind: None });
    assert_eq!(joined.decide_at(NOW + 600), joined.dead());
}

#[test]
fn answer_is_given_again_also_when_the_token_has_expired_meanwhile() {
    let mut joined = case().used().bound();
    joined.spec.expires_at = Time(at(NOW + 1));
    assert_eq!(joined.decide_at(NOW + 60), Decision::Answer { bind: None });
}

#[test]
fn f35_used_token_dies_when_another_key_or_cluster_comes_and_the_winner_keeps_its_name() {
    let joined = case().used().bound();
    let other_key = Case {
        key: key("second"),
        ..joined.clone()
    };
    assert_eq!(other_key.decide(), joined.dead());
    let other_cluster = Case {
        cluster_uid: "cluster-2",
        ..joined.clone()
    };
    assert_eq!(other_cluster.decide(), joined.dead());
    let mut dead = joined;
    dead.status.state = TokenState::Dead;
    assert_eq!(dead.decide(), Decision::Refuse(Refusal::Dead));
}

#[test]
fn f35_expired_token_is_refused_to_the_second() {
    let token = case();
    assert!(matches!(token.decide_at(NOW + 3_599), Decision::Issue { .. }));
    for state in [TokenState::Unused, TokenState::Pending, TokenState::Approved] {
        let token = case().state(state);
        assert_eq!(token.decide_at(NOW + 3_600), Decision::Refuse(Refusal::Expired));
    }
}

#[test]
fn token_for_one_cluster_serves_no_other_and_is_not_used_up() {
    let mut token = case();
    token.spec.cluster_uid = Some("cluster-2".to_owned());
    assert_eq!(token.decide(), Decision::Refuse(Refusal::OtherCluster));
    token.cluster_uid = "cluster-2";
    assert_eq!(token.decide(), begins(NOW - BACKDATED));
}

#[test]
fn f34_name_of_another_cluster_is_refused_until_it_is_released_or_revoked() {
    let taken = case().with_record(record("cluster-2", 5));
    assert_eq!(taken.decide(), Decision::NameTaken);
    let approved = taken.clone().state(TokenState::Approved);
    assert_eq!(approved.decide(), Decision::NameTaken);

    let released = case().with_record(RemoteIdentitySpec {
        released: true,
        ..record("cluster-2", 5)
    });
    assert_eq!(released.decide(), begins(NOW - BACKDATED_ANEW));
    let bound = released.used().bound().record.expect("bound");
    assert_eq!(
        (bound.cluster_uid.as_str(), bound.released),
        ("cluster-1", false),
        "the release is spent"
    );

    let revoked = case().with_record(RemoteIdentitySpec {
        cluster_uid: "cluster-2".to_owned(),
        ..revoked(NOW - 20)
    });
    assert_eq!(revoked.decide(), begins(NOW - BACKDATED_ANEW));
    assert_eq!(revoked.used().bound().record.expect("bound").revoked, None);
}

#[test]
fn name_that_was_taken_while_the_token_was_written_is_refused() {
    let used = case().used().with_record(record("cluster-2", NOW - BACKDATED));
    assert_eq!(used.decide(), Decision::NameTaken);
}

#[test]
fn token_from_before_a_revocation_is_worth_nothing() {
    assert_eq!(
        case().with_record(revoked(NOW - 5)).decide(),
        Decision::Refuse(Refusal::Revoked)
    );
    // Made in the same second: made afterwards, for a revocation takes all tokens back that stand.
    assert!(matches!(
        case().with_record(revoked(NOW - 10)).decide(),
        Decision::Issue { .. }
    ));
    let joined = case().used().bound();
    let revoked = joined.with_record(revoked(NOW + 1));
    assert_eq!(
        revoked.decide(),
        Decision::Refuse(Refusal::Revoked),
        "an answer is no way back"
    );
}

#[test]
fn join_anew_begins_later_than_everything_signed_before() {
    let again = case().with_record(record("cluster-1", NOW - 100_000));
    assert_eq!(again.decide(), begins(NOW - BACKDATED_ANEW));
    let soon_again = case().with_record(record("cluster-1", NOW - 60));
    assert_eq!(soon_again.decide(), begins(NOW - 59));
}

#[test]
fn answer_of_a_join_that_a_later_one_replaced_is_not_given() {
    let joined = case().used().bound();
    let replaced = joined.with_record(record("cluster-1", NOW));
    assert_eq!(replaced.decide(), Decision::Refuse(Refusal::Used));
}

#[test]
fn of_two_tokens_in_one_second_the_one_bound_last_counts_alone() {
    let first = case().used().bound();
    // Its certificate was signed before the other's name was bound, for the same second.
    let second = Case {
        key: key("second"),
        ..case()
    };
    let mut second = second.used();
    second.record = first.record.clone();
    assert_eq!(second.certificate_begins, Some(NOW - BACKDATED));
    assert_eq!(second.decide(), begins(NOW - BACKDATED_ANEW), "signed anew, later");
    let second = second.used().bound();
    assert_eq!(second.decide(), Decision::Answer { bind: None });
    let late = Case {
        record: second.record,
        ..first
    };
    assert_eq!(late.decide(), Decision::Refuse(Refusal::Used));
}

#[test]
fn manual_approval_waits_for_a_person() {
    let mut manual = case();
    manual.spec.approval = Approval::Manual;
    let pending = JoinTokenStatus {
        state: TokenState::Pending,
        claim: Some(manual.ask().claim()),
        ..JoinTokenStatus::default()
    };
    assert_eq!(manual.decide(), Decision::Wait(Some(pending.clone())));
    manual.status = pending;
    assert_eq!(manual.decide(), Decision::Wait(None));

    let denied = manual.clone().state(TokenState::Denied);
    assert_eq!(denied.decide(), Decision::Denied);
    let approved = manual.clone().state(TokenState::Approved);
    assert_eq!(approved.decide(), begins(NOW - BACKDATED));

    for waiting in [manual, approved] {
        let other = Case {
            key: key("second"),
            ..waiting.clone()
        };
        assert_eq!(other.decide(), waiting.dead());
    }
}

#[test]
fn used_token_without_its_certificate_is_worth_nothing() {
    let broken = Case {
        certificate_begins: None,
        ..case().used()
    };
    assert_eq!(broken.decide(), broken.dead());
}
