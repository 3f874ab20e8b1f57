//! Components: their order, their gates, the injector's webhook, and how they go.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};

use super::*;
use crate::engine::names;

const CITADEL: &str = "istio-citadel";
const INJECTOR: &str = "istio-sidecar-injector";

fn key(component: Component) -> Key {
    Key::component(component, "istio-system")
}

fn object(body: Body) -> Arc<Object> {
    Arc::new(Object::new(1, None, body))
}

fn mesh() -> (Key, Arc<Object>) {
    (key(Component::Mesh), object(Body::Mesh(v1::MeshConfig::default())))
}

fn citadel() -> (Key, Arc<Object>) {
    (key(Component::Citadel), object(Body::Citadel(Box::default())))
}

fn injector() -> (Key, Arc<Object>) {
    (key(Component::Injector), object(Body::Injector(Box::default())))
}

fn granted() -> v1::MeshTrust {
    v1::MeshTrust {
        signer: vec![7; 32],
        roots: vec![vec![0x30, 0]],
    }
}

fn trust() -> (Key, Arc<Object>) {
    (key(Component::Trust), object(Body::Trust(granted())))
}

fn facts() -> Facts {
    Facts {
        roles: [(Component::Citadel, Ok(())), (Component::Injector, Ok(()))].into(),
        trust: Trust::Ready {
            hash: "0123".to_owned(),
            own: true,
        },
        injector: Served::Unknown,
    }
}

fn serving() -> Facts {
    Facts {
        injector: Served::Yes {
            ca_bundle: b"pem".to_vec(),
        },
        ..facts()
    }
}

impl Bench {
    fn learn(&mut self, facts: Facts) {
        self.engine.learn(facts, self.now);
        self.settle();
    }

    fn deployment(&self, name: &str) -> Deployment {
        let name = named(Kind::Deployment, name);
        match self.remote.objects.get(&name) {
            Some(Resource::Deployment(deployment)) => (**deployment).clone(),
            other => panic!("no deployment {name:?}: {other:?}"),
        }
    }

    /// As the controller manager would.
    fn set_available(&mut self, name: &str, available: i32) {
        let mut deployment = self.deployment(name);
        deployment.status = Some(DeploymentStatus {
            available_replicas: Some(available),
            updated_replicas: Some(1),
            ..DeploymentStatus::default()
        });
        self.remote.put(Resource::Deployment(Box::new(deployment)));
        self.settle();
    }

    fn has_webhook(&self) -> bool {
        !self.remote.names(Kind::MutatingWebhook).is_empty()
    }

    /// Everything but records, in the order in which it was written with this verb.
    fn written(&self, verb: &str) -> Vec<(Kind, String)> {
        let log = self
            .remote
            .log
            .iter()
            .filter(|(name, written)| *written == verb && !name.name.starts_with("remote-istio-"));
        log.map(|(name, _)| (name.kind, name.name.clone())).collect()
    }
}

fn named(kind: Kind, name: &str) -> ObjectName {
    ObjectName {
        kind,
        namespace: "istio-system".to_owned(),
        name: name.to_owned(),
    }
}

/// Both components stand and are available.
fn installed() -> Bench {
    let mut bench = Bench::connected();
    bench.engine.learn(serving(), 0);
    bench.send(&[mesh(), citadel(), injector()], &[]);
    bench.settle();
    bench.set_available(CITADEL, 1);
    bench.set_available(INJECTOR, 1);
    bench
}

