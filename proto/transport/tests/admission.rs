use std::collections::BTreeMap;
use std::sync::Weak;

use parking_lot::Mutex;

use super::*;
use crate::identity::Identity;
use crate::tls::{Admission, LeafFacts, NotAdmitted};

/// Refuses by identity, and remembers everything.
#[derive(Debug, Default)]
struct Book {
    refused: Mutex<BTreeMap<String, NotAdmitted>>,
    /// Revokes whoever opens, in the middle of the opening.
    revokes_at_opening: bool,
    asked: Mutex<Vec<LeafFacts>>,
    opened: Mutex<Vec<Weak<Peer>>>,
}

fn key(identity: &Identity) -> String {
    identity.uri(TRUST_DOMAIN)
}

impl Admission for Book {
    fn admit(&self, peer: &LeafFacts) -> Result<(), NotAdmitted> {
        self.asked.lock().push(peer.clone());
        let refused = self.refused.lock().get(&key(&peer.identity)).copied();
        refused.map_or(Ok(()), Err)
    }

    fn opened(&self, peer: &Arc<Peer>) {
        self.opened.lock().push(Arc::downgrade(peer));
        if self.revokes_at_opening {
            self.refuse("remote/remote-1", NotAdmitted::Revoked);
        }
    }
}

impl Book {
    fn refuse(&self, path: &str, reason: NotAdmitted) {
        let uri = format!("spiffe://{TRUST_DOMAIN}/{path}");
        self.refused.lock().insert(uri, reason);
    }
}

fn hub_with(ca: &TestCa, book: Book) -> (Arc<TlsSource>, Arc<Book>) {
    let (hub, book) = (ca.source(LeafParams::hub()), Arc::new(book));
    hub.set_admission(Arc::clone(&book) as Arc<dyn Admission>);
    (hub, book)
}

/// What the hub makes of the agent, and what the agent logs.
async fn refusal(hub: &TlsSource, agent: &TlsSource) -> (Refusal, String) {
    let (accepted, dialled) = shake(hub, agent).await;
    let mut dialled = dialled.expect("TLS 1.3 tells the client late");
    dialled.read_u8().await.expect_err("refused");
    let error = dialled.link_error();
    assert!(error.is_refusal());
    (accepted.err().expect("refused"), error.explain().expect("noted"))
}

#[tokio::test]
async fn agent_that_is_revoked_or_unknown_is_told_in_the_handshake() {
    let ca = TestCa::new();
    let (hub, book) = hub_with(&ca, Book::default());
    let agent = ca.source(LeafParams::remote("remote-1"));

    book.refuse("remote/remote-1", NotAdmitted::Revoked);
    let (reason, text) = refusal(&hub, &agent).await;
    assert_eq!(reason, Refusal::Revoked);
    assert!(
        text.starts_with("certificate revoked: ") && text.contains("join again with a new token"),
        "{text}"
    );

    book.refuse("remote/remote-1", NotAdmitted::Unknown);
    let (reason, text) = refusal(&hub, &agent).await;
    assert_eq!(reason, Refusal::UnknownIdentity);
    assert!(
        text.starts_with("unknown to this hub: ") && text.contains("join with a new token"),
        "{text}"
    );

    assert!(book.opened.lock().is_empty());
    let (accepted, _dialled) = shake(&hub, &ca.source(LeafParams::remote("remote-2"))).await;
    accepted.expect("another one is not meant");
}

#[tokio::test]
async fn admission_is_asked_for_good_certificates_alone() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let (hub, book) = hub_with(&ca, Book::default());
    let expired = source(&ca.leaf(LeafParams::remote("remote-1").expired()), &ca.bundle());
    let foreign = source(&other.leaf(LeafParams::remote("remote-1")), &ca.bundle());
    assert_eq!(shake(&hub, &expired).await.0.err(), Some(Refusal::Expired));
    assert_eq!(shake(&hub, &foreign).await.0.err(), Some(Refusal::UnknownCa));
    assert!(book.asked.lock().is_empty());

    let agent = ca.source(LeafParams::remote("remote-1").fresh());
    let (accepted, _dialled) = shake(&hub, &agent).await;
    let own = agent.own();
    let facts = LeafFacts {
        identity: own.identity,
        serial: own.serial,
        not_before: own.not_before,
        not_after: own.not_after,
    };
    assert_eq!(
        *book.asked.lock(),
        [facts.clone(), facts],
        "in the handshake, and at the opening"
    );
    let accepted = accepted.expect("accepted");
    assert_eq!(accepted.peer().issuer_key_id, own.issuer_key_id);
}

#[tokio::test]
async fn revocation_between_handshake_and_opening_does_not_slip_through() {
    let ca = TestCa::new();
    let book = Book {
        revokes_at_opening: true,
        ..Book::default()
    };
    let (hub, book) = hub_with(&ca, book);
    let (accepted, dialled) = shake(&hub, &ca.source(LeafParams::remote("remote-1"))).await;
    assert_eq!(accepted.err(), Some(Refusal::Revoked));
    dialled
        .expect("its own handshake was good")
        .read_u8()
        .await
        .expect_err("gone");
    assert!(book.opened.lock()[0].upgrade().is_none());
}

#[tokio::test]
async fn opened_connection_can_be_cut_by_whoever_registered_it() {
    let ca = TestCa::new();
    let (hub, book) = hub_with(&ca, Book::default());
    let (accepted, dialled) = shake(&hub, &ca.source(LeafParams::remote("remote-1"))).await;
    let (mut accepted, _dialled) = (accepted.expect("accepted"), dialled.expect("dialled"));
    book.opened.lock()[0].upgrade().expect("it lives").cut();
    accepted.read_u8().await.expect_err("cut");
    assert_eq!(
        accepted.link_error().explain().as_deref(),
        Some("the connection was cut")
    );
}

#[tokio::test]
async fn admission_is_for_those_who_dial_in_and_not_for_whom_the_hub_dials() {
    let ca = TestCa::new();
    let (hub, book) = hub_with(&ca, Book::default());
    book.refuse("hub", NotAdmitted::Unknown);
    let (accepted, dialled) = shake(&ca.source(LeafParams::hub()), &hub).await;
    accepted.expect("the other replica has no admission");
    dialled.expect("this one dialled");
    assert!(book.asked.lock().is_empty());
}
