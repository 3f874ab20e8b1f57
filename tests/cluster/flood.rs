//! Strangers at the enrolment port: many, fast, and without effect on those who work.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::stream::{self, StreamExt as _};
use support::peer::{Joiner, dial, join_on};
use tonic::Code;

use crate::mesh::{Mesh, Setup, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// Where they come from: more than a table of sources would be needed for.
const STRANGERS: u16 = 500;

/// Joins of each.
const TRIES: usize = 20;

/// At the same time.
const AT_ONCE: usize = 16;

/// What the hub's memory may grow by: buffers of as many connections as it allows, and the tables with their bounds.
const GROWTH: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default)]
struct Answers {
    refused: AtomicUsize,
    limited: AtomicUsize,
    lost: AtomicUsize,
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kilobytes: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number");
    kilobytes * 1024
}

fn stranger(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 7, high, low))
}

/// A token that nobody made.
fn guess(number: usize) -> String {
    let digits = b"abcdefghijklmnopqrstuvwxyz234567";
    let letter = |shift: usize| char::from(digits[(number >> shift) & 31]);
    let id: String = [15, 10, 5, 0].into_iter().map(letter).collect();
    format!("zzzz{id}.{}", "a".repeat(52))
}

/// All the tries of one stranger; a connection that is cut is dialled again.
async fn knock(mesh: &Mesh<'_>, pins: &[String], joiner: &Joiner, number: u16, answers: &Answers) {
    let mut link = None;
    for attempt in 0..TRIES {
        let known = if let Some(link) = link.take() {
            link
        } else {
            let dialled = dial(mesh.enrolment_address(), pins, Some(stranger(number))).await;
            let Ok(link) = dialled else {
                answers.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            link
        };
        let token = guess(usize::from(number) * TRIES + attempt);
        let counter = match join_on(&known, joiner.request(&token)).await {
            Ok(answer) => panic!("a token that nobody made was taken: {answer:?}"),
            Err(status) if status.code() == Code::Unauthenticated => &answers.refused,
            Err(status) if status.code() == Code::ResourceExhausted => &answers.limited,
            // Nobody's fault, so that it is a second's pause: central is not asked for more.
            Err(status) if status.message().contains("too many unknown tokens") => &answers.limited,
            Err(_) => {
                answers.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        link = Some(known);
    }
}

#[test]
fn ten_thousand_wrong_tokens_change_nothing_for_those_who_work() {
    run(async {
        let mut mesh = Mesh::joinable("flood", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-0", "istio=pilot", "10.1.0.1").ready().await;
        let pins = mesh.join(0).await.pins;
        mesh.until_ready(0).await;
        let written = mesh.central_objects("JoinToken").await;
        let pid = mesh.hub().pid().expect("it runs");
        let before = resident(pid);
        let answers = Arc::new(Answers::default());
        let joiner = Joiner::new("a stranger's cluster");
        let flood = stream::iter(0..STRANGERS).for_each_concurrent(AT_ONCE, |number| {
            let (mesh, pins, joiner, answers) = (&mesh, &pins, &joiner, &answers);
            async move { knock(mesh, pins, joiner, number, answers).await }
        });
        let log = mesh.remote(0).record("istio-pilot").await;
        let mut slowest = std::time::Duration::ZERO;
        let mut changes = 0_usize;
        let started = Instant::now();
        let work = async {
            loop {
                changes += 1;
                mesh.delete_pod(&format!("pilot-{}", changes - 1)).await;
                let address = format!("10.1.{}.{}", changes / 200, changes % 200 + 1);
                let begun = Instant::now();
                mesh.pod(&format!("pilot-{changes}"), "istio=pilot", &address)
                    .ready()
                    .await;
                log.until(&[&address]).await;
                slowest = slowest.max(begun.elapsed());
            }
        };
        tokio::select! {
            () = flood => {}
            () = work => unreachable!("it goes on"),
        }
        let grown = resident(pid).saturating_sub(before);
        println!(
            "{answers:?} in {:?}; {changes} changes, the slowest {slowest:?}; memory grew by {grown} bytes",
            started.elapsed()
        );
        let (refused, limited) = (
            answers.refused.load(Ordering::Relaxed),
            answers.limited.load(Ordering::Relaxed),
        );
        assert!(
            refused + limited >= usize::from(STRANGERS) * TRIES * 9 / 10,
            "{answers:?}"
        );
        assert!(limited > refused, "whoever goes on is told to stop: {answers:?}");
        assert!(grown < GROWTH, "memory grew by {grown} bytes");
        assert!(changes > 3, "the others worked meanwhile: {changes}");
        assert!(mesh.sessions_ended_otherwise().await.abs() < 0.5, "{}", mesh.hub_log());
        assert_eq!(mesh.central_objects("JoinToken").await, written, "nothing was written");
        // Who has a good token is let in, from where nobody knocked in vain.
        let invitation = mesh.invite_as("flood-9", &[]).await;
        let answer = Joiner::new("cluster")
            .join(mesh.enrolment_address(), &pins, &invitation.token)
            .await;
        answer.expect("joined");
    });
}