#[test]
fn configuration_comes_first_and_the_webhook_last() {
    let bench = installed();
    let created = bench.written("create");
    let expected = [
        (Kind::ConfigMap, "istio"),
        (Kind::Deployment, CITADEL),
        (Kind::Service, CITADEL),
        (Kind::ConfigMap, INJECTOR),
        (Kind::Deployment, INJECTOR),
        (Kind::Service, INJECTOR),
        (Kind::MutatingWebhook, INJECTOR),
    ];
    for (kind, name) in expected {
        assert!(
            created.contains(&(kind, name.to_owned())),
            "{kind:?} {name} in {created:?}"
        );
    }
    assert_eq!(created.len(), expected.len());
    let place = |kind: Kind, name: &str| created.iter().position(|found| *found == (kind, name.to_owned()));
    assert_eq!(place(Kind::ConfigMap, "istio"), Some(0));
    assert!(place(Kind::ConfigMap, INJECTOR) < place(Kind::Deployment, INJECTOR));
    assert_eq!(place(Kind::MutatingWebhook, INJECTOR), Some(expected.len() - 1));
    for component in [Component::Mesh, Component::Citadel, Component::Injector] {
        assert_eq!(
            bench.told_state(&key(component)),
            Some(ApplyState::Applied),
            "{component:?}"
        );
    }
    let replicas = v1::Replicas {
        desired: 1,
        updated: 1,
        available: 1,
    };
    assert_eq!(bench.told(&key(Component::Citadel)).unwrap().replicas, Some(replicas));
    assert_eq!(bench.engine.statistics().drift_repaired, 0);
}

#[test]
fn citadel_waits_for_its_trust_and_says_what_for() {
    let mut bench = Bench::connected();
    bench.engine.learn(
        Facts {
            trust: Trust::Missing("ask for --sign-mesh-ca".to_owned()),
            ..facts()
        },
        0,
    );
    bench.send(&[mesh(), citadel()], &[]);
    bench.settle();
    let told = bench.told(&key(Component::Citadel)).unwrap();
    assert_eq!(
        (told.state, told.detail.as_str()),
        (ApplyState::NotReady, "ask for --sign-mesh-ca")
    );
    assert_eq!(bench.remote.names(Kind::Deployment), Vec::<String>::new());
    bench.learn(facts());
    assert_eq!(bench.remote.names(Kind::Deployment), [CITADEL]);
}

#[test]
fn missing_role_is_forbidden_and_nothing_of_the_component_is_made() {
    let mut bench = Bench::connected();
    let missing = "set components.sidecarInjector.enabled=true".to_owned();
    let roles = [(Component::Injector, Err(missing.clone()))].into();
    bench.engine.learn(Facts { roles, ..facts() }, 0);
    bench.send(&[mesh(), injector()], &[]);
    bench.settle();
    let told = bench.told(&key(Component::Injector)).unwrap();
    assert_eq!((told.state, told.detail), (ApplyState::Forbidden, missing));
    assert_eq!(bench.remote.names(Kind::Deployment), Vec::<String>::new());
    bench.learn(facts());
    assert_eq!(bench.remote.names(Kind::Deployment), [INJECTOR]);
}

#[test]
fn right_that_the_agent_lacks_itself_names_the_charts_value() {
    let mut bench = Bench::connected();
    bench.engine.learn(facts(), 0);
    let refused = Failure::Forbidden("agent cannot create resource".to_owned());
    bench.remote.failing.insert(Kind::Deployment, refused);
    bench.send(&[mesh(), citadel()], &[]);
    bench.settle();
    let told = bench.told(&key(Component::Citadel)).unwrap();
    assert_eq!(told.state, ApplyState::Forbidden);
    assert!(
        told.detail.contains("components.citadel.enabled=true"),
        "{}",
        told.detail
    );
}

#[test]
fn pods_that_do_not_come_are_told_in_the_deployments_own_words() {
    let mut bench = Bench::connected();
    bench.engine.learn(facts(), 0);
    bench.send(&[mesh(), citadel()], &[]);
    bench.settle();
    let mut deployment = bench.deployment(CITADEL);
    deployment.status = serde_json::from_value(serde_json::json!({
        "updatedReplicas": 1, "unavailableReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                        "message": "ReplicaSet has timed out progressing."}],
    }))
    .unwrap();
    bench.remote.put(Resource::Deployment(Box::new(deployment)));
    bench.settle();
    let told = bench.told(&key(Component::Citadel)).unwrap();
    assert_eq!(told.state, ApplyState::NotReady);
    assert!(told.detail.contains("timed out progressing"), "{}", told.detail);
    assert_eq!(told.replicas.unwrap().available, 0);
}

