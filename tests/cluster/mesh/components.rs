//! What a remote runs of Istio, and the CA of the mesh on central.

use k8s_openapi::ByteString;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::eventually::eventually;
use support::mesh_ca::MeshCa;
use support::{deploy, seed};

use super::objects::{api, json as as_json, object};
use super::{Mesh, Remote};

/// Deployment, Service and webhook of the injector.
pub const INJECTOR: &str = "istio-sidecar-injector";

/// Deployment and Service of the CA.
pub const CITADEL: &str = "istio-citadel";

/// The spec of the seed's `RemoteIstio`, with injection into another namespace than `default`, which tests share.
pub fn seed_spec(injected: &str) -> Value {
    let mut document = support::manifest::documents(&seed::remote_istio("any"))
        .expect("YAML")
        .remove(0);
    document["spec"]["autoInjectionNamespaces"] = json!([injected]);
    document["spec"].clone()
}

impl Mesh<'_> {
    /// Puts a mesh CA on central as Istio or a person would, in a Secret of this name.
    pub async fn put_mesh_ca(&self, secret: &str, ca: &MeshCa) {
        let data: Value = ca
            .data()
            .into_iter()
            .map(|(key, text)| (key.to_owned(), json!(ByteString(text.into_bytes()))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let secrets = api(&self.central_client, "Secret", &self.namespace);
        if secrets.get_opt(secret).await.expect("central answers").is_some() {
            let patch = Patch::Merge(json!({"data": data}));
            let changed = secrets.patch(secret, &PatchParams::default(), &patch).await;
            changed.expect("changed");
        } else {
            let made = object("Secret", secret, json!({"data": data}));
            secrets.create(&PostParams::default(), &made).await.expect("created");
        }
    }

    /// Waits until the status of one remote is as wanted, and returns it.
    pub async fn until_status(&self, index: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let name = self.remote_name(index);
        eventually(what, || async {
            let status = self.remote_istio(&name).await.unwrap_or_default()["status"].clone();
            if wanted(&status) {
                return Ok(status);
            }
            Err(format!(
                "{status} with the hub's log\n{}\nand the agent's log\n{}",
                self.hub_log(),
                self.agent_log(index)
            ))
        })
        .await
    }

    /// Waits until a condition is in this state with these words in its message, and returns it.
    pub async fn until_condition_says(&self, index: usize, kind: &str, state: &str, words: &str) -> Value {
        let what = format!("condition {kind} is {state} and says {words:?}");
        let status = self
            .until_status(index, &what, |status| {
                let condition = condition(status, kind);
                condition["status"] == state && condition["message"].as_str().is_some_and(|text| text.contains(words))
            })
            .await;
        condition(&status, kind)
    }
}

/// One condition of a status.
pub fn condition(status: &Value, kind: &str) -> Value {
    super::central::condition_of(status, kind)
}

impl Remote {
    /// What a Secret of the agent's namespace holds, as text; nothing when it is not there.
    pub async fn secret(&self, name: &str) -> Option<std::collections::BTreeMap<String, String>> {
        let found = api(&self.client, "Secret", &self.namespace).get_opt(name).await;
        let secret = as_json(&found.expect("the remote answers")?);
        let data: std::collections::BTreeMap<String, ByteString> =
            serde_json::from_value(secret["data"].clone()).unwrap_or_default();
        let text = |value: ByteString| String::from_utf8_lossy(&value.0).into_owned();
        Some(data.into_iter().map(|(key, value)| (key, text(value))).collect())
    }

    /// Sets up the roles of components as the remote's operator would.
    pub async fn install_components(&self) {
        let applied = deploy::roles(&self.client, "components", &self.namespace, &[]).await;
        applied.expect("applied");
    }
}
