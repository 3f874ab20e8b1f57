//! No private key leaves the place where it was made, and a token is seen only by who must see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prost::Message as _;
use support::ca::{Leaf, Pair};
use support::eventually::{eventually, seen};
use support::peer::Joiner;
use support::relay::{Relay, Speaker};
use support::secrets::Secrets;

use crate::mesh::{CA_SECRET, Etcd, IDENTITY_SECRET, Mesh, Setup, run};
use crate::x509::Facts;

const NAME: &str = "secrecy";

/// The port where remotes join and recover.
const ENROLMENT: &str = "enrolment";

/// The port of sessions, where certificates are renewed.
const SYNC: &str = "sync";

/// The two men in the middle: on the way to the enrolment port and on that to the sync port.
struct Relays {
    enrolment: Relay,
    sync: Relay,
}

impl Relays {
    async fn between(mesh: &mut Mesh<'_>) -> Self {
        let authority = mesh.authority();
        let hub = authority.issue(&Leaf::hub()).expect("a certificate");
        let agent = Leaf::remote(&mesh.remote_name(0)).from(SystemTime::now());
        let agent = authority.issue(&agent).expect("a certificate");
        let enrolment = Relay::start(mesh.enrolment_address(), authority, &hub, None).await;
        let sync = Relay::start(mesh.hub_address(), authority, &hub, Some(&agent)).await;
        let relays = Self {
            enrolment: enrolment.expect("a relay"),
            sync: sync.expect("a relay"),
        };
        let (sync, enrolment) = (relays.sync.address(), relays.enrolment.address());
        mesh.hub_mut().publish(&[sync], &[enrolment]);
        relays
    }

    /// All that was said.
    fn recorded(&self) -> Vec<Part> {
        let of = |relay: &Relay, port: &'static str| {
            let parts = relay.recorded().into_iter();
            parts
                .map(|(speaker, bytes)| Part { port, speaker, bytes })
                .collect::<Vec<_>>()
        };
        [of(&self.enrolment, ENROLMENT), of(&self.sync, SYNC)].concat()
    }
}

/// What one end said on one connection.
#[derive(Clone)]
struct Part {
    port: &'static str,
    speaker: Speaker,
    bytes: Vec<u8>,
}

impl Part {
    fn place(&self) -> String {
        format!("what the {:?} said on the {} port", self.speaker, self.port)
    }
}