#[test]
fn webhook_waits_for_an_available_pod_and_a_served_certificate() {
    let mut bench = Bench::connected();
    bench.engine.learn(serving(), 0);
    bench.send(&[mesh(), injector()], &[]);
    bench.settle();
    assert!(!bench.has_webhook());
    let told = bench.told(&key(Component::Injector)).unwrap();
    assert_eq!(told.state, ApplyState::NotReady);
    bench.learn(Facts {
        injector: Served::Not("connection refused".to_owned()),
        ..facts()
    });
    bench.set_available(INJECTOR, 1);
    assert!(!bench.has_webhook());
    let told = bench.told(&key(Component::Injector)).unwrap();
    assert!(told.detail.contains("connection refused"), "{}", told.detail);
    bench.learn(serving());
    assert!(bench.has_webhook());
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::Applied));
}

#[test]
fn webhook_without_an_available_pod_is_withdrawn_after_a_minute_and_comes_back() {
    let mut bench = installed();
    bench.set_available(INJECTOR, 0);
    bench.pass(59);
    assert!(bench.has_webhook());
    bench.pass(2);
    assert!(!bench.has_webhook());
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::NotReady));
    bench.set_available(INJECTOR, 1);
    assert!(bench.has_webhook());
    assert_eq!(bench.engine.statistics().drift_repaired, 0);
}

#[test]
fn pods_that_are_away_for_less_than_a_minute_leave_the_webhook_alone() {
    let mut bench = installed();
    for _ in 0..3 {
        bench.set_available(INJECTOR, 0);
        bench.pass(40);
        bench.set_available(INJECTOR, 1);
    }
    assert_eq!(bench.written("delete"), []);
}

#[test]
fn webhook_goes_at_once_when_the_deployment_is_gone_and_cannot_be_made_anew() {
    let mut bench = installed();
    bench
        .remote
        .failing
        .insert(Kind::Deployment, Failure::Rejected("exceeded quota".to_owned()));
    bench.remote.delete(&named(Kind::Deployment, INJECTOR));
    bench.settle();
    assert!(!bench.has_webhook());
    let told = bench.told(&key(Component::Injector)).unwrap();
    assert_eq!(
        (told.state, told.detail.as_str()),
        (ApplyState::Rejected, "exceeded quota")
    );
}

#[test]
fn restarted_agent_leaves_a_standing_webhook_while_it_finds_out() {
    let bench = installed();
    let mut bench = bench.restart(settings());
    bench.pass(120);
    assert!(bench.has_webhook());
    assert_eq!(bench.remote.names(Kind::Deployment).len(), 2);
    let mark = bench.remote.log.len();
    bench.learn(serving());
    bench.pass(5);
    assert_eq!(bench.remote.writes_since(mark), []);
}

#[test]
fn everything_goes_in_the_reverse_order() {
    let mut bench = installed();
    bench.engine.learn(
        Facts {
            trust: Trust::Missing(String::new()),
            ..serving()
        },
        bench.now,
    );
    let all = [Component::Mesh, Component::Citadel, Component::Injector].map(key);
    bench.send_change(&[], &all, false, true);
    bench.pass(5);
    let deleted = bench.written("delete");
    let place = |kind: Kind, name: &str| {
        deleted
            .iter()
            .position(|found| *found == (kind, name.to_owned()))
            .unwrap()
    };
    let webhook = place(Kind::MutatingWebhook, INJECTOR);
    assert!(webhook < place(Kind::Deployment, INJECTOR));
    assert!(place(Kind::Deployment, INJECTOR) < place(Kind::ConfigMap, INJECTOR));
    assert_eq!(place(Kind::ConfigMap, "istio"), deleted.len() - 1);
    let left: Vec<_> = bench
        .remote
        .objects
        .keys()
        .filter(|name| name.kind != Kind::Namespace)
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for key in all {
        assert_eq!(bench.told_state(&key), Some(ApplyState::Removed), "{key}");
    }
}

