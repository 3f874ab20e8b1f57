//! The pod of a chart's Deployment as a process.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::{Value, json};
use tokio::process::Command;

use super::container::Container;
use super::mounts;
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::guardian::CommandLine;
use crate::pair::{Daemon, Said, program};
use crate::ports;

/// One command inside of the pod.
const EXEC_DEADLINE: Duration = Duration::from_mins(2);

/// What listens where inside of the container, by the name of its flag.
const LISTENERS: [(&str, u16); 2] = [("sync-address", 8444), ("enrolment-address", 8443)];

/// One pod; it ends with the handle.
#[derive(Debug)]
pub struct Pod {
    namespace: String,
    deployment: String,
    template: Value,
    kubeconfig: PathBuf,
    folder: Arc<Folder>,
    daemon: Daemon,
}

impl Pod {
    /// What the Deployment says, not yet started. Of the hub's ports, those that its Service has stand here under the
    /// Service's number: give it a number that is free.
    ///
    /// # Errors
    /// There is no such Deployment, a volume is missing, or its account is.
    pub async fn of_deployment(
        cluster: &Cluster,
        namespace: &str,
        deployment: &str,
        folder: &Arc<Folder>,
    ) -> Result<Self> {
        let template = template(cluster, namespace, deployment).await?;
        let account = template["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let kubeconfig = cluster.service_account_kubeconfig(namespace, account, None).await?;
        let metrics_address = ports::free()?;
        let mut pod = Self {
            namespace: namespace.to_owned(),
            deployment: deployment.to_owned(),
            daemon: Daemon::new(CommandLine::new(deployment, "", ""), metrics_address),
            template,
            kubeconfig,
            folder: Arc::clone(folder),
        };
        *pod.daemon.command_mut() = pod.line(cluster).await?;
        Ok(pod)
    }

    /// Follows its Deployment: a changed template is started anew and waited for, changed volumes are only written.
    ///
    /// # Errors
    /// It does not stop, or does not become ready.
    pub async fn roll(&mut self, cluster: &Cluster) -> Result<()> {
        let template = template(cluster, &self.namespace, &self.deployment).await?;
        let changed = template != self.template;
        self.template = template;
        *self.daemon.command_mut() = self.line(cluster).await?;
        if !changed {
            return Ok(());
        }
        if self.daemon.pid().is_some() {
            let code = self.daemon.terminate().await?;
            ensure!(code == 0, "{} ended with {code} at SIGTERM", self.deployment);
        }
        self.daemon.start()?;
        self.daemon.ready().await
    }

    /// Runs the pod's program with other arguments to its end, as `kubectl exec` would.
    ///
    /// # Errors
    /// It does not start or does not end; a command that fails is none.
    pub async fn exec(&self, arguments: &[&str]) -> Result<Said> {
        let line = self.daemon.command();
        let running = Command::new(&line.program)
            .args(arguments)
            .envs(line.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(EXEC_DEADLINE, running)
            .await
            .with_context(|| format!("{arguments:?} has not ended after {EXEC_DEADLINE:?}"))?
            .with_context(|| format!("running {}", line.program.display()))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    async fn line(&self, cluster: &Cluster) -> Result<CommandLine> {
        let name = format!("{}-0", self.deployment);
        let mut container = Container::read(&self.template["spec"], &name, &self.namespace)?;
        let mounted = self
            .folder
            .access(&format!("mounts-{}-{}", self.namespace, self.deployment));
        mounts::write(&cluster.admin(), &self.namespace, &mut container, &mounted).await?;
        let services: Api<Service> = Api::namespaced(cluster.admin(), &self.namespace);
        let service = services.get_opt(&self.deployment).await?;
        let service = service.map_or(Value::Null, |service| json!(service));
        let ports = &self.template["spec"]["containers"][0]["ports"];
        for (flag, inside) in LISTENERS {
            if let Some(port) = public_port(ports, &service, inside) {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                container.take_flag(flag);
                container.set_variable(&variable(flag), address.to_string());
            }
        }
        container.take_flag("metrics-address");
        container.set_variable(&variable("metrics-address"), self.daemon.metrics_address().to_string());
        let log = self.folder.log(&format!("{}-{}", self.namespace, self.deployment));
        process(container, &self.kubeconfig, log)
    }
}

/// The command line of a container whose paths and ports are those of this machine.
pub(super) fn process(mut container: Container, kubeconfig: &Path, log: PathBuf) -> Result<CommandLine> {
    container.take_flag("kubeconfig");
    container.set_variable("REMOTE_ISTIO_KUBECONFIG", kubeconfig.to_string_lossy().into_owned());
    let mut line = CommandLine::new(&container.program, program(&container.program)?, log);
    line.arguments = container.arguments.iter().map(Into::into).collect();
    for (name, value) in container.environment {
        line.set_variable(&name, value);
    }
    Ok(line)
}

fn variable(flag: &str) -> String {
    format!("REMOTE_ISTIO_{}", flag.to_uppercase().replace('-', "_"))
}

/// Which port of the Service leads to this one of the container, by its number or its name.
fn public_port(container_ports: &Value, service: &Value, inside: u16) -> Option<u16> {
    let ports = container_ports.as_array()?;
    let name = &ports.iter().find(|port| port["containerPort"] == inside)?["name"];
    let leading = service["spec"]["ports"].as_array()?.iter().find(|port| {
        let target = &port["targetPort"];
        *target == inside || (target == name && target.is_string())
    })?;
    u16::try_from(leading["port"].as_u64()?).ok()
}

async fn template(cluster: &Cluster, namespace: &str, deployment: &str) -> Result<Value> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), namespace);
    let found = deployments
        .get(deployment)
        .await
        .with_context(|| format!("reading Deployment {namespace}/{deployment}"))?;
    let found = serde_json::to_value(found).context("a Deployment")?;
    Ok(found["spec"]["template"].clone())
}

impl Deref for Pod {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Pod {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_leads_to_a_container_port_by_name_or_number() {
        let ports = json!([{"name": "sync", "containerPort": 8444}, {"name": "enrolment", "containerPort": 8443}]);
        let service = json!({"spec": {"ports": [
            {"port": 20_001, "targetPort": "sync"}, {"port": 20_002, "targetPort": 8443},
        ]}});
        assert_eq!(public_port(&ports, &service, 8444), Some(20_001));
        assert_eq!(public_port(&ports, &service, 8443), Some(20_002));
        assert_eq!(public_port(&ports, &service, 8080), None);
        assert_eq!(
            public_port(
                &ports,
                &json!({"spec": {"ports": [{"port": 1, "targetPort": "x"}]}}),
                8444
            ),
            None
        );
    }
}
