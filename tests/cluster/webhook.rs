//! The injector's webhook: it stands while the injector serves with its certificate, and never otherwise. The test plays
//! the controllers and the injector.

use std::time::Duration;

use serde_json::{Value, json};
use support::ca::Authority;
use support::eventually::eventually_within;

use crate::mesh::{INJECTOR, Mesh, Remote, Serving, Setup, run};

/// An injector without available pods is given so long, and some more.
const WITHDRAWN: Duration = Duration::from_secs(150);

async fn webhook(remote: &Remote, name: &str) -> Option<Value> {
    remote.cluster_object("MutatingWebhookConfiguration", name).await
}

async fn until_webhook(mesh: &Mesh<'_>, name: &str, there: bool) -> Value {
    let what = format!("webhook {name} is {}", if there { "there" } else { "gone" });
    eventually_within(WITHDRAWN, &what, || async {
        let found = webhook(mesh.remote(0), name).await;
        if found.is_some() == there {
            return Ok(found.unwrap_or_default());
        }
        Err(format!("{found:?} with the agent's log\n{}", mesh.agent_log(0)))
    })
    .await
}

/// What stands at each JSON pointer of the webhook.
fn expected(name: &str, root: &Value) -> Vec<(&'static str, Value)> {
    vec![
        ("/metadata/labels/app", json!(INJECTOR)),
        (
            "/metadata/labels/app.kubernetes.io~1managed-by",
            json!("remote-istio-agent"),
        ),
        ("/webhooks/0/name", json!("sidecar-injector.istio.io")),
        ("/webhooks/0/clientConfig/service/name", json!(INJECTOR)),
        ("/webhooks/0/clientConfig/service/namespace", json!(name)),
        ("/webhooks/0/clientConfig/service/path", json!("/inject")),
        ("/webhooks/0/clientConfig/caBundle", root.clone()),
        ("/webhooks/0/rules/0/operations", json!(["CREATE"])),
        ("/webhooks/0/rules/0/apiGroups", json!([""])),
        ("/webhooks/0/rules/0/apiVersions", json!(["*"])),
        ("/webhooks/0/rules/0/resources", json!(["pods"])),
        ("/webhooks/0/failurePolicy", json!("Fail")),
        ("/webhooks/0/sideEffects", json!("None")),
        ("/webhooks/0/admissionReviewVersions", json!(["v1beta1"])),
        (
            "/webhooks/0/namespaceSelector/matchLabels/istio-injection",
            json!("enabled"),
        ),
        ("/webhooks/1", Value::Null),
    ]
}

fn pod() -> Value {
    json!({"spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "a"}]}})
}

// Turns red when: the webhook is made before its injector serves, is kept when it serves no longer, or goes after it.
#[test]
fn webhook_comes_last_goes_first_and_stands_only_while_its_injector_serves() {
    run(async {
        let name = "webhook";
        let mesh = Mesh::started(name, Setup::components()).await;
        let remote = mesh.remote(0);
        let injected = format!("{name}-app");
        remote.create_namespace(&injected, json!({})).await;
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [], "sidecarInjector": {}, "autoInjectionNamespaces": [injected]}),
        )
        .await;
        let hook = format!("{INJECTOR}-{name}");
        remote.until_label(&injected, "istio-injection", Some("enabled")).await;
        remote.until_object("Service", INJECTOR, |_| true).await;
        remote.until_quiet().await;
        assert_eq!(webhook(remote, &hook).await, None, "nothing is available");
        // Half-installed, a remote makes pods as before.
        remote
            .try_create_in(&injected, "Pod", "before", pod())
            .await
            .expect("no webhook is in the way");

        remote.set_available(INJECTOR, 1).await;
        mesh.until_condition_says(0, "Applied", "False", "webhook").await;
        assert_eq!(webhook(remote, &hook).await, None, "available, but nothing serves");

        let ca = Authority::new("the remote's Citadel").expect("a CA");
        let serving = Serving::start(&ca, name).await;
        remote.publish_injector(&serving).await;
        let made = until_webhook(&mesh, &hook, true).await;
        for (pointer, expected) in expected(name, serving.root()) {
            assert_eq!(
                made.pointer(pointer).cloned().unwrap_or_default(),
                expected,
                "{pointer} of {made}"
            );
        }
        let excluded = &made["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(excluded["operator"], "NotIn", "{made}");
        for namespace in ["kube-system", name] {
            assert!(excluded["values"].to_string().contains(namespace), "{excluded}");
        }
        mesh.until_ready(0).await;

        // Nobody here can dial a Service: so it is seen that the API server asks.
        let asked = remote
            .try_create_in(&injected, "Pod", "during", pod())
            .await
            .expect_err("the webhook fails");
        assert!(asked.contains("sidecar-injector.istio.io"), "{asked}");

        // Edited: restored.
        remote
            .merge_cluster_object("MutatingWebhookConfiguration", &hook, &json!({"webhooks": []}))
            .await;
        eventually_within(WITHDRAWN, "it is restored", || async {
            let now = webhook(remote, &hook).await.unwrap_or_default();
            if now["webhooks"] == made["webhooks"] {
                Ok(())
            } else {
                Err(now.to_string())
            }
        })
        .await;

        // Without an available pod for long it is withdrawn, until the injector serves again.
        remote.set_available(INJECTOR, 0).await;
        until_webhook(&mesh, &hook, false).await;
        remote
            .try_create_in(&injected, "Pod", "withdrawn", pod())
            .await
            .expect("no webhook is in the way");
        remote.set_available(INJECTOR, 1).await;
        until_webhook(&mesh, &hook, true).await;

        let audit = remote.audit().await;
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        let deletes = |event: &crate::audit::Event| event.is_ours && event.verb == "delete" && event.succeeded;
        let gone: Vec<String> = audit
            .since(deletes)
            .await
            .into_iter()
            .map(|event| event.resource)
            .collect();
        let place = |resource: &str| gone.iter().position(|gone| gone == resource);
        let (first, second) = (place("mutatingwebhookconfigurations"), place("deployments"));
        assert!(first.is_some() && first < second, "{gone:?}");
        assert_eq!(webhook(remote, &hook).await, None);
    });
}
