//! A central and a remote with nothing in them, and the pair that charts install there.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _, discovery};
use serde_json::{Value, json};
use support::deploy::NAMESPACE;
use support::eventually::{eventually, seen};
use support::mesh_ca::MeshCa;
use support::release::{Chart, Pod, Release};
use support::tools::Tool;
use support::{Cluster, ClusterOptions, ports};
use tokio::runtime::Runtime;

/// The remote's name.
pub const REMOTE: &str = "remote-1";

/// The service that the tests follow, and the label of its pods.
pub const SERVICE: &str = "istio-pilot";

/// The hub's Secret.
pub const CA_SECRET: &str = "remote-istio-link-ca";

/// The agent's Secret.
pub const IDENTITY_SECRET: &str = "remote-istio-agent-identity";

/// Runs a test on the one runtime of this process.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    });
    RUNTIME.block_on(test)
}

/// Two clusters of one test alone.
pub struct Stage {
    /// With the control plane.
    pub central: Cluster,
    /// Without.
    pub remote: Cluster,
}

impl Stage {
    /// Two API servers on one etcd.
    pub async fn start() -> Result<Self> {
        let central = lone("central").await?;
        let remote = ClusterOptions {
            service_cidr: "10.91.0.0/16".to_owned(),
            ..ClusterOptions::named(REMOTE).on(central.etcd())
        };
        let remote = Box::pin(Cluster::start(remote)).await.context("starting a remote")?;
        Ok(Self { central, remote })
    }

    /// A pod of the followed service with this address, on central.
    pub async fn pod(&self, name: &str, address: &str) -> Result<()> {
        let pod = self.central.pod(NAMESPACE, name).label("istio", "pilot").ip(address);
        pod.ready().create().await?;
        Ok(())
    }

    /// Takes one away.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        let now = kube::api::DeleteParams::default().grace_period(0);
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.central.admin(), NAMESPACE);
        pods.delete(name, &now).await?;
        Ok(())
    }

    /// The addresses that the remote resolves the followed service to.
    pub async fn addresses(&self) -> Result<Vec<String>> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.remote.admin(), NAMESPACE);
        let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
        let listed = slices.list(&selector).await?;
        let endpoints = listed
            .items
            .into_iter()
            .flat_map(|slice| slice.endpoints.unwrap_or_default());
        let mut addresses: Vec<String> = endpoints.flat_map(|endpoint| endpoint.addresses).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Waits until the remote resolves the followed service to exactly these.
    pub async fn until_addresses(&self, wanted: &[&str]) {
        eventually(&format!("{SERVICE} is at {wanted:?}"), || async {
            let now = self.addresses().await.map_err(|error| format!("{error:#}"))?;
            seen(now == wanted, now).map_err(|seen| format!("{seen}\n{}", self.log_tails()))
        })
        .await;
    }

    /// The ends of what hub and agent have logged, for messages.
    pub fn log_tails(&self) -> String {
        let tail = |cluster: &Cluster, chart: Chart| {
            let name = chart.name();
            let log = cluster.folder().log(&format!("{NAMESPACE}-{name}"));
            format!("{name}:\n{}", support::guardian::tail(&log))
        };
        format!(
            "{}\n{}",
            tail(&self.central, Chart::Hub),
            tail(&self.remote, Chart::Agent)
        )
    }

    /// The `RemoteIstio` of the remote, with these services of the seed and what else the spec shall have.
    pub async fn apply_remote_istio(&self, more: Value) -> Result<()> {
        let mut spec = json!({"enabledServices": [{"name": SERVICE, "labelSelector": "istio=pilot"}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let object = json!({
            "apiVersion": "istio.banzaicloud.io/v1beta1", "kind": "RemoteIstio",
            "metadata": {"name": REMOTE, "namespace": NAMESPACE}, "spec": spec,
        });
        support::manifest::apply(&self.central.admin(), object).await?;
        Ok(())
    }

    /// A mesh CA on central, as Citadel there makes one.
    pub async fn put_mesh_ca(&self) -> Result<()> {
        let central = self.central.admin();
        support::deploy::namespace(&central, NAMESPACE).await?;
        let data: serde_json::Map<String, Value> = MeshCa::self_signed("central")?
            .data()
            .into_iter()
            .map(|(key, text)| (key.to_owned(), json!(text)))
            .collect();
        let metadata = json!({"name": "istio-ca-secret", "namespace": NAMESPACE});
        create(
            &central,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}),
        )
        .await
    }

    /// Waits until the condition Ready of the `RemoteIstio` is so, and returns its status.
    pub async fn until_ready(&self, state: &str) -> Value {
        eventually(&format!("RemoteIstio {REMOTE} has Ready {state}"), || async {
            let status = self.status().await.map_err(|error| format!("{error:#}"))?;
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            let holds = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == state);
            seen(holds, status).map_err(|seen| format!("{seen}\n{}", self.log_tails()))
        })
        .await
    }

    /// The status of the `RemoteIstio`.
    pub async fn status(&self) -> Result<Value> {
        let central = self.central.admin();
        let object = object(&central, "istio.banzaicloud.io/v1beta1", "RemoteIstio", REMOTE).await?;
        Ok(object.context("no RemoteIstio")?["status"].clone())
    }
}

/// One API server, and pods are what a test says they are.
pub async fn lone(name: &str) -> Result<Cluster> {
    let cluster = Box::pin(Cluster::start(ClusterOptions::named(name))).await;
    cluster.with_context(|| format!("starting {name}"))
}

