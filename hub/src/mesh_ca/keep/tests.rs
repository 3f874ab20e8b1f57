use std::convert::Infallible;

use k8s_openapi::ByteString;
use kube::client::Body as ClientBody;
use remote_istio::tls::{Admission, LeafFacts, NotAdmitted, Peer};

use super::super::choice::{PLUGGED_IN, SELF_SIGNED};
use super::super::test_authorities::{Ca, DAY, root, self_signed};
use super::super::{Deps, MeshCaMetrics, Settings};
use super::*;
use crate::events::tests::kept;
use crate::index::{self, Index};
use crate::state::State;

/// Asked by nobody here.
#[derive(Debug)]
struct Door;

impl Admission for Door {
    fn admit(&self, _: &LeafFacts) -> Result<(), NotAdmitted> {
        Ok(())
    }

    fn opened(&self, _: &Arc<Peer>) {}
}

fn mesh_ca() -> Arc<MeshCa> {
    let index = Index::new(index::Settings {
        namespace: "mesh".to_owned(),
        service_namespaces: ["mesh".to_owned()].into(),
    });
    let settings = Settings {
        namespace: "mesh".to_owned(),
        secret: None,
        lifetime: DAY,
        trust_domain: "central.test".to_owned(),
        is_granted: true,
    };
    let deps = Deps {
        admission: Arc::new(Door),
        records: None,
        link_trust: None,
        state: State::new(index.awaiting_mesh_trust()),
        events: kept(),
        metrics: MeshCaMetrics::default(),
    };
    MeshCa::new(settings, deps)
}

/// Of an API server that never answers: nothing is to be written.
fn keeper(ca: &MeshCa) -> Keeper<'_> {
    let silent = tower::service_fn(|_: http::Request<ClientBody>| {
        std::future::pending::<Result<http::Response<ClientBody>, Infallible>>()
    });
    let client = kube::Client::new(silent, "mesh");
    Keeper::new(
        ca,
        Api::namespaced(client, "mesh"),
        &[PLUGGED_IN, SELF_SIGNED].map(str::to_owned),
    )
}

fn secret(name: &str, ca: &Ca) -> Sight {
    let entries = self_signed(ca).into_iter();
    let data = entries.map(|(entry, value)| (entry, ByteString(value.to_vec())));
    let secret = Secret {
        data: Some(data.collect()),
        ..Secret::default()
    };
    Sight::Secret(name.to_owned(), Some(Box::new(secret)))
}

async fn told(keeper: &mut Keeper<'_>, sights: Vec<Sight>) -> MeshCaState {
    for sight in sights {
        keeper.take(sight);
    }
    keeper.settle(now()).await.expect("nothing is written");
    keeper.ca.told.lock().state.clone()
}

#[tokio::test]
async fn hub_without_its_role_says_what_to_apply_and_goes_on_once_the_roots_can_be_read() {
    let (ca, plugged_in) = (mesh_ca(), root("plugged in"));
    let mut keeper = keeper(&ca);
    let forbidden = [PLUGGED_IN, SELF_SIGNED, MESH_TRUST_CONFIG_MAP].map(|name| Sight::Forbidden(name.to_owned()));
    let may_not = |what: &str| format!("{what} may not be read by the hub: apply deploy/roles/hub-mesh-ca.yaml");
    assert_eq!(
        told(&mut keeper, forbidden.into()).await,
        MeshCaState::Unreadable(may_not("ConfigMap mesh/remote-istio-mesh-trust"))
    );
    let roots = MeshRoots::default().with(
        signer(&plugged_in).pin,
        &signer(&plugged_in).roots,
        Timestamp::UNIX_EPOCH,
    );
    let map = || Sight::Roots(Some(Box::new(body(None, "mesh", &roots))));
    assert_eq!(
        told(&mut keeper, vec![map()]).await,
        MeshCaState::Missing(may_not("Secret mesh/cacerts"))
    );
    assert_eq!(ca.told.lock().trust, roots.trust(), "remotes keep whom they trust");
    let found = told(&mut keeper, vec![secret(PLUGGED_IN, &plugged_in)]).await;
    assert_eq!(found, MeshCaState::Ready);
    let lost = told(&mut keeper, vec![Sight::Forbidden(PLUGGED_IN.to_owned())]).await;
    assert_eq!(lost, MeshCaState::Ready, "what was seen stays");
}

