//! Certificates that end soon are renewed under the running stream, and nobody who waits for a change notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::eventually::{eventually, seen};

use crate::mesh::{Mesh, Setup, run};
use crate::raw_client;
use crate::x509::Facts;

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// How long endpoints change.
const RUN: Duration = Duration::from_mins(1);

/// So much later than the slowest without renewal the slowest with it may be on top of as much again: two pairs at
/// the same time on one busy machine are seldom nearer. A lost session costs at least a reconnect pause and a handshake,
/// and a change that waits for the next one is a matter of seconds.
const NOISE: Duration = Duration::from_millis(500);

/// The slowest change of a pair, how many there were, and how many certificates it saw.
#[derive(Debug)]
struct Course {
    changes: usize,
    slowest: Duration,
    serials: BTreeSet<String>,
}

/// Changes the address of one service again and again, each as soon as the one before has arrived.
async fn course(mesh: &Mesh<'_>) -> Course {
    let remote = mesh.remote(0);
    let log = remote.record("istio-pilot").await;
    let started = Instant::now();
    let mut course = Course {
        changes: 0,
        slowest: Duration::ZERO,
        serials: BTreeSet::new(),
    };
    while started.elapsed() < RUN {
        let number = course.changes;
        let address = format!("10.1.{}.{}", number / 200 % 200, number % 200 + 1);
        let name = format!("pilot-{number}");
        if number > 0 {
            mesh.delete_pod(&format!("pilot-{}", number - 1)).await;
        }
        mesh.pod(&name, "istio=pilot", &address).ready().await;
        let changed = Instant::now();
        log.until(&[&address]).await;
        course.slowest = course.slowest.max(changed.elapsed());
        course.changes += 1;
        if number.is_multiple_of(8) {
            course
                .serials
                .insert(Facts::of(&remote.until_certificate().await).serial);
        }
    }
    let sets = log.history();
    for number in 0..course.changes {
        let address = format!("10.1.{}.{}", number / 200 % 200, number % 200 + 1);
        assert!(sets.iter().any(|set| set.contains(&address)), "{address} was lost");
    }
    course
}

#[test]
fn changes_arrive_while_every_certificate_is_renewed_every_few_seconds() {
    run(async {
        let mut steady = Mesh::joinable("steady", 1, Setup::made()).await;
        let mut renewing = Mesh::joinable("renewing", 1, Setup::made().living("6s")).await;
        for mesh in [&mut steady, &mut renewing] {
            mesh.enable(PILOT).await;
            mesh.join(0).await;
            mesh.until_ready(0).await;
        }
        let secret = renewing.ca_secret().await.expect("there");
        let ca = String::from_utf8_lossy(&secret["ca.crt"]).into_owned();
        let hub_before = raw_client::certificate_for("127.0.0.1", renewing.hub_address(), &ca).await;
        // At the same time, so that what else the machine does slows both.
        let (without, with) = tokio::join!(course(&steady), course(&renewing));
        println!("without renewal {without:?}\nwith renewal {with:?}");
        assert_eq!(without.serials.len(), 1);
        assert!(
            with.serials.len() >= 8,
            "{} certificates in a minute",
            with.serials.len()
        );
        let hub_after = raw_client::certificate_for("127.0.0.1", renewing.hub_address(), &ca).await;
        assert_ne!(
            Facts::of_der(&hub_before).serial,
            Facts::of_der(&hub_after).serial,
            "the hub's own too"
        );
        assert!(
            with.slowest <= without.slowest * 2 + NOISE,
            "the slowest change took {:?} with renewal and {:?} without",
            with.slowest,
            without.slowest
        );
        // Every session ended because the next one was there.
        assert!(
            renewing.sessions_ended_otherwise().await.abs() < 0.5,
            "{}",
            renewing.hub_log()
        );
        let superseded = renewing.hub_metric("sessions_ended_total", &["superseded"]).await;
        assert!(superseded >= 8.0, "{superseded} sessions were followed by the next");
        renewing.until_condition(0, "CertificateValid", "True").await;
    });
}

#[test]
fn renewal_that_fails_is_said_counted_and_made_up_for() {
    run(async {
        let mut mesh = Mesh::joinable("renewal-fails", 1, Setup::made().living("30s")).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.until_ready(0).await;
        let certificate = mesh.remote(0).until_certificate().await;
        // The key of the next certificate cannot be kept: nothing is asked for.
        mesh.remote(0).forbid_all().await;
        mesh.remote(0)
            .until_metric("certificate_renewals_total", |count| count >= 1.0)
            .await;
        assert_eq!(mesh.remote(0).until_certificate().await, certificate);
        assert!(mesh.hub_metric("renewals_total", &[]).await.abs() < 0.5);
        mesh.remote(0).permit_all().await;
        mesh.remote(0).until_another_certificate(&certificate).await;
        mesh.until_sessions(1).await;
    });
}

#[test]
fn agent_cannot_be_renewed_under_another_name() {
    run(async {
        let mut mesh = Mesh::joinable("own-name", 1, Setup::made().living("10s")).await;
        mesh.join(0).await;
        let first = mesh.remote(0).until_certificate().await;
        let next = mesh.remote(0).until_another_certificate(&first).await;
        let (first, next) = (Facts::of(&first), Facts::of(&next));
        assert_eq!(first.names, next.names);
        assert_ne!(first.serial, next.serial);
        assert!(next.not_after > first.not_after);
        let keys = mesh.remote(0).kept().await;
        eventually("nothing is under way between renewals", || async {
            let now = mesh.remote(0).kept().await;
            seen(
                !now.contains_key("next.key"),
                format!("{:?} {:?}", keys.keys(), now.keys()),
            )
        })
        .await;
    });
}
