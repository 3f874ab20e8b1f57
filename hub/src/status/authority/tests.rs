use super::super::test_objects::{CONNECTED_AT, World};
use super::*;

const SECOND: u64 = 1_000_000_000;
const STANDS: u64 = 45 * SECOND;

/// A stored status in which `replica` claims a live session 5/2.
fn claim_of(replica: &str) -> RemoteIstioStatus {
    let mut status = World::settled().status(CONNECTED_AT);
    status.replica = Some(replica.to_owned());
    status
}

fn holder(start: u64, connection: u64) -> Standing<'static> {
    Standing {
        replica: "hub-0",
        leads: false,
        session: Some(SessionEpoch { start, connection }),
        saw_the_end: false,
    }
}

fn leader(saw_the_end: bool) -> Standing<'static> {
    Standing {
        replica: "hub-0",
        leads: true,
        session: None,
        saw_the_end,
    }
}

fn bystander() -> Standing<'static> {
    Standing {
        leads: false,
        ..leader(true)
    }
}

#[test]
fn first_answer_depends_on_session_lead_and_stored_claim() {
    let lost = || {
        let world = World::lost(CONNECTED_AT);
        world.status(CONNECTED_AT)
    };
    let table = [
        ("nothing stored, session", None, holder(5, 2), Authority::Write),
        ("nothing stored, leader", None, leader(false), Authority::Write),
        ("nothing stored, neither", None, bystander(), Authority::Leave),
        (
            "own claim, same session",
            Some(claim_of("hub-0")),
            holder(5, 2),
            Authority::Write,
        ),
        (
            "own claim, agent started anew from zero",
            Some(claim_of("hub-0")),
            holder(1, 1),
            Authority::Write,
        ),
        (
            "claim of another, older session",
            Some(claim_of("hub-1")),
            holder(5, 3),
            Authority::Write,
        ),
        (
            "claim of another, same session",
            Some(claim_of("hub-1")),
            holder(5, 2),
            Authority::Write,
        ),
        (
            "claim of another, later connection",
            Some(claim_of("hub-1")),
            holder(5, 1),
            Authority::Wait(STANDS),
        ),
        (
            "claim of another, later start",
            Some(claim_of("hub-1")),
            holder(4, 9),
            Authority::Wait(STANDS),
        ),
        (
            "claim of another, leader",
            Some(claim_of("hub-1")),
            leader(false),
            Authority::Wait(STANDS),
        ),
        (
            "claim of another since our session ended",
            Some(claim_of("hub-1")),
            leader(true),
            Authority::Wait(STANDS),
        ),
        (
            "own claim of an earlier life, leader",
            Some(claim_of("hub-0")),
            leader(false),
            Authority::Wait(STANDS),
        ),
        (
            "own claim whose session ended here",
            Some(claim_of("hub-0")),
            leader(true),
            Authority::Write,
        ),
        (
            "own claim whose session ended, no leader",
            Some(claim_of("hub-0")),
            bystander(),
            Authority::Leave,
        ),
        (
            "nobody claims to be connected",
            Some(lost()),
            leader(false),
            Authority::Write,
        ),
        (
            "nobody claims, older session",
            Some(lost()),
            holder(1, 1),
            Authority::Write,
        ),
    ];
    for (what, status, standing, expected) in table {
        let answer = Claims::default().authority(status.as_ref(), standing, 0);
        assert_eq!(answer, expected, "{what}");
    }
}

#[test]
fn claim_that_stands_long_enough_is_overwritten_once() {
    let mut claims = Claims::default();
    let claim = claim_of("hub-1");
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 10),
        Authority::Wait(10 + STANDS)
    );
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 20),
        Authority::Wait(10 + STANDS)
    );
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 10 + STANDS),
        Authority::Write
    );
    claims.wrote();
    // Its writer lives and says so again.
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 20 + STANDS),
        Authority::Leave
    );
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 90 * STANDS),
        Authority::Leave
    );
    let mut later = claim_of("hub-1");
    later.session = Some(SessionStatus {
        start: 5,
        connection: 3,
    });
    assert_eq!(
        claims.authority(Some(&later), leader(false), 100 * STANDS),
        Authority::Wait(101 * STANDS)
    );
}

#[test]
fn claim_that_goes_away_by_itself_is_forgotten() {
    let mut claims = Claims::default();
    let claim = claim_of("hub-1");
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 0),
        Authority::Wait(STANDS)
    );
    assert_eq!(claims.authority(None, leader(false), 1), Authority::Write);
    claims.wrote();
    assert_eq!(
        claims.authority(Some(&claim), leader(false), 9),
        Authority::Wait(9 + STANDS)
    );
}
