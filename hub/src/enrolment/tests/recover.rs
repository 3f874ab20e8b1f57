use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rcgen::SigningKey as _;
use remote_istio::enrolment::proof_input;
use remote_istio::transport::Caller;
use remote_istio::wire::v1;
use tonic::{Code, Status};

use super::world::{Replica, World, agent, not_before, refused};
use crate::crd::Revocation;
use crate::events::{Reason, Subject};
use crate::test_authority::{DAY, RemoteCertificate, link_ca, remote, request};

const EXPORTER: [u8; 32] = [7; 32];

/// A remote that joined two days ago and whose certificate ended `ago`.
fn ended(world: &World, ago: Duration) -> RemoteCertificate {
    let ends = SystemTime::now() - ago;
    RemoteCertificate::new(&world.ca, "remote-1", ends - DAY, ends)
}

/// The name as it stood then.
async fn joined(begins_days_ago: u32) -> World {
    let world = World::new();
    world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    world.memory.edit_name("remote-1", |record| {
        let then = SystemTime::now() - DAY * begins_days_ago;
        record.spec.not_before = Time(crate::identities::timestamp(then));
    });
    world.hub.told();
    world
}

fn asked(certificate: &RemoteCertificate) -> v1::RecoverRequest {
    let (_, request) = request();
    let proof = certificate
        .key
        .sign(&proof_input(&EXPORTER, &request))
        .expect("a signature");
    v1::RecoverRequest {
        chain: certificate.chain.clone(),
        request,
        proof,
        cluster_uid: "cluster-1".to_owned(),
    }
}

async fn recover(hub: &Replica, asked: v1::RecoverRequest) -> Result<v1::Issued, Status> {
    let caller = Caller::new("192.0.2.1:5".to_owned(), EXPORTER);
    hub.enrolment.answer_recover(&caller, asked).await
}

async fn denied(hub: &Replica, asked: v1::RecoverRequest) -> String {
    let status = recover(hub, asked).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn f40_remote_whose_certificate_ended_a_month_ago_gets_another() {
    let world = joined(60).await;
    let issued = recover(&world.hub, asked(&ended(&world, 30 * DAY)))
        .await
        .expect("issued");
    assert!(not_before(&issued.chain[0]) < SystemTime::now());
    assert_eq!(issued.trust, Some(world.authority.trust().borrow().write()));
    assert_eq!(
        world.hub.told(),
        [(Subject::Remote(remote("remote-1")), Reason::Recovered)]
    );
}

#[tokio::test]
async fn recovered_certificate_is_one_of_the_last_join() {
    let world = joined(0).await;
    let ends = SystemTime::now() + DAY;
    let young = RemoteCertificate::new(&world.ca, "remote-1", SystemTime::now() + Duration::from_secs(5), ends);
    let bound = world.memory.names()[0].spec.not_before.0;
    // Not ended yet, and not begun by the hub's clock.
    let text = denied(&world.hub, asked(&young)).await;
    assert!(text.contains("not valid yet"), "{text}");
    let current = RemoteCertificate::new(&world.ca, "remote-1", crate::identities::system_time(bound), ends);
    let issued = recover(&world.hub, asked(&current)).await.expect("issued");
    assert!(crate::identities::timestamp(not_before(&issued.chain[0])) >= bound);
}

#[tokio::test]
async fn remote_that_is_unknown_revoked_replaced_or_in_another_cluster_is_told_so() {
    let unknown = World::new();
    let text = denied(&unknown.hub, asked(&ended(&unknown, DAY))).await;
    assert!(text.contains("unknown to this hub"), "{text}");

    let revoked = joined(60).await;
    revoked.memory.edit_name("remote-1", |record| {
        record.spec.revoked = Some(Revocation {
            at: Time(crate::identities::timestamp(SystemTime::now())),
            reason: String::new(),
        });
    });
    let text = denied(&revoked.hub, asked(&ended(&revoked, DAY))).await;
    assert!(text.contains("certificate revoked"), "{text}");

    let replaced = joined(1).await;
    let text = denied(&replaced.hub, asked(&ended(&replaced, 2 * DAY))).await;
    assert!(text.contains("certificate revoked"), "{text}");

    let moved = joined(60).await;
    let elsewhere = v1::RecoverRequest {
        cluster_uid: "cluster-2".to_owned(),
        ..asked(&ended(&moved, DAY))
    };
    let text = denied(&moved.hub, elsewhere).await;
    assert!(text.contains("another cluster"), "{text}");
}

#[tokio::test]
async fn certificate_of_another_ca_or_from_too_long_ago_opens_nothing() {
    let world = joined(400).await;
    let ends = SystemTime::now() - DAY;
    let foreign = RemoteCertificate::new(&link_ca(), "remote-1", ends - DAY, ends);
    let text = denied(&world.hub, asked(&foreign)).await;
    assert!(text.contains("signed by another CA"), "{text}");
    let text = denied(&world.hub, asked(&ended(&world, 91 * DAY))).await;
    assert!(text.contains("90 days"), "{text}");
}

#[tokio::test]
async fn proof_of_another_connection_or_key_is_refused_and_failures_are_limited() {
    let world = joined(60).await;
    let certificate = ended(&world, DAY);
    let mut other_connection = asked(&certificate);
    let input = proof_input(&[8; 32], &other_connection.request);
    other_connection.proof = certificate.key.sign(&input).expect("a signature");
    let thief = v1::RecoverRequest {
        chain: certificate.chain.clone(),
        ..asked(&ended(&world, DAY))
    };
    for bad in [&other_connection, &thief, &thief, &thief, &thief] {
        let text = denied(&world.hub, bad.clone()).await;
        assert!(text.contains("the proof does not hold"), "{text}");
    }
    let limited = recover(&world.hub, thief.clone()).await.expect_err("it waits");
    assert_eq!(limited.code(), Code::ResourceExhausted);
    // Others behind the same address are not held up: neither who proves its key nor who joins.
    recover(&world.hub, asked(&certificate)).await.expect("issued");
    let soon = recover(&world.hub, asked(&certificate)).await.expect_err("too soon");
    assert_eq!(soon.code(), Code::Unavailable);
    let joiner = refused(
        world
            .hub
            .join_with(&agent("192.0.2.1:5", "cluster-1"), "no token")
            .await,
    );
    assert_eq!(joiner.0, Code::Unauthenticated);
}