#[tokio::test]
async fn plugged_in_ca_that_is_made_anew_does_not_hand_the_mesh_to_the_one_that_citadel_made() {
    let (ca, plugged_in, left) = (mesh_ca(), root("plugged in"), root("left from before"));
    let mut keeper = keeper(&ca);
    let roots = MeshRoots::default().with(
        signer(&plugged_in).pin,
        &signer(&plugged_in).roots,
        Timestamp::UNIX_EPOCH,
    );
    let sights = vec![
        Sight::Roots(Some(Box::new(body(None, "mesh", &roots)))),
        secret(PLUGGED_IN, &plugged_in),
        secret(SELF_SIGNED, &left),
    ];
    assert_eq!(told(&mut keeper, sights).await, MeshCaState::Ready);
    let gone = told(&mut keeper, vec![Sight::Secret(PLUGGED_IN.to_owned(), None)]).await;
    assert!(
        matches!(&gone, MeshCaState::Held(why) if why.starts_with("Secret mesh/cacerts is gone")),
        "{gone:?}"
    );
    assert_eq!(ca.told.lock().trust, roots.trust());
    let back = told(&mut keeper, vec![secret(PLUGGED_IN, &plugged_in)]).await;
    assert_eq!(back, MeshCaState::Ready);
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn signer(ca: &Ca) -> MeshSigner {
    MeshSigner::read(&self_signed(ca), now())
        .expect("good")
        .expect("not empty")
}

fn fingerprints(roots: &MeshRoots) -> Vec<Fingerprint> {
    roots.roots.iter().map(|root| root.fingerprint).collect()
}

#[test]
fn new_ca_is_written_with_its_root_first_and_the_earlier_one_stays() {
    let (old, new) = (root("old"), root("new"));
    let before = wanted(&MeshRoots::default(), &signer(&old), true, now());
    assert_eq!(before.signer, Some(signer(&old).pin));
    let after = wanted(&before, &signer(&new), true, now());
    assert_eq!(after.signer, Some(signer(&new).pin));
    assert_eq!(
        fingerprints(&after),
        [Fingerprint::of(new.der()), Fingerprint::of(old.der())]
    );
    assert_eq!(wanted(&after, &signer(&new), true, now()), after);
}

#[test]
fn replica_whose_watch_is_behind_does_not_write_the_old_signer_back() {
    let (old, new) = (root("old"), root("new"));
    let written = MeshRoots::default()
        .with(signer(&old).pin, &signer(&old).roots, Timestamp::UNIX_EPOCH)
        .with(signer(&new).pin, &signer(&new).roots, Timestamp::UNIX_EPOCH);
    assert_eq!(wanted(&written, &signer(&old), false, now()), written);
}

#[test]
fn root_that_was_forgotten_does_not_come_back_but_that_of_the_signer_does() {
    let (old, new) = (root("old"), root("new"));
    let mut forgotten = MeshRoots::default().with(signer(&new).pin, &signer(&new).roots, Timestamp::UNIX_EPOCH);
    assert_eq!(wanted(&forgotten, &signer(&new), false, now()), forgotten);
    forgotten.roots.clear();
    forgotten.add(&signer(&old).roots, Timestamp::UNIX_EPOCH);
    let restored = wanted(&forgotten, &signer(&new), false, now());
    assert!(restored.holds(&signer(&new).roots));
}

#[test]
fn what_else_stands_at_the_config_map_stays_and_its_version_guards_the_write() {
    let roots = MeshRoots::default().with(signer(&root("a")).pin, &[], Timestamp::UNIX_EPOCH);
    let made = body(None, "mesh", &roots);
    assert_eq!(made.metadata.resource_version, None);
    assert_eq!(roots_of(Some(&made)).signer, roots.signer);
    let mut found = made.clone();
    found.metadata.resource_version = Some("7".to_owned());
    found.metadata.annotations = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let next = body(Some(&found), "mesh", &MeshRoots::default());
    assert_eq!(next.metadata, found.metadata);
    assert_eq!(next.data, Some(BTreeMap::new()));
}
