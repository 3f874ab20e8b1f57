//! How a remote gets its identity: a token, a key made in the remote, a certificate for the record's name.

use futures::future::join_all;
use remote_istio::wire::v1;
use serde_json::json;
use support::eventually::{eventually, seen};
use support::pair::HubTrust;
use support::peer::{Joiner, issued};
use tonic::{Code, Status};

use crate::mesh::{Mesh, Setup, run, write_token};
use crate::x509::Facts;

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// What everybody hears whose token is worth nothing, whatever the reason.
const REFUSED: &str = "the token is not accepted";

fn refused(answer: Result<v1::JoinResponse, Status>) -> Status {
    let status = answer.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert!(status.message().contains(REFUSED), "{status:?}");
    status
}

#[test]
fn remote_joins_by_a_token_and_is_synced() {
    run(async {
        let mut mesh = Mesh::joinable("joins", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let blank = json!({"data": {"token": ""}});
        let invitation = mesh.invite(0).await;
        mesh.give(0, &invitation);
        mesh.remote(0)
            .create(
                "Secret",
                "remote-istio-agent-token",
                json!({"stringData": {"token": invitation.token}}),
            )
            .await;
        mesh.launch_agent(0).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;

        let identity = mesh.identity("joins-0").await.expect("the name is bound");
        assert_eq!(identity["spec"]["clusterUid"], mesh.remote(0).cluster_uid().await);
        assert!(identity["spec"]["revoked"].is_null(), "{identity}");
        let token = mesh.token(&invitation).await;
        assert_eq!(token["status"]["state"], "Used");
        assert!(
            !token.to_string().contains(&invitation.token),
            "the record has the hash alone"
        );
        mesh.until_event("Joined", "RemoteIstio", "joins-0").await;
        mesh.until_condition(0, "CertificateValid", "True").await;

        // What came of it: one URI name, the record's, for a client, and nothing else.
        let kept = mesh.remote(0).kept().await;
        let facts = Facts::of(&String::from_utf8_lossy(&kept["tls.crt"]));
        assert_eq!(facts.names, ["spiffe://remote-istio.local/remote/joins-0"]);
        assert_eq!(facts.usages, ["client"]);
        assert!(!facts.is_ca);
        assert!(
            !kept.contains_key("next.key"),
            "nothing is under way: {:?}",
            kept.keys()
        );

        // The token is nowhere any more but in the hands of who made it.
        eventually("the token is blanked", || async {
            let file = std::fs::read_to_string(mesh.token_file(0)).unwrap_or_default();
            let secret = mesh.remote(0).object("Secret", "remote-istio-agent-token").await;
            let left = secret.unwrap_or(blank.clone())["data"]["token"].clone();
            let blanked = file.trim().is_empty() && left.as_str().unwrap_or_default().is_empty();
            seen(blanked, (file.len(), left.to_string().len()))
        })
        .await;
    });
}

/// F35.
#[test]
fn token_that_was_used_is_refused_for_another_key_and_said_loudly() {
    run(async {
        let mut mesh = Mesh::joinable("replayed", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        let invitation = mesh.join(0).await;
        mesh.until_ready(0).await;
        let before = mesh.identity("replayed-0").await;
        let thief = Joiner::new("another-cluster");
        let answer = thief
            .join(mesh.enrolment_address(), &invitation.pins, &invitation.token)
            .await;
        refused(answer);
        mesh.until_token(&invitation, "Dead").await;
        mesh.until_event("TokenReplayed", "RemoteIstio", "127.0.0.1").await;
        assert_eq!(mesh.identity("replayed-0").await, before, "nothing is bound anew");
        // Who joined by it works on.
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
    });
}

/// F35.
#[test]
fn tokens_that_are_worth_nothing_are_refused_alike() {
    run(async {
        let mesh = Mesh::joinable("alike", 1, Setup::made()).await;
        let hub = mesh.enrolment_address();
        let good = mesh.invite(0).await;
        let join = async |token: &str| Joiner::new("cluster").join(hub, &good.pins, token).await;

        let expiring = mesh.invite_as("alike-expired", &["--ttl", "1s"]).await;
        let revoked = mesh.invite_as("alike-revoked", &[]).await;
        mesh.command(&["token", "revoke", revoked.id()]).await;
        mesh.until_token(&revoked, "Dead").await;
        let other = mesh.invite_as("alike-other", &["--cluster-uid", "the-right-one"]).await;
        eventually("the token has expired", || async {
            let listed = mesh.command(&["token", "list", "--output", "json"]).await;
            let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
            let tokens = listed.as_array().expect("a list");
            let found = tokens.iter().find(|token| token["id"] == expiring.id());
            seen(found.is_some_and(|token| token["state"] == "Expired"), found.cloned())
        })
        .await;
        let (_, secret) = good.token.split_once('.').expect("id.secret");
        let wrong_secret = format!("{}.{}", good.id(), expiring.token.split_once('.').expect("id.secret").1);
        let unknown = format!("aaaaaaaa.{secret}");
        let mut words = Vec::new();
        for token in [&expiring.token, &revoked.token, &other.token, &wrong_secret, &unknown] {
            // Five failures a minute are let through; the sixth would hear of the limit.
            words.push(refused(join(token).await).message().to_owned());
        }
        words.dedup();
        assert_eq!(words.len(), 1, "they tell nobody which it was: {words:?}");
        // The hub's own log does.
        for reason in ["expired", "wrong_secret", "unknown_token", "other_cluster"] {
            mesh.until_hub_logs(reason).await;
        }
        assert_eq!(
            mesh.token(&good).await["status"]["state"].as_str().unwrap_or("Unused"),
            "Unused"
        );
        for name in ["alike-expired", "alike-revoked", "alike-other"] {
            assert_eq!(mesh.identity(name).await, None, "{name}");
        }
    });
}

/// F35.
#[test]
fn token_that_two_keys_bring_to_two_hubs_at_once_has_one_winner() {
    run(async {
        let mut mesh = Mesh::joinable("two-hubs", 0, Setup::made()).await;
        let (replica, _central_api) = mesh.prepare_replica(HubTrust::Made, None).await;
        mesh.replica(replica).start().expect("started");
        mesh.replica(replica).ready().await.expect("ready");
        let hubs = [mesh.enrolment_address(), mesh.replica(replica).enrolment_address()];
        for round in 0..5 {
            let name = format!("two-hubs-{round}");
            let invitation = mesh.invite_as(&name, &[]).await;
            let joiners = [Joiner::new("cluster-a"), Joiner::new("cluster-b")];
            let joins = joiners
                .iter()
                .zip(hubs)
                .map(|(joiner, hub)| joiner.join(hub, &invitation.pins, &invitation.token));
            let answers = join_all(joins).await;
            let winners = answers
                .iter()
                .filter(|answer| answer.as_ref().is_ok_and(|answer| issued(answer).is_some()));
            // The loser may have been so early that the winner finds the token dead: then there is none, never two.
            let count = winners.count();
            assert!(count <= 1, "round {round}: {answers:?}");
            let identity = mesh.identity(&name).await;
            assert_eq!(identity.is_some(), count == 1, "round {round}: {answers:?}");
            if let Some(identity) = identity {
                let winner = answers.iter().position(Result::is_ok).expect("there is one");
                let cluster = ["cluster-a", "cluster-b"][winner];
                assert_eq!(identity["spec"]["clusterUid"], cluster);
            }
            for answer in answers.into_iter().filter(Result::is_err) {
                refused(answer);
            }
        }
    });
}

/// F36.
#[test]
fn join_whose_answer_was_lost_gets_the_same_certificate_again() {
    run(async {
        let mesh = Mesh::joinable("answer-lost", 0, Setup::made()).await;
        let invitation = mesh.invite_as("answer-lost-0", &[]).await;
        let joiner = Joiner::new("cluster");
        let join = async || {
            let answer = joiner
                .join(mesh.enrolment_address(), &invitation.pins, &invitation.token)
                .await;
            issued(&answer.expect("answered")).expect("a certificate").chain.clone()
        };
        let lost = join().await;
        let bound = mesh.identity("answer-lost-0").await;
        assert!(bound.is_some());
        assert_eq!(join().await, lost, "it is the same one");
        assert_eq!(mesh.identity("answer-lost-0").await, bound, "nothing was bound anew");
        assert_eq!(mesh.token(&invitation).await["status"]["state"], "Used");
        assert_eq!(mesh.events("TokenReplayed").await, Vec::<serde_json::Value>::new());
    });
}

/// F31.
#[test]
fn hub_and_agent_killed_between_token_and_name_go_on_from_there() {
    run(async {
        let mut mesh = Mesh::joinable("between", 1, Setup::made()).await;
        let invitation = mesh.invite(0).await;
        mesh.give(0, &invitation);
        // The token can be written and the name cannot: whoever dies now dies in between.
        mesh.forbid_hub_to("create", "remoteidentities").await;
        mesh.launch_agent(0).await;
        let used = mesh.until_token(&invitation, "Used").await;
        mesh.kill_hub().await;
        mesh.remote_mut(0).kill_agent().await;
        assert_eq!(mesh.identity("between-0").await, None);
        assert!(!mesh.remote(0).kept().await.contains_key("tls.crt"));

        mesh.permit_hub().await;
        mesh.start_hub().await;
        mesh.launch_agent(0).await;
        let certificate = mesh.remote(0).until_certificate().await;
        let answered = used["status"]["certificate"].as_str().expect("kept for this").trim();
        assert!(
            certificate.starts_with(answered),
            "it is the one that was signed before"
        );
        mesh.until_sessions(1).await;
        assert_eq!(mesh.central_objects("RemoteIdentity").await.len(), 1);
        assert_eq!(mesh.events("TokenReplayed").await, Vec::<serde_json::Value>::new());
    });
}

/// F34.
#[test]
fn name_of_another_cluster_is_refused_until_it_is_released() {
    run(async {
        let mut mesh = Mesh::joinable("taken", 2, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.until_ready(0).await;
        let invitation = mesh.invite_as("taken-0", &[]).await;
        mesh.give(1, &invitation);
        mesh.launch_agent(1).await;
        mesh.until_agent_logs(1, "remote-istio-hub release taken-0").await;
        mesh.until_ready(0).await;
        let token = mesh.token(&invitation).await;
        assert_eq!(
            token["status"]["state"].as_str().unwrap_or("Unused"),
            "Unused",
            "it is not used up"
        );

        mesh.command(&["release", "taken-0"]).await;
        mesh.remote(1).until_certificate().await;
        let identity = mesh.identity("taken-0").await.expect("bound");
        assert_eq!(identity["spec"]["clusterUid"], mesh.remote(1).cluster_uid().await);
        assert!(
            identity["spec"]["released"].is_null() || identity["spec"]["released"] == false,
            "{identity}"
        );
        // The certificate of the one before counts no longer.
        mesh.until_agent_logs(0, "certificate revoked").await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(1).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        assert_eq!(mesh.remote(0).addresses("istio-pilot").await.len(), 0, "it is cut off");
    });
}

#[test]
fn join_that_a_person_must_approve_waits_and_goes_on() {
    run(async {
        let mut mesh = Mesh::joinable("approved", 2, Setup::made()).await;
        mesh.enable(PILOT).await;
        for index in 0..2 {
            let name = mesh.remote_name(index);
            let invitation = mesh.invite_as(&name, &["--approval", "manual"]).await;
            mesh.give(index, &invitation);
            mesh.launch_agent(index).await;
            mesh.until_token(&invitation, "Pending").await;
            mesh.until_agent_logs(index, &format!("join approve {name}")).await;
        }
        assert_eq!(mesh.central_objects("RemoteIdentity").await.len(), 0);
        let listed = mesh.command(&["join", "list"]).await;
        for index in 0..2 {
            assert!(listed.contains(&mesh.remote_name(index)), "{listed}");
            assert!(listed.contains(&mesh.remote(index).cluster_uid().await), "{listed}");
        }
        mesh.until_event("JoinPending", "RemoteIstio", "approved-0").await;
        mesh.command(&["join", "approve", "approved-0"]).await;
        mesh.remote(0).until_certificate().await;
        mesh.until_sessions(1).await;
        mesh.command(&["join", "deny", "approved-1"]).await;
        mesh.until_agent_logs(1, "denied").await;
        assert_eq!(mesh.identity("approved-1").await, None);
        let nothing = mesh.refused_command(&["join", "approve", "approved-1"]).await;
        assert!(nothing.contains("join list"), "{nothing}");
    });
}

/// F37.
#[test]
fn wrong_pin_and_wrong_host_send_no_token() {
    run(async {
        let mut mesh = Mesh::joinable("pins", 1, Setup::made()).await;
        let invitation = mesh.invite(0).await;
        let mut wrong = invitation.clone();
        wrong.pins = vec![format!("sha256:{}", "ab".repeat(32))];
        mesh.give(0, &wrong);
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, &wrong.pins[0]).await;
        mesh.until_agent_logs(0, &invitation.pins[0]).await;
        mesh.remote_mut(0).kill_agent().await;

        // Its certificate says 127.0.0.1.
        let mut elsewhere = invitation.clone();
        let address = mesh.ways().enrolment.address();
        elsewhere.enrolments = vec![format!("localhost:{}", address.port())];
        mesh.give(0, &elsewhere);
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, "localhost").await;
        mesh.until_agent_logs(0, "name").await;
        mesh.remote_mut(0).kill_agent().await;
        let token = mesh.token(&invitation).await;
        assert_eq!(token["status"]["state"].as_str().unwrap_or("Unused"), "Unused");
        assert!(
            mesh.hub_metric("joins_total", &[]).await.abs() < 0.5,
            "no request was sent"
        );

        mesh.give(0, &invitation);
        mesh.start_agent(0).await;
    });
}

#[test]
fn token_file_that_is_missing_empty_or_damaged_is_waited_for_and_one_with_a_newline_works() {
    run(async {
        let mut mesh = Mesh::joinable("files", 1, Setup::made()).await;
        let invitation = mesh.invite(0).await;
        mesh.give_without_token(0, &invitation);
        let file = mesh.token_file(0);
        mesh.launch_agent(0).await;
        let shown = file.display().to_string();
        mesh.until_agent_logs(0, &shown).await;
        write_token(&file, "");
        mesh.until_agent_logs(0, "it is empty").await;
        write_token(&file, "a long word that is no token");
        mesh.until_agent_logs(0, "it holds no token").await;
        assert!(!mesh.remote(0).log().contains("a long word"), "nothing of it is logged");
        write_token(&file, &format!("{}\n", invitation.token));
        mesh.remote(0).until_certificate().await;
        mesh.until_sessions(1).await;
    });
}

#[test]
fn token_file_that_everybody_can_read_is_warned_of_and_used() {
    run(async {
        use std::os::unix::fs::PermissionsExt as _;
        let mut mesh = Mesh::joinable("readable", 1, Setup::made()).await;
        let invitation = mesh.invite(0).await;
        mesh.give(0, &invitation);
        let permissions = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(mesh.token_file(0), permissions).expect("changed");
        mesh.start_agent(0).await;
        let log = mesh.remote(0).log();
        let warned = log.lines().any(|line| line.contains("WARN") && line.contains(".token"));
        assert!(warned, "{log}");
    });
}

#[test]
fn token_that_was_used_lies_about_and_troubles_nobody() {
    run(async {
        let mut mesh = Mesh::joinable("lies-about", 1, Setup::made()).await;
        let invitation = mesh.join(0).await;
        let certificate = mesh.remote(0).until_certificate().await;
        // As a Secret that is mounted anew would bring it back.
        mesh.remote_mut(0).kill_agent().await;
        mesh.give(0, &invitation);
        mesh.start_agent(0).await;
        mesh.until_sessions(1).await;
        assert_eq!(mesh.remote(0).until_certificate().await, certificate);
        assert_eq!(mesh.token(&invitation).await["status"]["state"], "Used");
        assert_eq!(mesh.events("TokenReplayed").await, Vec::<serde_json::Value>::new());
    });
}
