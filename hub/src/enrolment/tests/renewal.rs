use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use remote_istio::identity::{Identity, from_certificate};
use remote_istio::tls::{Peer, TlsSource};
use remote_istio::transport::{handshake_client, handshake_server};
use remote_istio::wire::v1;
use remote_istio::wire::v1::identity_server::Identity as _;
use tokio::io::duplex;
use tonic::{Code, Request, Status};

use super::super::{Records, Renewal};
use super::world::{Fault, World, agent, not_before};
use crate::crd::Revocation;
use crate::test_authority::{DAY, RemoteCertificate, TRUST_DOMAIN, remote, request};

/// Who the hub sees at the other end of a connection by `source`.
async fn peer(world: &World, source: &TlsSource) -> Arc<Peer> {
    let (near, far) = duplex(64 * 1024);
    let name = "hub.test".try_into().expect("a host name");
    let tls = world.authority.tls();
    let (near, far) = tokio::join!(
        handshake_client(near, source, name, "hub".to_owned()),
        handshake_server(far, &tls, "agent".to_owned()),
    );
    near.expect("connected");
    let far = far.map_err(|(refusal, detail)| format!("{refusal:?} {detail}"));
    Arc::clone(far.expect("accepted").peer())
}

fn renewal(world: &World, lifetime: Duration) -> Arc<Renewal> {
    let (identities, metrics) = (Arc::clone(&world.hub.identities), world.hub.metrics.clone());
    let records = Arc::clone(&world.memory) as Arc<dyn Records>;
    Renewal::new(Arc::clone(&world.authority), records, identities, metrics, lifetime)
}

async fn renew(renewal: &Renewal, peer: Option<&Arc<Peer>>, der: Vec<u8>) -> Result<v1::Issued, Status> {
    let mut asked = Request::new(v1::RenewRequest { request: der });
    if let Some(peer) = peer {
        asked.extensions_mut().insert(Arc::clone(peer));
    }
    renewal.renew(asked).await.map(tonic::Response::into_inner)
}

/// A remote that joined, with a certificate of its last join.
async fn joined(world: &World) -> Arc<Peer> {
    let issued = world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    let begins = not_before(&issued.chain[0]);
    let certificate = RemoteCertificate::new(&world.ca, "remote-1", begins, SystemTime::now() + DAY);
    peer(world, &certificate.source(&world.ca)).await
}

#[tokio::test]
async fn remote_gets_the_next_certificate_of_its_own_name_once_in_a_second() {
    let world = World::new();
    let peer = joined(&world).await;
    let renewal = renewal(&world, DAY);
    let issued = renew(&renewal, Some(&peer), request().1).await.expect("issued");
    let identity = from_certificate(&issued.chain[0], TRUST_DOMAIN).expect("an identity");
    assert_eq!(identity, Identity::Remote(remote("remote-1")));
    assert!(world.hub.admits(&issued, "remote-1"));
    let soon = renew(&renewal, Some(&peer), request().1).await.expect_err("too soon");
    assert_eq!(soon.code(), Code::Unavailable, "a second's pause and not a minute's");
}

#[tokio::test]
async fn renewed_certificate_is_over_when_the_name_is_joined_anew() {
    let world = World::new();
    let peer = joined(&world).await;
    let renewed = renew(&renewal(&world, DAY), Some(&peer), request().1)
        .await
        .expect("issued");
    let anew = world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    assert!(world.hub.admits(&anew, "remote-1"));
    assert!(!world.hub.admits(&renewed, "remote-1"));
}

#[tokio::test]
async fn remote_that_was_revoked_or_replaced_is_given_nothing_by_a_replica_that_has_not_heard_of_it() {
    let at = || Time(crate::identities::timestamp(SystemTime::now()));
    for replaced in [false, true] {
        let world = World::new();
        let peer = joined(&world).await;
        // The watch is silent.
        world.memory.edit_name("remote-1", |record| {
            if replaced {
                record.spec.not_before = at();
            } else {
                record.spec.revoked = Some(Revocation {
                    at: at(),
                    reason: String::new(),
                });
            }
        });
        let status = renew(&renewal(&world, DAY), Some(&peer), request().1)
            .await
            .expect_err("a refusal");
        let said = (status.code(), status.message());
        assert_eq!(said, (Code::PermissionDenied, "certificate revoked"));
    }
}

#[tokio::test]
async fn replica_that_cannot_ask_central_renews_nobody() {
    let world = World::new();
    let peer = joined(&world).await;
    world.memory.breaks(Fault::IdentityUnread);
    let status = renew(&renewal(&world, DAY), Some(&peer), request().1)
        .await
        .expect_err("a refusal");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn who_holds_a_certificate_of_a_ca_that_was_dropped_is_given_none_of_the_new_one() {
    let world = World::new();
    let peer = joined(&world).await;
    let begun = world.ca.begin(SystemTime::now()).expect("begun");
    let switched = begun.switch().expect("switched");
    world.authority.finds(switched.clone());
    renew(&renewal(&world, DAY), Some(&peer), request().1)
        .await
        .expect("both are trusted");
    world.authority.finds(switched.drop_old().expect("dropped"));
    let status = renew(&renewal(&world, DAY), Some(&peer), request().1)
        .await
        .expect_err("a refusal");
    let said = (status.code(), status.message());
    assert_eq!(said, (Code::PermissionDenied, "signed by another CA"));
}

#[tokio::test]
async fn nobody_else_is_given_a_certificate() {
    let world = World::new();
    let renewal = renewal(&world, DAY);
    let code = |answer: Result<v1::Issued, Status>| answer.expect_err("a refusal").code();
    assert_eq!(code(renew(&renewal, None, request().1).await), Code::Unauthenticated);

    let hub = peer(&world, &world.authority.tls()).await;
    assert_eq!(
        code(renew(&renewal, Some(&hub), request().1).await),
        Code::PermissionDenied
    );

    let ends = SystemTime::now() + DAY;
    let unknown = RemoteCertificate::new(&world.ca, "remote-2", SystemTime::now() - DAY, ends);
    let unknown = peer(&world, &unknown.source(&world.ca)).await;
    assert_eq!(
        code(renew(&renewal, Some(&unknown), request().1).await),
        Code::PermissionDenied
    );

    let remote = joined(&world).await;
    let broken = b"no request".to_vec();
    assert_eq!(
        code(renew(&renewal, Some(&remote), broken).await),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn certificate_renewed_right_after_a_join_anew_counts() {
    let world = World::new();
    world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    // The second join begins later than a renewal usually does.
    let peer = joined(&world).await;
    let renewed = renew(&renewal(&world, DAY), Some(&peer), request().1)
        .await
        .expect("issued");
    assert!(world.hub.admits(&renewed, "remote-1"));
}

#[tokio::test]
async fn revoked_remote_gets_nothing_over_a_connection_that_is_still_open() {
    for is_heard in [true, false] {
        let world = World::new();
        let peer = joined(&world).await;
        let revoked = world.memory.edit_name("remote-1", |record| {
            record.spec.revoked = Some(crate::crd::Revocation {
                at: Time(crate::identities::timestamp(SystemTime::now())),
                reason: String::new(),
            });
        });
        // Else this replica's watch is behind.
        if is_heard {
            world.hub.identities.wrote(revoked);
        }
        let refused = renew(&renewal(&world, DAY), Some(&peer), request().1).await;
        assert_eq!(refused.expect_err("a refusal").code(), Code::PermissionDenied);
    }
}
