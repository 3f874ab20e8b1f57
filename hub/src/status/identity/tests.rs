use super::super::conditions::{CONNECTED, READY};
use super::super::test_objects::{CONNECTED_AT, World, condition};
use super::*;
use crate::crd::State;
use crate::registry::Party;

const NOW: i64 = CONNECTED_AT + 100;

fn said<'a>(status: &'a RemoteIstioStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let condition = condition(status, kind);
    (&condition.status, &condition.reason, &condition.message)
}

fn conflict(challenger: &str) -> Conflict {
    let at = |address: &str, cluster: &str, start| Party {
        address: address.to_owned(),
        cluster_uid: cluster.to_owned(),
        start,
    };
    Conflict {
        holder: at("10.0.0.1:4711", "uid-1", 4),
        challenger: at(challenger, "uid-2", 4),
        seen_at: 0,
    }
}

#[test]
fn certificate_is_judged_by_its_life_in_words_that_do_not_move() {
    // Issued at NOW, backdated, for 1000 s.
    let certificate = CertificateReport {
        not_before: NOW - 900,
        not_after: NOW + 1_000,
    };
    let table = [
        (NOW - 901, "False", "NotYetValid", "correct the clocks"),
        (NOW - 900, "True", "AllGood", "the agent's certificate is valid"),
        (NOW + 849, "True", "AllGood", "the agent's certificate is valid"),
        (NOW + 850, "True", "RenewalOverdue", "has not been renewed in time"),
        (NOW + 999, "True", "RenewalOverdue", "has not been renewed in time"),
        (NOW + 1_000, "False", "Expired", "recovers when it returns"),
    ];
    for (now_unix, status, reason, words) in table {
        let mut world = World::settled();
        world.session().certificate = certificate;
        let wanted = world.status(now_unix);
        let (said_status, said_reason, message) = said(&wanted, CERTIFICATE_VALID);
        assert_eq!((said_status, said_reason), (status, reason), "{now_unix}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn certificate_of_an_agent_that_left_is_judged_on_and_what_is_not_known_stays() {
    let mut world = World::lost(NOW);
    world.last_certificate = Some(CertificateReport {
        not_before: NOW - 900,
        not_after: NOW + 10,
    });
    assert_eq!(said(&world.status(NOW + 10), CERTIFICATE_VALID).1, "Expired");
    world.store(NOW + 10);
    // After a restart of the hub.
    (world.last_certificate, world.disconnected_at) = (None, None);
    assert_eq!(said(&world.status(NOW + 20), CERTIFICATE_VALID).1, "Expired");
    let nothing = World::created().status(NOW);
    assert_eq!(said(&nothing, CERTIFICATE_VALID).0, "Unknown");
}

#[test]
fn agent_that_cannot_keep_the_trust_is_said() {
    let mut world = World::settled();
    world.session().trust_failure = "the Secret is full".to_owned();
    let status = world.status(NOW);
    let (status, _, message) = said(&status, CERTIFICATE_VALID);
    assert_eq!(status, "True");
    assert!(
        message.contains("cannot keep the hub's new roots: the Secret is full"),
        "{message}"
    );
}

#[test]
fn revoked_remote_is_not_ready_whether_its_session_still_stands_or_not() {
    let message = format!(
        "certificate revoked at {} (laptop stolen); to let the remote back in: remote-istio-hub token create remote-1, and \
         join it again",
        time(CONNECTED_AT + 60).0
    );
    for mut world in [World::settled(), World::lost(NOW), World::created()] {
        world.revoke("laptop stolen");
        let status = world.status(NOW);
        for kind in [CONNECTED, CERTIFICATE_VALID, READY] {
            assert_eq!(said(&status, kind), ("False", REVOKED, message.as_str()), "{kind}");
        }
        assert_eq!(status.state, Some(State::ReconcileFailed));
        assert_eq!(status.error_message, Some(message.clone()));
    }
}

#[test]
fn revocation_that_was_taken_back_leaves_no_trace() {
    let mut world = World::lost(NOW);
    world.last_certificate = None;
    world.revoke("");
    world.store(NOW);
    world.revoked = None;
    assert_eq!(said(&world.status(NOW), CERTIFICATE_VALID).1, "NoAgent");
    assert_eq!(said(&world.status(NOW), CONNECTED).1, "AgentDisconnected");
}

#[test]
fn conflict_names_both_agents_and_leaves_the_first_ready() {
    let mut world = World::settled();
    assert!(
        stored(Some(&world.status(NOW)), IDENTITY_CONFLICT).is_none(),
        "never was one"
    );
    world.conflict = Some(conflict("10.0.0.2:99"));
    let status = world.status(NOW);
    let expected = "two agents run with the identity of this remote: the one that counts is at 10.0.0.1:4711 (cluster uid-1, \
                    start 4), refused is at 10.0.0.2:99 (cluster uid-2, start 4); stop one, or join it under a name of its \
                    own";
    assert_eq!(said(&status, IDENTITY_CONFLICT), ("True", TWO_AGENTS, expected));
    assert_eq!(said(&status, READY).0, "True");
    world.store(NOW);
    world.conflict = None;
    assert_eq!(said(&world.status(NOW), IDENTITY_CONFLICT).1, "NoConflict");
}

#[test]
fn people_are_told_once_of_what_begins() {
    let mut world = World::settled();
    let good = world.status(NOW);
    assert_eq!(announcements(None, &good), []);
    world.conflict = Some(conflict("10.0.0.2:99"));
    let conflicting = world.status(NOW);
    let message = condition(&conflicting, IDENTITY_CONFLICT).message.as_str();
    let told = [(event::Reason::IdentityConflict, message)];
    assert_eq!(announcements(Some(&good), &conflicting), told);
    assert_eq!(announcements(None, &conflicting), told);
    assert_eq!(announcements(Some(&conflicting), &conflicting), []);

    world.session().certificate.not_after = NOW + 1;
    let overdue = world.status(NOW);
    let message = condition(&overdue, CERTIFICATE_VALID).message.as_str();
    assert_eq!(
        announcements(Some(&conflicting), &overdue),
        [(event::Reason::RenewalOverdue, message)]
    );
}
