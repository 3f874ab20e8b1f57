//! The remote's intermediate CA of the mesh, judged by OpenSSL, which neither end is built on.

use std::collections::BTreeMap;

use remote_istio::wire::v1;
use remote_istio::wire::v1::mesh_ca_client::MeshCaClient;
use serde_json::json;
use support::ca::Leaf;
use support::eventually::{eventually, seen};
use support::mesh_ca::{self, MeshCa};
use support::peer::hello;
use support::relay::Relay;
use support::secrets::Secrets;
use tonic::Code;

use crate::mesh::{CITADEL, Etcd, Mesh, Remote, Setup, run};

/// The Secret on central that wins, and that of the remote.
const CACERTS: &str = "cacerts";

/// A workload of the remote.
const WORKLOAD: &str = "spiffe://cluster.local/ns/default/sa/default";

/// What Citadel reads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    certificate: String,
    key: String,
    chain: String,
    roots: String,
}

impl Kept {
    fn of(data: &BTreeMap<String, String>) -> Option<Self> {
        let value = |key: &str| data.get(key).filter(|text| !text.is_empty()).cloned();
        Some(Self {
            certificate: value("ca-cert.pem")?,
            key: value("ca-key.pem")?,
            chain: value("cert-chain.pem")?,
            roots: value("root-cert.pem")?,
        })
    }

    /// A workload's certificate as Citadel would sign it now.
    fn sign(&self) -> String {
        mesh_ca::sign_workload(&self.certificate, &self.key, WORKLOAD).expect("a leaf")
    }
}

/// Waits until the remote's Secret is whole and as wanted.
async fn until_kept(mesh: &Mesh<'_>, what: &str, wanted: impl Fn(&Kept) -> bool) -> Kept {
    eventually(what, || async {
        let data = mesh.remote(0).secret(CACERTS).await.unwrap_or_default();
        match Kept::of(&data) {
            Some(kept) if wanted(&kept) => Ok(kept),
            other => Err(format!(
                "{:?} with the agent's log\n{}\nand the hub's log\n{}",
                other.map(|kept| (kept.certificate, kept.roots)),
                mesh.agent_log(0),
                mesh.hub_log()
            )),
        }
    })
    .await
}