#[test]
fn deployment_stands_until_a_webhook_that_is_held_is_gone() {
    let mut bench = installed();
    let name = ObjectName {
        namespace: String::new(),
        ..named(Kind::MutatingWebhook, INJECTOR)
    };
    let mut webhook = bench.remote.objects[&name].clone();
    let Resource::MutatingWebhook(object) = &mut webhook else {
        panic!()
    };
    object.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    bench.remote.put(webhook.clone());
    bench.send_change(&[], &[key(Component::Injector)], false, true);
    bench.pass(30);
    assert!(bench.remote.objects.contains_key(&named(Kind::Deployment, INJECTOR)));
    let told = bench.told(&key(Component::Injector)).unwrap();
    assert_eq!((told.state, told.version), (ApplyState::NotReady, None));
    assert!(told.detail.contains("example.com/hold"), "{}", told.detail);
    bench.remote.delete(&name);
    bench.pass(5);
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::Removed));
    assert!(!bench.remote.objects.contains_key(&named(Kind::Deployment, INJECTOR)));
}

#[test]
fn orphaned_components_stay_without_our_labels_and_without_records() {
    let mut bench = installed();
    let all = [Component::Mesh, Component::Citadel, Component::Injector].map(key);
    bench.orphan(&all);
    bench.pass(5);
    assert_eq!(bench.written("delete"), []);
    assert_eq!(bench.remote.names(Kind::Deployment), [CITADEL, INJECTOR]);
    assert!(bench.has_webhook());
    assert_eq!(bench.remote.names(Kind::ConfigMap), ["istio", INJECTOR]);
    for (name, resource) in &bench.remote.objects {
        let labels = resource
            .metadata()
            .and_then(|metadata| metadata.labels.clone())
            .unwrap_or_default();
        assert!(
            names::OWNER_LABELS.iter().all(|label| !labels.contains_key(*label)),
            "{name:?}"
        );
    }
    for key in all {
        assert_eq!(bench.told_state(&key), Some(ApplyState::Removed), "{key}");
    }
}

#[test]
fn orphaning_that_a_restart_interrupts_goes_on_as_orphaning() {
    let mut bench = installed();
    bench.orphan(&[key(Component::Injector)]);
    // The record says so; nothing else has happened yet.
    while !bench.remote.log.iter().any(|(_, verb)| *verb == "release") {
        assert!(bench.answer());
    }
    let mut bench = bench.restart(settings());
    bench.learn(serving());
    bench.pass(5);
    assert_eq!(bench.written("delete"), []);
    assert_eq!(bench.remote.names(Kind::Deployment), [CITADEL, INJECTOR]);
}

#[test]
fn trust_is_applied_when_the_secret_is_there_and_removed_when_ours_is_gone() {
    let mut bench = Bench::connected();
    bench.send(&[trust()], &[]);
    bench.settle();
    assert_eq!(bench.told_state(&key(Component::Trust)), Some(ApplyState::NotReady));
    assert_eq!(bench.engine.wants().trust, Some(granted()));
    bench.learn(facts());
    assert_eq!(bench.told_state(&key(Component::Trust)), Some(ApplyState::Applied));
    bench.send_change(&[], &[key(Component::Trust)], false, true);
    bench.settle();
    assert_eq!(bench.told_state(&key(Component::Trust)), Some(ApplyState::NotReady));
    let wants = bench.engine.wants();
    assert_eq!(
        (wants.trust, wants.trust_removed, wants.trust_orphaned),
        (None, true, false)
    );
    bench.learn(Facts {
        trust: Trust::Missing("not granted".to_owned()),
        ..facts()
    });
    assert_eq!(bench.told_state(&key(Component::Trust)), Some(ApplyState::Removed));
}

#[test]
fn trust_stays_while_citadel_does() {
    let mut bench = Bench::connected();
    bench.engine.learn(facts(), 0);
    bench.send(&[mesh(), trust(), citadel()], &[]);
    bench.settle();
    assert!(!bench.engine.wants().trust_removed);
    bench.send_change(&[], &[key(Component::Trust)], false, true);
    bench.settle();
    assert!(!bench.engine.wants().trust_removed);
}

#[test]
fn fresh_agent_asks_for_nothing_to_be_removed() {
    assert_eq!(Bench::new().engine.wants(), Wants::default());
}

