//! Pods and Jobs that helm makes as hooks, run as processes while helm waits for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::container::Container;
use super::helm::Helm;
use super::pod::{Pod, process};
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::pair::Said;

/// What marks a hook.
const HOOK: &str = "helm.sh/hook";

/// From one look for hooks to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One hook; on a busy machine.
const HOOK_DEADLINE: Duration = Duration::from_mins(2);

/// How a hook ran.
#[derive(Debug, Clone)]
pub struct HookRun {
    /// Its name.
    pub name: String,
    /// The exit code of its program.
    pub code: i32,
    /// All it printed.
    pub printed: String,
}

/// Who plays the kubelet and the Job controller.
pub(super) struct Hooks<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) deployment: &'a str,
    pub(super) folder: &'a Arc<Folder>,
}

impl Hooks<'_> {
    /// Runs helm to its end, and every hook that it makes meanwhile. `pod` is stopped once its Deployment is gone.
    pub(super) async fn along(
        &self,
        helm: &Helm,
        arguments: &[&str],
        pod: &mut Option<Pod>,
    ) -> Result<(Said, Vec<HookRun>)> {
        let mut runs = Vec::new();
        // What an earlier run has left is no hook of this one.
        let mut seen = BTreeSet::new();
        self.hooks::<k8s_openapi::api::core::v1::Pod>(&mut seen).await?;
        self.hooks::<Job>(&mut seen).await?;
        let helm = helm.run(arguments);
        tokio::pin!(helm);
        loop {
            tokio::select! {
                biased;
                said = &mut helm => {
                    self.stop_if_gone(pod).await?;
                    return Ok((said?, runs));
                }
                looked = self.round(&mut seen, pod, &mut runs) => looked?,
            }
        }
    }

    /// One look, and what it found run to the end. Helm may end as soon as it is told how a hook ended, and this with it.
    async fn round(&self, seen: &mut BTreeSet<String>, pod: &mut Option<Pod>, runs: &mut Vec<HookRun>) -> Result<()> {
        tokio::time::sleep(LOOK_EVERY).await;
        self.stop_if_gone(pod).await?;
        let agent = pod.as_ref().map(|pod| pod.metrics_address().to_string());
        for hook in self.hooks::<k8s_openapi::api::core::v1::Pod>(seen).await? {
            let run = self.run(&hook.name, &hook.object["spec"], agent.as_deref()).await?;
            let phase = if run.code == 0 { "Succeeded" } else { "Failed" };
            runs.push(run);
            self.say::<k8s_openapi::api::core::v1::Pod>(&hook.name, &json!({"phase": phase}))
                .await?;
        }
        for hook in self.hooks::<Job>(seen).await? {
            let spec = &hook.object["spec"]["template"]["spec"];
            let run = self.run(&hook.name, spec, agent.as_deref()).await?;
            let status = job_status(run.code == 0);
            runs.push(run);
            self.say::<Job>(&hook.name, &status).await?;
        }
        Ok(())
    }

    async fn stop_if_gone(&self, pod: &mut Option<Pod>) -> Result<()> {
        let Some(running) = pod else { return Ok(()) };
        let deployments: Api<Deployment> = Api::namespaced(self.cluster.admin(), self.namespace);
        if deployments.get_opt(self.deployment).await?.is_some() {
            return Ok(());
        }
        if running.pid().is_some() {
            let code = running.terminate().await?;
            if code != 0 {
                bail!("{} ended with {code} at SIGTERM", self.deployment);
            }
        }
        *pod = None;
        Ok(())
    }

    /// Hooks of one kind that nobody has run.
    async fn hooks<K>(&self, seen: &mut BTreeSet<String>) -> Result<Vec<Hook>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize,
        K: std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.cluster.admin(), self.namespace);
        let listed = api.list(&ListParams::default()).await.context("looking for hooks")?;
        let mut found = Vec::new();
        for object in listed {
            let is_new = object.annotations().contains_key(HOOK) && seen.insert(object.uid().unwrap_or_default());
            if is_new && object.meta().deletion_timestamp.is_none() {
                found.push(Hook {
                    name: object.name_any(),
                    object: serde_json::to_value(&object).context("a hook")?,
                });
            }
        }
        Ok(found)
    }

    async fn run(&self, name: &str, spec: &Value, agent: Option<&str>) -> Result<HookRun> {
        let mut container = Container::read(spec, name, self.namespace).with_context(|| format!("hook {name}"))?;
        let mounted = self.folder.access(&format!("mounts-{}-{name}", self.namespace));
        super::mounts::write(&self.cluster.admin(), self.namespace, &mut container, &mounted).await?;
        // Names of Services lead nowhere here: where the agent is asked by its Service's, it is asked where it listens.
        let listens = format!("http://{}", agent.unwrap_or("127.0.0.1:9"));
        container.set_variable("REMOTE_ISTIO_AGENT_URL", listens);
        let account = container.account.clone();
        let kubeconfig = self
            .cluster
            .service_account_kubeconfig(self.namespace, &account, None)
            .await?;
        let log = self.folder.log(&format!("{}-{name}", self.namespace));
        let before = length(&log);
        let line = process(container, &kubeconfig, log.clone())?;
        let code = line.start()?.wait(HOOK_DEADLINE).await?;
        let text = std::fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
        let printed = text.get(before..).unwrap_or_default().to_owned();
        Ok(HookRun {
            name: name.to_owned(),
            code,
            printed,
        })
    }

    async fn say<K>(&self, name: &str, status: &Value) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize,
        K: std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.cluster.admin(), self.namespace);
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("saying how hook {name} ended"))?;
        Ok(())
    }
}

struct Hook {
    name: String,
    object: Value,
}

fn length(log: &Path) -> usize {
    std::fs::metadata(log).map_or(0, |known| usize::try_from(known.len()).unwrap_or(0))
}

/// As the Job controller writes it.
fn job_status(succeeded: bool) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Ran", "message": "run as a process",
            "lastProbeTime": now, "lastTransitionTime": now,
        })
    };
    if succeeded {
        json!({
            "startTime": now, "completionTime": now, "succeeded": 1, "terminating": 0, "ready": 0,
            "uncountedTerminatedPods": {},
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        })
    } else {
        json!({
            "startTime": now, "failed": 1, "terminating": 0, "ready": 0, "uncountedTerminatedPods": {},
            "conditions": [condition("FailureTarget"), condition("Failed")],
        })
    }
}