/// The hash of the Secret on Citadel's pods.
async fn hash(remote: &Remote) -> String {
    let deployment = remote.until_object("Deployment", CITADEL, |_| true).await;
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    annotations["istio.banzaicloud.io/cacerts-hash"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn certificates(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

// Turns red when: the chain is sent empty (D25), the intermediate is not bound to the remote, roots are not held
// together, or a change of central's CA is not noticed.
#[test]
fn leaf_of_the_remote_verifies_before_during_and_after_a_change_of_centrals_ca() {
    run(async {
        let name = "trust";
        let mesh = Mesh::started(name, Setup::components()).await;
        let remote = mesh.remote(0);
        let first = MeshCa::plugged_in("first", Some(1)).expect("a CA");
        mesh.put_mesh_ca(CACERTS, &first).await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;

        let before = until_kept(&mesh, "an intermediate is kept", |_| true).await;
        assert!(mesh_ca::fits(&before.certificate, &before.key).expect("both read"));
        assert_eq!(
            certificates(&before.chain),
            2,
            "intermediate and its issuer, without the root"
        );
        assert_eq!(before.roots.trim(), first.root.trim());
        assert!(before.key.contains("BEGIN RSA PRIVATE KEY"), "what Citadel 1.0 reads");
        let text = mesh_ca::text(&before.certificate).expect("a certificate");
        for part in ["CA:TRUE, pathlen:0", "Certificate Sign", &mesh.remote_name(0)] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("Name Constraints"), "{text}");
        let old_leaf = before.sign();
        mesh_ca::verify(&old_leaf, &before.chain, &first.root).expect("it verifies against central's root");
        let old_hash = hash(remote).await;
        assert_ne!(old_hash, "", "Citadel reads its Secret only at its start");
        mesh.until_condition_says(0, "MeshTrust", "True", "").await;

        let second = MeshCa::plugged_in("second", None).expect("a CA");
        mesh.put_mesh_ca(CACERTS, &second).await;
        let during = until_kept(&mesh, "it is signed anew, with both roots", |kept| {
            // At every moment, what stands there fits together.
            let leaf = kept.sign();
            mesh_ca::verify(&leaf, &kept.chain, &kept.roots).expect("it verifies against what stands beside it");
            kept.certificate != before.certificate && certificates(&kept.roots) == 2
        })
        .await;
        assert_ne!(during.key, before.key, "a new key at each signing");
        assert!(mesh_ca::fits(&during.certificate, &during.key).expect("both read"));
        mesh_ca::verify(&old_leaf, &before.chain, &during.roots).expect("old leaves count during the change");
        mesh_ca::verify(&during.sign(), &during.chain, &second.root).expect("new ones verify against the new root");
        mesh_ca::verify(&during.sign(), &during.chain, &first.root).expect_err("and against no other");
        eventually("Citadel is started anew with it", || async {
            let now = hash(remote).await;
            seen(now != old_hash && !now.is_empty(), now)
        })
        .await;

        let shown = mesh.command(&["mesh-ca", "show"]).await;
        let fingerprint = fingerprint_of(&first.root);
        assert!(
            shown.replace(':', "").to_lowercase().contains(&fingerprint[..16]),
            "{shown}"
        );
        mesh.command(&["mesh-ca", "forget-root", &fingerprint]).await;
        let after = until_kept(&mesh, "the old root is gone", |kept| certificates(&kept.roots) == 1).await;
        assert_eq!(after.roots.trim(), second.root.trim());
        assert_eq!(after.certificate, during.certificate, "a change of roots signs nothing");
        mesh_ca::verify(&after.sign(), &after.chain, &after.roots).expect("it verifies");
        mesh_ca::verify(&old_leaf, &before.chain, &after.roots).expect_err("the old CA is over");
    });
}

/// SHA-256 of a certificate, hex.
fn fingerprint_of(pem: &str) -> String {
    let pair = support::ca::Pair {
        certificate: pem.to_owned(),
        key: String::new(),
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pair.der().expect("a certificate"));
    remote_istio::enrolment::hex(digest.as_ref())
}

// Turns red when: istio-ca-secret is not read, or its certificate is not taken as the root.
#[test]
fn self_signed_ca_of_citadel_on_central_signs_too() {
    run(async {
        let mesh = Mesh::started("trust-self-signed", Setup::components()).await;
        let central = MeshCa::self_signed("cluster.local").expect("a CA");
        mesh.put_mesh_ca("istio-ca-secret", &central).await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let kept = until_kept(&mesh, "an intermediate is kept", |_| true).await;
        assert_eq!(kept.roots.trim(), central.root.trim());
        mesh_ca::verify(&kept.sign(), &kept.chain, &central.root).expect("it verifies");
        // D24: what is kept is the remote's own.
        assert_ne!(kept.key.trim(), central.key.trim());
        // A person breaks it: drift of ours is repaired.
        let remote = mesh.remote(0);
        remote
            .merge("Secret", CACERTS, &json!({"data": {"ca-key.pem": "bm9uZQ=="}}))
            .await;
        let repaired = until_kept(&mesh, "it fits again", |kept| {
            mesh_ca::fits(&kept.certificate, &kept.key).unwrap_or(false)
        })
        .await;
        mesh_ca::verify(&repaired.sign(), &repaired.chain, &central.root).expect("it verifies");
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        eventually("the Secret that we made is gone", || async {
            let left = remote
                .secret(CACERTS)
                .await
                .map(|data| data.into_keys().collect::<Vec<_>>());
            seen(left.is_none(), left)
        })
        .await;
    });
}

// Turns red when: a Secret without our labels is written or deleted.
#[test]
fn cacerts_of_the_user_are_used_as_they_are_and_never_touched() {
    run(async {
        let mesh = Mesh::started("trust-own", Setup::components()).await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        let remote = mesh.remote(0);
        let own = MeshCa::plugged_in("own", Some(0)).expect("a CA");
        let data: serde_json::Map<_, _> = own
            .data()
            .into_iter()
            .map(|(key, text)| (key.to_owned(), json!(k8s_openapi::ByteString(text.into_bytes()))))
            .collect();
        remote.create("Secret", CACERTS, json!({"data": data})).await;
        let before = remote.object("Secret", CACERTS).await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let hash = hash(remote).await;
        assert_ne!(hash, "");
        remote.until_quiet().await;
        assert_eq!(
            remote.object("Secret", CACERTS).await,
            before,
            "not a byte of it was touched"
        );
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        remote.until_nothing_is_owned().await;
        assert_eq!(remote.object("Secret", CACERTS).await, before);
    });
}

// Turns red when: the constraint is not read before somebody waits for a certificate that never verifies.
#[test]
fn ca_that_may_not_sign_cas_is_a_condition_with_its_remedy() {
    run(async {
        let name = "trust-path-length";
        let setup = Setup::components();
        let mesh = Mesh::started(name, setup).await;
        mesh.put_mesh_ca(CACERTS, &MeshCa::plugged_in("short", Some(0)).expect("a CA"))
            .await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let condition = mesh
            .until_condition_says(0, "MeshTrust", "False", "--mesh-ca-secret")
            .await;
        assert_eq!(condition["reason"], "CaCannotSign", "{condition}");
        assert_eq!(mesh.remote(0).secret(CACERTS).await, None);
        // One that may: nobody has to touch anything else.
        mesh.put_mesh_ca(CACERTS, &MeshCa::plugged_in("long", Some(1)).expect("a CA"))
            .await;
        until_kept(&mesh, "an intermediate is kept", |_| true).await;
        mesh.until_condition_says(0, "MeshTrust", "True", "").await;
    });
}

// Turns red when: the grant is not asked for at either place: what is published, what is signed.
#[test]
fn nothing_is_signed_before_centrals_operator_has_granted_it() {
    run(async {
        let setup = Setup {
            signs_mesh: false,
            ..Setup::components()
        };
        let mesh = Mesh::started("trust-denied", setup).await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let condition = mesh
            .until_condition_says(0, "MeshTrust", "False", "--sign-mesh-ca")
            .await;
        assert_eq!(condition["reason"], "SigningNotGranted", "{condition}");
        mesh.until_condition_says(0, "Applied", "False", "cacerts").await;
        assert_eq!(mesh.remote(0).secret(CACERTS).await, None);

        // Who asks all the same is refused.
        let code = stranger_asks(&mesh).await;
        assert!(
            matches!(code, Err(Code::PermissionDenied | Code::Unimplemented)),
            "{code:?}"
        );
    });
}

/// What the hub says to a remote that asks for an intermediate over a session of its own.
async fn stranger_asks(mesh: &Mesh<'_>) -> Result<(), Code> {
    let mut agent = mesh
        .scripted_agent("stranger", hello("asks", 1))
        .await
        .expect("a session");
    agent.welcome().await.expect("welcomed");
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .expect("a request");
    let request = v1::SignRequest {
        request: request.der().to_vec(),
    };
    let answer = MeshCaClient::new(agent.link().channel.clone()).sign(request).await;
    answer.map(|_| ()).map_err(|status| status.code())
}

// Turns red when: it is granted to everybody, also to who has no Citadel.
#[test]
fn remote_without_citadel_gets_no_intermediate_even_where_it_is_granted() {
    run(async {
        let mesh = Mesh::started("trust-stranger", Setup::components()).await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio_named("stranger", &[]).await;
        let code = stranger_asks(&mesh).await;
        assert_eq!(code, Err(Code::PermissionDenied));
    });
}

// Turns red when: one of the two keys is sent, logged, or kept in a second place.
#[test]
fn neither_centrals_key_nor_the_remotes_leaves_its_cluster() {
    run(async {
        let name = "trust-secrecy";
        let clusters = Mesh::shared_clusters().await;
        let mut mesh = Box::pin(Mesh::prepare(clusters, name, 1, Setup::components())).await;
        mesh.hub_mut().command_mut().set_flag("log-level", ["trace"]);
        mesh.remote_mut(0)
            .agent_mut()
            .command_mut()
            .set_flag("log-level", ["trace"]);
        let central = MeshCa::plugged_in("central", Some(1)).expect("a CA");
        mesh.start_hub().await;
        mesh.put_mesh_ca(CACERTS, &central).await;
        let hub = mesh.authority().issue(&Leaf::hub()).expect("a certificate");
        let agent = mesh
            .authority()
            .issue(&Leaf::remote(&mesh.remote_name(0)))
            .expect("a certificate");
        let relay = Relay::start(mesh.hub_address(), mesh.authority(), &hub, Some(&agent))
            .await
            .expect("a relay");
        mesh.launch_agent_to(0, relay.address()).await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let kept = until_kept(&mesh, "an intermediate is kept", |_| true).await;
        mesh.remote(0).until_quiet().await;

        let mut secrets = Secrets::default();
        secrets.add_rsa_key("the key of central's CA", &central.key);
        secrets.add_rsa_key("the key of the remote's CA", &kept.key);
        let mut places = vec![
            ("the hub's log".to_owned(), mesh.whole_hub_log().into_bytes()),
            ("the agent's log".to_owned(), mesh.remote(0).log().into_bytes()),
        ];
        let recorded = relay.recorded();
        assert!(!recorded.is_empty(), "it went through the relay");
        places.extend(
            recorded
                .into_iter()
                .map(|(speaker, bytes)| (format!("what the {speaker:?} said"), bytes)),
        );
        let cluster = mesh.remote_cluster(0).await;
        for cluster in [mesh.central(), cluster] {
            let stored = Etcd(cluster.etcd().address())
                .under(&format!("/{}/", cluster.name()))
                .await
                .expect("etcd");
            let own = format!("/{}/secrets/{name}/{CACERTS}", cluster.name());
            assert!(stored.iter().any(|(key, _)| *key == own), "{own} is there");
            places.extend(stored.into_iter().filter(|(key, _)| *key != own));
        }
        let mut found: Vec<String> = places
            .iter()
            .flat_map(|(place, bytes)| secrets.find(place, bytes))
            .collect();
        found.sort();
        assert_eq!(found, Vec::<String>::new());
        // It would have been found.
        let (place, mut bytes) = places.swap_remove(0);
        bytes.extend_from_slice(kept.key.as_bytes());
        assert_ne!(secrets.find(&place, &bytes), Vec::<String>::new());
    });
}