/// What lived through it all leaves behind.
struct Traces {
    token: String,
    /// On which port, and what certificate.
    certificates: Vec<(&'static str, String)>,
    /// The answer of a recovery, which no relay gets.
    recovery: Vec<u8>,
}

fn occurrences(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

/// A join, a renewal and a recovery by a real agent, all of it through relays that read everything.
async fn live(mesh: &mut Mesh<'_>, relays: &Relays) -> Traces {
    let invitation = mesh.invite(0).await;
    mesh.give(0, &invitation);
    mesh.launch_agent(0).await;
    let joined = mesh.remote(0).until_certificate().await;
    mesh.until_sessions(1).await;
    let renewed = mesh.remote(0).until_another_certificate(&joined).await;
    mesh.remote_mut(0).kill_agent().await;
    let ended = mesh.remote(0).until_certificate().await;
    assert!(ended == renewed || Facts::of(&ended).not_after >= Facts::of(&renewed).not_after);
    let end = Facts::of(&ended).not_after;
    eventually("the certificate has ended", || {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        std::future::ready(seen(left.is_zero(), left))
    })
    .await;
    let before = relays.enrolment.recorded().len();
    mesh.launch_agent(0).await;
    // The proof is for the connection with the relay, and worth nothing on that of the relay with the hub.
    mesh.until_hub_metric("recoveries_total", &["wrong_proof"], |count| count >= 1.0)
        .await;
    assert!(relays.enrolment.recorded().len() > before, "it went through the relay");
    assert_eq!(mesh.remote(0).until_certificate().await, ended, "the relay got nothing");
    let kept = mesh.remote(0).kept().await;
    let old = Pair {
        certificate: ended.clone(),
        key: String::from_utf8_lossy(&kept["tls.key"]).into_owned(),
    };
    let uid = mesh.remote(0).cluster_uid().await;
    let answer = Joiner::new(&uid)
        .recover(mesh.enrolment_address(), &invitation.pins, &old)
        .await
        .expect("without the relay it works");
    mesh.remote_mut(0).kill_agent().await;
    let direct = mesh.enrolment_address();
    mesh.enrol_at(0, direct).await;
    mesh.launch_agent(0).await;
    mesh.remote(0).until_another_certificate(&ended).await;
    mesh.until_sessions(1).await;
    Traces {
        token: invitation.token,
        certificates: vec![(ENROLMENT, joined), (SYNC, renewed), (ENROLMENT, ended)],
        recovery: answer.encode_to_vec(),
    }
}

#[test]
fn no_key_is_on_the_wire_in_a_log_or_at_central_and_a_token_is_on_the_wire_once() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub(NAME, 1, Setup::brought().living("8s")).await;
        mesh.hub_mut().command_mut().set_flag("log-level", ["trace"]);
        mesh.remote_mut(0)
            .agent_mut()
            .command_mut()
            .set_flag("log-level", ["trace"]);
        let relays = Relays::between(&mut mesh).await;
        mesh.start_hub().await;
        let keys = Arc::new(Mutex::new(BTreeSet::new()));
        let watcher = mesh.remote(0).watch_kept({
            let keys = Arc::clone(&keys);
            move |entry, value| {
                if ["tls.key", "next.key"].contains(&entry) {
                    keys.lock().insert(value);
                }
            }
        });
        let traces = live(&mut mesh, &relays).await;
        drop(watcher);

        let mut secrets = Secrets::default();
        let keys = keys.lock().clone();
        assert!(
            keys.len() >= 3,
            "join, renewal and recovery each made one: {}",
            keys.len()
        );
        for (number, key) in keys.iter().enumerate() {
            secrets.add_key(&format!("key {number} of the agent"), key);
        }
        secrets.add_key("the key of the CA", &mesh.authority().key());
        let mut anywhere = Secrets::default();
        anywhere.add_key_start("a private key");

        let parts = relays.recorded();
        // It is all there: the certificates that were joined for, renewed, and shown to recover.
        for (port, certificate) in &traces.certificates {
            let pair = Pair {
                certificate: certificate.clone(),
                key: String::new(),
            };
            let der = pair.der().expect("a certificate");
            let on_port = parts.iter().filter(|part| part.port == *port);
            let count: usize = on_port.map(|part| occurrences(&part.bytes, &der)).sum();
            assert!(count > 0, "the {port} port was not recorded");
        }
        let mut places: Vec<(String, Vec<u8>)> = parts.iter().map(|part| (part.place(), part.bytes.clone())).collect();
        places.push(("the answer of a recovery".to_owned(), traces.recovery));
        let logs = [
            ("the hub's log".to_owned(), mesh.whole_hub_log().into_bytes()),
            ("the agent's log".to_owned(), mesh.remote(0).log().into_bytes()),
        ];
        let mut found = Vec::new();
        for (place, bytes) in places.iter().chain(&logs) {
            found.extend(secrets.find(place, bytes));
            found.extend(anywhere.find(place, bytes));
        }
        // A token is sent to redeem it, and is nowhere else.
        let carries = |part: &&Part| occurrences(&part.bytes, traces.token.as_bytes()) > 0;
        let bearers: Vec<_> = parts
            .iter()
            .filter(carries)
            .map(|part| (part.port, part.speaker))
            .collect();
        assert!(!bearers.is_empty());
        assert!(
            bearers.iter().all(|bearer| *bearer == (ENROLMENT, Speaker::Agent)),
            "{bearers:?}"
        );
        secrets.add_token("the token", &traces.token);
        for (place, bytes) in &logs {
            found.extend(secrets.find(place, bytes));
        }
        for (cluster, own) in [
            (mesh.central(), CA_SECRET),
            (mesh.remote_cluster(0).await, IDENTITY_SECRET),
        ] {
            let etcd = Etcd(cluster.etcd().address());
            let stored = etcd.under(&format!("/{}/", cluster.name())).await.expect("etcd");
            assert!(stored.len() > 20, "{} objects", stored.len());
            for (key, value) in stored {
                if key != format!("/{}/secrets/{NAME}/{own}", cluster.name()) {
                    found.extend(secrets.find(&key, &value));
                }
            }
        }
        found.sort();
        assert_eq!(found, Vec::<String>::new());

        // It would have been found: in what the relay read, and in what was logged.
        let planted = keys.iter().next().expect("a key");
        let (place, mut bytes) = places.swap_remove(0);
        bytes.extend_from_slice(planted.as_bytes());
        assert_ne!(secrets.find(&place, &bytes), Vec::<String>::new());
        assert_ne!(anywhere.find(&place, &bytes), Vec::<String>::new());
    });
}