#[test]
fn changed_hash_of_the_trust_rolls_citadel_out() {
    let mut bench = installed();
    bench.learn(Facts {
        trust: Trust::Ready {
            hash: "4567".to_owned(),
            own: true,
        },
        ..serving()
    });
    let template = bench.deployment(CITADEL).spec.template;
    let text = serde_json::to_string(&template).unwrap();
    assert!(text.contains("4567"), "{text}");
    assert_eq!(bench.engine.statistics().drift_repaired, 0);
}

#[test]
fn components_are_told_again_after_each_welcome() {
    let mut bench = installed();
    bench.engine.disconnected(bench.now);
    bench.frames.clear();
    bench.connect("hub-1");
    bench.settle();
    let told = bench.told(&key(Component::Citadel)).unwrap();
    assert_eq!((told.state, told.replicas.unwrap().available), (ApplyState::Applied, 1));
}

#[test]
fn selector_that_cannot_change_makes_the_deployment_anew_once() {
    let mut bench = installed();
    let refused = Failure::Rejected("spec.selector: Invalid value: field is immutable".to_owned());
    bench.remote.failing_apply.insert(CITADEL.to_owned(), refused);
    bench.learn(Facts {
        trust: Trust::Ready {
            hash: "4567".to_owned(),
            own: true,
        },
        ..serving()
    });
    bench.pass(5);
    assert_eq!(bench.written("delete"), [(Kind::Deployment, CITADEL.to_owned())]);
    let text = serde_json::to_string(&bench.deployment(CITADEL).spec.template).unwrap();
    assert!(text.contains("4567"), "{text}");
}

#[test]
fn foreign_deployment_is_left_alone_and_adopted_when_labelled() {
    let mut bench = Bench::connected();
    let mut foreign = Deployment::default();
    foreign.metadata.name = Some(CITADEL.to_owned());
    foreign.metadata.namespace = Some("istio-system".to_owned());
    bench.remote.put(Resource::Deployment(Box::new(foreign.clone())));
    // A watch by label does not show it.
    bench.remote.events.clear();
    bench.engine.learn(facts(), 0);
    bench.send(&[mesh(), citadel()], &[]);
    bench.pass(60);
    let told = bench.told(&key(Component::Citadel)).unwrap();
    assert_eq!(told.state, ApplyState::Foreign);
    let owner = settings().owner;
    let command = format!(
        "kubectl -n istio-system label --overwrite deployment {CITADEL} \
         app.kubernetes.io/managed-by=remote-istio-agent istio.banzaicloud.io/owner={owner}"
    );
    assert!(told.detail.contains(&command), "{}", told.detail);
    foreign.metadata.labels = Some(names::owner_labels(&settings()));
    bench.remote.put(Resource::Deployment(Box::new(foreign)));
    bench.pass(5);
    bench.set_available(CITADEL, 1);
    assert_eq!(bench.told_state(&key(Component::Citadel)), Some(ApplyState::Applied));
}

fn webhook_name() -> ObjectName {
    ObjectName {
        namespace: String::new(),
        ..named(Kind::MutatingWebhook, INJECTOR)
    }
}

impl Bench {
    /// Restarted without the right to look at webhooks and Deployments.
    fn restart_blind(mut self) -> Self {
        // Until the records have the UIDs of what was made.
        self.pass(5);
        let mut bench = self.restart(settings());
        let mut listed = bench.remote.list();
        listed.retain(|resource| !matches!(resource, Resource::MutatingWebhook(_) | Resource::Deployment(_)));
        bench.engine = Engine::new(settings(), listed, 7, 0);
        bench.connect("hub-1");
        bench
    }

    fn stands(&self, name: &ObjectName) -> bool {
        self.remote.objects.contains_key(name)
    }
}

#[test]
fn deployment_stands_until_the_deletion_of_the_webhook_has_succeeded() {
    let mut bench = installed();
    let busy = Failure::Unavailable {
        message: "busy".to_owned(),
        retry_after_milliseconds: None,
    };
    bench.remote.failing.insert(Kind::MutatingWebhook, busy);
    bench.send_change(&[], &[key(Component::Injector)], false, true);
    bench.pass(20);
    assert!(bench.has_webhook() && bench.stands(&named(Kind::Deployment, INJECTOR)));
    assert!(bench.stands(&named(Kind::Service, INJECTOR)));
    bench.remote.failing.clear();
    bench.pass(60);
    assert!(!bench.has_webhook() && !bench.stands(&named(Kind::Deployment, INJECTOR)));
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::Removed));
}

