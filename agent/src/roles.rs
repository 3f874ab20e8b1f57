//! Whether a component's account, role and binding are there. They are made with the agent's installation and never by
//! the agent, so that nobody who speaks to it can have one made; without them the component's pods could do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Error};
use remote_istio::model::Component;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::apply::explain;
use crate::driver::Finding;
use crate::engine::Wants;

/// Between two looks while something is missing.
const MISSING_LOOK: Duration = Duration::from_secs(5);

/// Between two looks while everything is there.
const LOOK: Duration = Duration::from_mins(1);

/// Where cluster-wide names do not tell their remote: the seed's namespace.
const SEED_NAMESPACE: &str = "istio-system";

/// What a component's pods act by.
struct Names {
    account: &'static str,
    role: &'static str,
    binding: &'static str,
    /// The chart's value that makes them.
    value: &'static str,
}

/// Nothing for what runs no pods.
fn names(component: Component) -> Option<Names> {
    match component {
        Component::Citadel => Some(Names {
            account: "istio-citadel-service-account",
            role: "istio-citadel-cluster-role",
            binding: "istio-citadel-cluster-role-binding",
            value: "components.citadel.enabled",
        }),
        Component::Injector => Some(Names {
            account: "istio-sidecar-injector-service-account",
            role: "istio-sidecar-injector-cluster-role",
            binding: "istio-sidecar-injector-cluster-role-binding",
            value: "components.sidecarInjector.enabled",
        }),
        Component::Rules | Component::Mesh | Component::Trust => None,
    }
}

impl Names {
    fn role(&self, namespace: &str) -> String {
        of_namespace(self.role, namespace)
    }

    fn binding(&self, namespace: &str) -> String {
        of_namespace(self.binding, namespace)
    }
}

/// Each installation has its own cluster-wide objects, so that one can go without taking another's along.
fn of_namespace(name: &str, namespace: &str) -> String {
    if namespace == SEED_NAMESPACE {
        name.to_owned()
    } else {
        format!("{name}-{namespace}")
    }
}

type Found = BTreeMap<Component, Result<(), String>>;

/// Looks after the roles of what is wanted until `stop`, and tells what is new.
pub async fn run(
    client: Client,
    namespace: String,
    mut wants: watch::Receiver<Wants>,
    findings: mpsc::Sender<Finding>,
    stop: CancellationToken,
) {
    let looking = async {
        let mut known = Found::new();
        loop {
            let wanted = wants.borrow_and_update().components.clone();
            let found = look(&client, &namespace, &wanted, &known).await;
            if found != known {
                log(&known, &found);
                known.clone_from(&found);
                if findings.send(Finding::Roles(found)).await.is_err() {
                    break;
                }
            }
            wait(&mut wants, &known, &wanted).await;
        }
        // The driver has ended; so does the process.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

async fn wait(wants: &mut watch::Receiver<Wants>, known: &Found, wanted: &BTreeSet<Component>) {
    let is_there = |component| known.get(component).is_some_and(Result::is_ok);
    let pause = if wanted.iter().all(is_there) {
        LOOK
    } else {
        MISSING_LOOK
    };
    let other = async {
        loop {
            match wants.changed().await {
                Ok(()) if wants.borrow().components == *wanted => {}
                Ok(()) => return,
                Err(_) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = other => {}
        () = sleep(pause) => {}
    }
}

fn log(known: &Found, found: &Found) {
    for (component, result) in found
        .iter()
        .filter(|(component, result)| known.get(*component) != Some(*result))
    {
        let component = component.as_str();
        match result {
            Ok(()) => tracing::info!(%component, "the component's account, role and binding are there"),
            Err(missing) => tracing::warn!(%component, %missing, "the component cannot be run"),
        }
    }
}

/// What stands there now; what cannot be looked at counts as it was known.
async fn look(client: &Client, namespace: &str, wanted: &BTreeSet<Component>, known: &Found) -> Found {
    let mut found = Found::new();
    for component in wanted {
        let Some(names) = names(*component) else { continue };
        let result = match of_component(client, namespace, &names).await {
            Ok(result) => Some(result),
            Err(error) => {
                let error = explain(&error);
                tracing::debug!(component = component.as_str(), %error, "roles cannot be looked at");
                let unknown = || Err(format!("its account, role and binding cannot be looked at: {error}"));
                Some(known.get(component).cloned().unwrap_or_else(unknown))
            }
        };
        found.extend(result.map(|result| (*component, result)));
    }
    found
}

/// The inner error says what is missing and what to do.
async fn of_component(client: &Client, namespace: &str, names: &Names) -> Result<Result<(), String>, Error> {
    let accounts = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(client.clone(), namespace);
    let roles = Api::<PartialObjectMeta<ClusterRole>>::all(client.clone());
    let bindings = Api::<ClusterRoleBinding>::all(client.clone());
    let (role_name, binding_name) = (names.role(namespace), names.binding(namespace));
    let (account, role, binding) = tokio::join!(
        accounts.get_metadata_opt(names.account),
        roles.get_metadata_opt(&role_name),
        bindings.get_opt(&binding_name)
    );
    let mut missing = Vec::new();
    for (kind, name, there) in [
        (
            "ServiceAccount",
            names.account.to_owned(),
            permitted(account)?.map(|found| found.is_some()),
        ),
        (
            "ClusterRole",
            role_name.clone(),
            permitted(role)?.map(|found| found.is_some()),
        ),
    ] {
        match there {
            Ok(true) => {}
            Ok(false) => missing.push(format!("{kind} {name} is missing")),
            Err(forbidden) => missing.push(format!("{kind} {name} {forbidden}")),
        }
    }
    match permitted(binding)? {
        Ok(Some(binding)) if binds(&binding, namespace, names) => {}
        Ok(Some(_)) => missing.push(format!(
            "ClusterRoleBinding {binding_name} does not bind ServiceAccount {namespace}/{} to ClusterRole {role_name}",
            names.account
        )),
        Ok(None) => missing.push(format!("ClusterRoleBinding {binding_name} is missing")),
        Err(forbidden) => missing.push(format!("ClusterRoleBinding {binding_name} {forbidden}")),
    }
    if missing.is_empty() {
        return Ok(Ok(()));
    }
    Ok(Err(format!(
        "{}: set {}=true of chart remote-istio-agent, or apply deploy/roles/components.yaml",
        missing.join(", "),
        names.value
    )))
}

/// Rights that are missing are cured as the roles are: by the same installation.
/// The API server's own words are long, three of them would leave no room for what to do.
fn permitted<T>(answer: Result<T, Error>) -> Result<Result<T, &'static str>, Error> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(Error::Api(status)) if status.code == 403 => Ok(Err("may not be looked at")),
        Err(error) => Err(error),
    }
}

fn binds(binding: &ClusterRoleBinding, namespace: &str, names: &Names) -> bool {
    let subjects = binding.subjects.iter().flatten();
    let is_bound = subjects.into_iter().any(|subject| {
        subject.kind == "ServiceAccount"
            && subject.name == names.account
            && subject.namespace.as_deref() == Some(namespace)
    });
    is_bound && binding.role_ref.kind == "ClusterRole" && binding.role_ref.name == names.role(namespace)
}

#[cfg(test)]
mod tests;
