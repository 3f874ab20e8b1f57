//! What a hub or an agent may do, changed while it runs.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use support::deploy;
use support::eventually::{eventually, seen};

use super::objects::api;
use super::{Mesh, Remote};

/// The role of one process in one namespace; role and `ServiceAccount` have its name.
struct Role<'a> {
    client: &'a Client,
    namespace: &'a str,
    file: &'static str,
}

impl Role<'_> {
    /// As it lies in `deploy/roles/`.
    fn written(&self) -> Value {
        let documents = deploy::role_documents(self.file, self.namespace, &[]).expect("deploy/roles");
        let role = documents.into_iter().find(|document| document["kind"] == "Role");
        role.expect("a Role")["rules"].clone()
    }

    fn name(&self) -> String {
        format!("remote-istio-{}", self.file)
    }

    async fn set(&self, rules: &Value) {
        let patch = Patch::Merge(json!({"rules": rules}));
        let changed = api(self.client, "Role", self.namespace)
            .patch(&self.name(), &PatchParams::default(), &patch)
            .await;
        changed.expect("the role is there");
    }

    /// Takes one verb on one resource away.
    async fn forbid(&self, resource: &str, verb: &str) {
        let mut changed = Vec::new();
        for rule in self.written().as_array().expect("rules") {
            for one in rule["resources"].as_array().expect("resources") {
                let mut rule = rule.clone();
                rule["resources"] = json!([one]);
                if one == resource {
                    let verbs = rule["verbs"].as_array_mut().expect("verbs");
                    verbs.retain(|allowed| allowed != verb);
                }
                changed.push(rule);
            }
        }
        self.set(&Value::Array(changed)).await;
        self.until(false, verb, resource).await;
    }

    /// Waits until the API server decides so: its authorizer learns of roles by a watch of its own.
    async fn until(&self, allowed: bool, verb: &str, resource: &str) {
        let is_ours = matches!(resource, "remoteistios" | "remoteidentities" | "jointokens");
        let group = is_ours.then(|| "istio.banzaicloud.io".to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{}:{}", self.namespace, self.name())),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(self.namespace.to_owned()),
                    verb: Some(verb.to_owned()),
                    group,
                    resource: Some(resource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        eventually("the API server knows the role", || async {
            let answer = reviews
                .create(&PostParams::default(), &review)
                .await
                .expect("an answer");
            let status = answer.status.expect("a decision");
            seen(status.allowed == allowed, status)
        })
        .await;
    }
}

impl Remote {
    fn role(&self) -> Role<'_> {
        Role {
            client: &self.client,
            namespace: &self.namespace,
            file: "agent",
        }
    }

    /// Takes one verb on one resource away from the agent.
    pub async fn forbid(&self, resource: &str, verb: &str) {
        self.role().forbid(resource, verb).await;
    }

    /// Takes everything in its own namespace away from the agent.
    pub async fn forbid_all(&self) {
        self.role().set(&json!([])).await;
        self.role().until(false, "list", "services").await;
    }

    /// Gives the agent its role back.
    pub async fn permit_all(&self) {
        self.role().set(&self.role().written()).await;
        self.role().until(true, "create", "services").await;
    }
}

impl Mesh<'_> {
    fn role(&self) -> Role<'_> {
        Role {
            client: &self.central_client,
            namespace: &self.namespace,
            file: "hub",
        }
    }

    /// Takes one verb on one resource away from the hub.
    pub async fn forbid_hub_to(&self, verb: &str, resource: &str) {
        self.role().forbid(resource, verb).await;
    }

    /// Takes everything away from the hub.
    pub async fn forbid_hub(&self) {
        self.role().set(&json!([])).await;
        self.role().until(false, "list", "pods").await;
    }

    /// Gives the hub its role back.
    pub async fn permit_hub(&self) {
        self.role().set(&self.role().written()).await;
        self.role().until(true, "list", "pods").await;
    }
}