#[test]
fn webhook_that_the_agent_may_no_longer_see_is_not_taken_to_be_gone() {
    let mut bench = installed().restart_blind();
    let refused = Failure::Forbidden("agent cannot delete resource".to_owned());
    bench.remote.failing.insert(Kind::MutatingWebhook, refused);
    bench.send_change(&[], &[key(Component::Injector)], false, true);
    bench.pass(90);
    assert!(bench.has_webhook() && bench.stands(&named(Kind::Deployment, INJECTOR)));
    let told = bench.told(&key(Component::Injector)).unwrap();
    assert_eq!(told.state, ApplyState::Forbidden);
    assert!(told.detail.contains("deploy/roles/components.yaml"), "{}", told.detail);
    bench.remote.failing.clear();
    bench.pass(60);
    assert!(!bench.has_webhook() && !bench.stands(&named(Kind::Deployment, INJECTOR)));
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::Removed));
}

#[test]
fn strangers_webhook_that_the_agent_may_not_see_stands_and_holds_up_nothing() {
    let mut bench = installed();
    let mut stranger = bench.remote.objects[&webhook_name()].clone();
    bench.remote.delete(&webhook_name());
    if let Resource::MutatingWebhook(object) = &mut stranger {
        object.metadata.labels = None;
    }
    bench.remote.put(stranger);
    let mut bench = bench.restart_blind();
    bench.send_change(&[], &[key(Component::Injector)], false, true);
    bench.pass(5);
    assert!(bench.has_webhook());
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::Removed));
}

/// The remote's owner has taken both components back.
fn without_components() -> Arc<Policy> {
    Arc::new(Policy {
        components: BTreeSet::new(),
        ..(*settings().policy).clone()
    })
}

#[test]
fn webhook_of_an_injector_no_longer_allowed_is_withdrawn_when_its_pods_are_gone() {
    let mut bench = installed();
    bench.engine.policy(without_components(), bench.now);
    bench.set_available(INJECTOR, 0);
    bench.pass(59);
    assert!(bench.has_webhook());
    bench.now += 2 * SECOND;
    let woken = bench.engine.next_wake().is_some_and(|wake| wake <= bench.now);
    assert!(woken, "nothing else may ever happen to the Deployment");
    bench.pass(0);
    assert!(!bench.has_webhook());
    assert_eq!(bench.told_state(&key(Component::Injector)), Some(ApplyState::Forbidden));
}

#[test]
fn webhook_of_an_injector_no_longer_allowed_goes_at_once_with_its_deployment() {
    let mut bench = installed();
    bench.engine.policy(without_components(), bench.now);
    bench.remote.delete(&named(Kind::Deployment, INJECTOR));
    bench.settle();
    assert!(!bench.has_webhook());
}

#[test]
fn webhook_belongs_to_the_namespace_of_the_agent() {
    let bench = installed();
    let webhook = bench.remote.objects[&webhook_name()].metadata().unwrap().clone();
    let owners = webhook.owner_references.unwrap();
    let namespace = &bench.remote.objects[&names::namespace("istio-system")];
    let found: Vec<_> = owners
        .iter()
        .map(|owner| (owner.kind.as_str(), owner.uid.as_str()))
        .collect();
    assert_eq!(found, [("Namespace", namespace.uid())]);
}

#[test]
fn trust_that_the_policy_no_longer_allows_is_neither_signed_nor_let_go() {
    let mut bench = Bench::connected();
    bench.engine.learn(facts(), 0);
    bench.send(&[mesh(), trust(), citadel()], &[]);
    bench.settle();
    assert_eq!(bench.engine.wants().trust, Some(granted()));
    bench.engine.policy(without_components(), bench.now);
    bench.settle();
    let wants = bench.engine.wants();
    assert_eq!((wants.trust, wants.trust_removed), (None, false));
}
