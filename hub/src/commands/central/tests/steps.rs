//! Commands of several steps: what is written, and what is not.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use remote_istio::enrolment::{Token, certificate_pem};
use remote_istio::identity::RemoteName;

use super::*;
use crate::args::{TokenOutput, TokenRequest};
use crate::authority::LinkCa;
use crate::commands::test_objects::{token, trusting};
use crate::commands::{ca, identity as identities, token as tokens};
use crate::crd::{Approval, TokenState};

fn remote(name: &str) -> RemoteName {
    RemoteName::new(name).expect("a DNS label")
}

/// Methods and the last two parts of the paths.
fn steps(asked: &Asked) -> Vec<String> {
    let asked = asked.lock();
    let step = |(method, path, _): &(Method, String, Value)| {
        let mut parts = path.rsplit('/');
        let (object, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{method} {kind}/{object}")
    };
    asked.iter().map(step).collect()
}

/// A CA before its rollover, begun, switched, and switched once more after that.
fn stages() -> [LinkCa; 4] {
    let now = SystemTime::from(at(0));
    let stable = LinkCa::create("mesh.test", now).expect("a CA");
    let begun = stable.begin(now).expect("begun");
    let switched = begun.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    let again = dropped
        .begin(now)
        .expect("begun again")
        .switch()
        .expect("switched again");
    [stable, begun, switched, again]
}

/// The Secret of a CA, in which somebody keeps something else too.
fn secret(ca: &LinkCa) -> (u16, Value) {
    let mut secret = Secret::default();
    secret.metadata.name = Some("link-ca".to_owned());
    secret.metadata.resource_version = Some("7".to_owned());
    let entries = ca
        .to_secret()
        .into_iter()
        .chain([("note".to_owned(), b"of somebody".to_vec())]);
    let data: BTreeMap<_, _> = entries.map(|(entry, value)| (entry, ByteString(value))).collect();
    secret.data = Some(data);
    answered(secret)
}

fn entries(body: &Value) -> Vec<&str> {
    body["data"]
        .as_object()
        .expect("entries")
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn drop_revokes_whom_it_forgets_and_then_leaves_the_new_root_alone() {
    let [old, _, switched, _] = stages();
    let behind = answered(trusting("remote-1", 1, &old));
    let upright = answered(trusting("remote-2", 2, &switched));
    let (central, asked) = script([
        secret(&switched),
        listed([behind, upright]),
        stands("1", false),
        stands("2", false),
        secret(&switched),
        secret(&switched),
    ]);
    let text = ca::drop_old(&central, "link-ca", &[remote("remote-1")]).await;
    assert!(text.expect("dropped").contains("remote-1 is revoked"));
    assert_eq!(
        steps(&asked),
        [
            "GET secrets/link-ca",
            "GET mesh/remoteidentities",
            "GET remoteidentities/remote-1",
            "PUT remoteidentities/remote-1",
            "GET secrets/link-ca",
            "PUT secrets/link-ca",
        ]
    );
    let asked = asked.lock();
    assert!(asked[3].2["spec"]["revoked"]["at"].is_string());
    assert_eq!(entries(&asked[5].2), ["ca.crt", "epoch", "note", "tls.crt", "tls.key"]);
    assert_eq!(asked[5].2["data"]["ca.crt"], asked[5].2["data"]["tls.crt"]);
}

#[tokio::test]
async fn switch_leaves_nothing_of_the_next_root_but_what_signs() {
    let [_, begun, ..] = stages();
    let waiting = listed([answered(identity("remote-1"))]);
    let (central, asked) = script([secret(&begun), secret(&begun), waiting]);
    let text = ca::switch(&central, "link-ca").await.expect("switched");
    assert!(text.ends_with("needs the old CA still: remote-1\n"), "{text}");
    let expected = ["ca.crt", "cross.crt", "epoch", "note", "tls.crt", "tls.key"];
    assert_eq!(entries(&asked.lock()[1].2), expected);
}

#[tokio::test]
async fn drop_writes_nothing_while_a_remote_is_in_the_way() {
    let [old, _, switched, _] = stages();
    let behind = answered(trusting("remote-1", 1, &old));
    let (central, asked) = script([secret(&switched), listed([behind])]);
    let error = ca::drop_old(&central, "link-ca", &[]).await.expect_err("in the way");
    assert!(error.to_string().starts_with("the old CA is still needed by remote-1"));
    assert_eq!(asked.lock().len(), 2);
}

#[tokio::test]
async fn drop_at_the_wrong_stage_revokes_nobody() {
    let [stable, begun, ..] = stages();
    for ca in [stable, begun] {
        let (central, asked) = script([secret(&ca)]);
        let forget = [remote("remote-1")];
        let dropped = ca::drop_old(&central, "link-ca", &forget).await;
        assert!(dropped.is_err(), "too early");
        assert_eq!(asked.lock().len(), 1);
    }
}

#[tokio::test]
async fn drop_of_a_ca_that_was_changed_meanwhile_is_not_written() {
    let [_, _, switched, again] = stages();
    let (central, asked) = script([secret(&switched), listed([]), secret(&again)]);
    let error = ca::drop_old(&central, "link-ca", &[]).await.expect_err("changed");
    assert!(
        error.to_string().starts_with("the CA was changed by somebody else"),
        "{error}"
    );
    assert_eq!(asked.lock().len(), 3);
}

#[tokio::test]
async fn name_that_nothing_is_known_of_is_not_revoked_by_a_slip() {
    let (central, asked) = script([listed([]), refused(404, "NotFound"), listed([])]);
    let error = identities::revoke(&central, &remote("remote-1"), "", false).await;
    let error = error.expect_err("a slip").to_string();
    assert!(error.starts_with("nothing is known by the name remote-1"), "{error}");
    assert_eq!(asked.lock().len(), 3);
}

#[tokio::test]
async fn released_name_is_written_as_released() {
    let (central, asked) = script([stands("1", false), stands("2", true)]);
    let text = identities::release(&central, &remote("remote-1")).await;
    assert!(text.expect("released").starts_with("remote-1 is released"));
    assert_eq!(asked.lock()[1].2["spec"]["released"], true);
}

#[tokio::test]
async fn central_keeps_the_hash_of_a_token_and_nothing_else_of_it() {
    let pin = format!("sha256:{}", "0".repeat(64));
    let link = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": LINK_CONFIG_MAP},
        "data": {
            "pin": pin, "ca.crt": certificate_pem(b"a root"), "hubs": "hub.test:8444", "enrolments": "hub.test:8443",
            "trust-domain": "mesh.test",
        },
    });
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
        "status": {"userInfo": {"username": "ann"}},
    });
    let made = answered(token("aaaaaaaa", "remote-1", TokenState::Unused));
    let (central, asked) = script([(200, link), listed([]), refused(404, "NotFound"), (201, review), made]);
    let request = TokenRequest {
        remote: remote("remote-1"),
        lifetime: Duration::from_hours(1),
        approval: Approval::Manual,
        cluster_uid: Some("uid".to_owned()),
        chart: "agent".to_owned(),
        output: TokenOutput::Token,
    };
    let shown = tokens::create(&central, &request).await.expect("made");
    let token: Token = shown.parse().expect("a token");
    let asked = asked.lock();
    let (method, _, body) = &asked[4];
    assert_eq!(method, Method::POST);
    assert_eq!(body["metadata"]["name"], token.id());
    let expected = json!({
        "remote": "remote-1", "secretHash": token.secret_hash(), "expiresAt": at(3600).to_string(),
        "approval": "Manual", "clusterUid": "uid", "createdBy": "ann",
    });
    assert_eq!(body["spec"], expected);
}