/// An object of the usual namespace, or of none; nothing where there is none.
pub async fn object(client: &Client, api_version: &str, kind: &str, name: &str) -> Result<Option<Value>> {
    let api = api(client, api_version, kind).await?;
    let found = api
        .get_opt(name)
        .await
        .with_context(|| format!("reading {kind} {name}"))?;
    found
        .map(|found| serde_json::to_value(&found).context("an object"))
        .transpose()
}

/// The API of a kind, within the usual namespace where it has namespaces.
pub async fn api(client: &Client, api_version: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    Ok(match capabilities.scope {
        discovery::Scope::Cluster => Api::all_with(client.clone(), &resource),
        discovery::Scope::Namespaced => Api::namespaced_with(client.clone(), NAMESPACE, &resource),
    })
}

/// What a Secret of the usual namespace holds.
pub async fn secret(client: &Client, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = secrets
        .get(name)
        .await
        .with_context(|| format!("reading Secret {name}"))?;
    let data = secret.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// Creates an object as its owner.
pub async fn create(client: &Client, object: Value) -> Result<()> {
    let (version, kind) = (object["apiVersion"].clone(), object["kind"].clone());
    let api = api(
        client,
        version.as_str().context("text")?,
        kind.as_str().context("text")?,
    )
    .await?;
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// What of an object changes with every write.
pub fn identity_of(object: &DynamicObject) -> (String, String) {
    (
        object.uid().unwrap_or_default(),
        object.resource_version().unwrap_or_default(),
    )
}

/// Values with more in them; a nested object is merged, all else replaced.
#[must_use]
pub fn with(values: &Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (values.clone(), more.clone()) else {
        return more;
    };
    let mut fields = fields;
    for (name, value) in more {
        let merged = with(fields.get(&name).unwrap_or(&Value::Null), value);
        fields.insert(name, merged);
    }
    Value::Object(fields)
}

/// Hub and agent as their charts run them.
pub struct Pair<'a> {
    /// On central.
    pub hub: Release<'a>,
    /// In the remote.
    pub agent: Release<'a>,
    /// What the hub was installed with.
    pub hub_values: Value,
    /// What the agent was installed with.
    pub agent_values: Value,
}

impl<'a> Pair<'a> {
    /// Installs the hub, makes a token as a person in its pod would, runs the printed commands in the remote, launches
    /// what they installed, and waits until the remote has joined and resolves the followed service.
    pub async fn joined(stage: &'a Stage, helm: Tool, hub_more: Value, agent_more: Value) -> Result<Self> {
        let hub_values = with(&hub_values()?, hub_more);
        let hub = Box::pin(installed_hub(stage, &hub_values, helm)).await?;
        stage.pod("pilot-a", "10.24.0.1").await?;
        stage.apply_remote_istio(json!({})).await?;
        let mut agent = Release::of(&stage.remote, Chart::Agent, NAMESPACE, helm).await?;
        let invitation = invite(hub.pod()?, &[]).await?;
        join(&invitation, &agent).await?;
        let agent_values = with(&agent_values(&agent).await?, agent_more);
        agent.upgrade(&agent_values).await?;
        agent.launch().await.context(stage.log_tails())?;
        stage.until_ready("True").await;
        stage.until_addresses(&["10.24.0.1"]).await;
        Ok(Self {
            hub,
            agent,
            hub_values,
            agent_values,
        })
    }

    /// A pod of central is replaced, and the remote follows.
    pub async fn follows(&self, stage: &Stage, old: &str, new: &str, address: &str) -> Result<()> {
        stage.pod(new, address).await?;
        stage.delete_pod(old).await?;
        stage.until_addresses(&[address]).await;
        Ok(())
    }
}

/// Values of a hub that is dialled on loopback, at ports that are free.
pub fn hub_values() -> Result<Value> {
    let (sync, enrolment) = (ports::free()?, ports::free()?);
    Ok(json!({"exposure": {
        "type": "ClusterIP", "hosts": ["127.0.0.1"], "syncPort": sync.port(), "enrolmentPort": enrolment.port(),
    }}))
}

/// A hub that runs.
pub async fn installed_hub<'a>(stage: &'a Stage, values: &Value, helm: Tool) -> Result<Release<'a>> {
    let mut hub = Release::install(&stage.central, Chart::Hub, NAMESPACE, values, helm).await?;
    hub.launch().await.context(stage.log_tails())?;
    Ok(hub)
}

/// What `token create` printed for programs, run in the hub's pod.
pub async fn invite(hub: &Pod, more: &[&str]) -> Result<Value> {
    let arguments = [&["token", "create", REMOTE, "--output", "json"], more].concat();
    let said = hub.exec(&arguments).await?;
    said.success("token create")?;
    serde_json::from_str(&said.out).with_context(|| format!("reading what token create printed: {}", said.out))
}

/// Runs the commands that `token create` printed, as the remote's administrator.
pub async fn join(invitation: &Value, agent: &Release<'_>) -> Result<()> {
    let commands = invitation["commands"].as_array().context("no commands")?;
    ensure!(commands.len() > 1, "commands to paste: {commands:?}");
    for command in commands {
        let command = command.as_str().context("a command is a text")?;
        let said = agent.helm().shell(command).await?;
        said.success(command)?;
    }
    Ok(())
}

/// What the release was installed with.
async fn agent_values(agent: &Release<'_>) -> Result<Value> {
    let arguments = ["get", "values", Chart::Agent.name(), "--namespace", agent.namespace()];
    let said = agent
        .helm()
        .run(&[&arguments[..], &["--output", "json"]].concat())
        .await?;
    said.success("helm get values")?;
    serde_json::from_str(&said.out).context("reading what helm get values printed")
}
