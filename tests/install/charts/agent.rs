//! The agent's chart on a real API server, with both Helms: what a release makes, keeps, and takes away.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use support::release::{Chart, Release};
use support::tools::Tool;
use support::{Cluster, ClusterOptions};

const NAMESPACE: &str = "istio-system";

const IDENTITY: &str = "remote-istio-agent-identity";

/// Roles of components where the agent is in the usual namespace, with the accounts they are bound to.
const COMPONENTS: [(&str, &str); 2] = [
    ("istio-citadel-cluster-role", "istio-citadel-service-account"),
    (
        "istio-sidecar-injector-cluster-role",
        "istio-sidecar-injector-service-account",
    ),
];

/// The values that the join command gives, and more.
fn values(more: &Value) -> Value {
    let mut values = json!({
        "hub": {"enrolment": ["hub.example.com:8443"], "pins": [format!("sha256:{}", "ab".repeat(32))]},
    });
    for (name, value) in more.as_object().expect("an object") {
        values[name] = value.clone();
    }
    values
}

fn with_components() -> Value {
    values(&json!({"components": {"citadel": {"enabled": true}, "sidecarInjector": {"enabled": true}}}))
}

async fn cluster(name: &str, helm: Tool) -> Result<Cluster> {
    Cluster::start(ClusterOptions::named(&format!("{name}-{helm:?}").to_lowercase())).await
}

async fn helm(release: &Release<'_>, arguments: &[&str]) -> Result<()> {
    let said = release
        .helm()
        .run(&[arguments, &["--namespace", release.namespace()]].concat())
        .await?;
    said.success(&format!("helm {}", arguments.join(" ")))
}

/// UID and data of the identity's Secret.
async fn identity(cluster: &Cluster, namespace: &str) -> Result<(String, Vec<(String, Vec<u8>)>)> {
    let secret = Api::<Secret>::namespaced(cluster.admin(), namespace)
        .get(IDENTITY)
        .await?;
    let uid = secret.uid().context("a UID")?;
    let data = secret.data.unwrap_or_default().into_iter();
    Ok((uid, data.map(|(key, value)| (key, value.0)).collect()))
}

/// As an agent does that has joined.
async fn fill_identity(cluster: &Cluster, namespace: &str) -> Result<()> {
    let filled = json!({"data": {"tls.key": "a2V5", "tls.crt": "Y2VydA=="}});
    let secrets = Api::<Secret>::namespaced(cluster.admin(), namespace);
    secrets
        .patch(IDENTITY, &PatchParams::default(), &Patch::Merge(filled))
        .await?;
    Ok(())
}

/// Which of the components' cluster-wide roles stand, bound.
async fn bound_roles(cluster: &Cluster) -> Result<Vec<&'static str>> {
    let roles = Api::<ClusterRole>::all(cluster.admin());
    let bindings = Api::<ClusterRoleBinding>::all(cluster.admin());
    let mut found = Vec::new();
    for (role, _) in COMPONENTS {
        let is_bound = bindings.get_opt(&format!("{role}-binding")).await?.is_some();
        if roles.get_opt(role).await?.is_some() && is_bound {
            found.push(role);
        }
    }
    Ok(found)
}

async fn identity_is_never_emptied(tool: Tool, forces: &[&[&str]]) -> Result<()> {
    let cluster = cluster("agent-identity", tool).await?;
    let mut release = Release::install(&cluster, Chart::Agent, NAMESPACE, &values(&json!({})), tool).await?;
    fill_identity(&cluster, NAMESPACE).await?;
    let filled = identity(&cluster, NAMESPACE).await?;
    let (name, chart) = (Chart::Agent.name(), Chart::Agent.path());
    let chart = chart.to_string_lossy().into_owned();

    release
        .upgrade(&values(&json!({"logLevel": "debug", "commonLabels": {"team": "mesh"}})))
        .await?;
    assert_eq!(identity(&cluster, NAMESPACE).await?, filled, "after an upgrade");
    let files = json!({"hub": {"addresses": ["hub.example.com:8444"]}, "identity": {"filesSecretName": "files"}});
    release.upgrade(&files).await?;
    assert_eq!(
        identity(&cluster, NAMESPACE).await?,
        filled,
        "with certificates from files"
    );
    release.rollback(1).await?;
    assert_eq!(identity(&cluster, NAMESPACE).await?, filled, "after a rollback");
    for force in forces {
        helm(
            &release,
            &[&["upgrade", name, &chart, "--reuse-values"], *force].concat(),
        )
        .await?;
        assert_eq!(
            identity(&cluster, NAMESPACE).await?,
            filled,
            "after an upgrade with {force:?}"
        );
    }
    release.uninstall().await?;
    assert_eq!(identity(&cluster, NAMESPACE).await?, filled, "after the uninstallation");
    // A release of another name takes it over as well.
    let other = Release::of(&cluster, Chart::Agent, NAMESPACE, tool)
        .await?
        .named("other");
    let said = other.try_install(&values(&json!({}))).await?;
    said.success("helm install")?;
    assert!(said.out.contains("This remote has joined before"), "{}", said.out);
    assert_eq!(
        identity(&cluster, NAMESPACE).await?,
        filled,
        "after the second installation"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_is_never_emptied_by_helm_3() -> Result<()> {
    identity_is_never_emptied(Tool::Helm, &[&["--force"]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_is_never_emptied_by_helm_4() -> Result<()> {
    let forces: [&[&str]; 3] = [
        &["--force-conflicts"],
        &["--server-side=false"],
        &["--force-replace", "--server-side=false"],
    ];
    identity_is_never_emptied(Tool::Helm4, &forces).await
}

async fn components_keep_running_by_the_rights_they_have(tool: Tool) -> Result<()> {
    let cluster = cluster("agent-components", tool).await?;
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin(), NAMESPACE);
    let uids = async || {
        let mut uids = Vec::new();
        for (_, account) in COMPONENTS {
            uids.push(accounts.get(account).await?.uid());
        }
        anyhow::Ok(uids)
    };
    let all: Vec<_> = COMPONENTS.iter().map(|(role, _)| *role).collect();

    let mut release = Release::install(&cluster, Chart::Agent, NAMESPACE, &with_components(), tool).await?;
    let made = uids().await?;
    assert_eq!(bound_roles(&cluster).await?, all);
    release.upgrade(&values(&json!({}))).await?;
    assert_eq!(
        bound_roles(&cluster).await?,
        [""; 0],
        "a component that is disabled has no rights"
    );
    release.rollback(1).await?;
    assert_eq!(bound_roles(&cluster).await?, all, "a rollback brings them back");
    release.uninstall().await?;
    assert_eq!(
        bound_roles(&cluster).await?,
        all,
        "components run on where the agent goes with Keep"
    );
    assert_eq!(uids().await?, made, "and so under the same accounts");
    let mut release = Release::install(&cluster, Chart::Agent, NAMESPACE, &with_components(), tool).await?;
    assert_eq!(uids().await?, made);
    release.upgrade(&values(&json!({}))).await?;
    assert_eq!(
        bound_roles(&cluster).await?,
        [""; 0],
        "what was kept belongs to the next release"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn components_keep_running_by_the_rights_they_have_with_helm_3() -> Result<()> {
    components_keep_running_by_the_rights_they_have(Tool::Helm).await
}

#[tokio::test(flavor = "multi_thread")]
async fn components_keep_running_by_the_rights_they_have_with_helm_4() -> Result<()> {
    components_keep_running_by_the_rights_they_have(Tool::Helm4).await
}

async fn namespace_holds_one_agent(tool: Tool) -> Result<()> {
    let cluster = cluster("agent-twice", tool).await?;
    let first = Release::install(&cluster, Chart::Agent, NAMESPACE, &with_components(), tool).await?;
    let second = Release::of(&cluster, Chart::Agent, NAMESPACE, tool)
        .await?
        .named("second");
    let said = second.try_install(&with_components()).await?;
    assert_ne!(said.code, 0, "{}", said.out);
    let told = "namespace istio-system has an agent already, of release remote-istio-agent: a namespace holds one";
    assert!(said.err.contains(told), "{}", said.err);

    let roles = Api::<Role>::namespaced(cluster.admin(), NAMESPACE);
    let of_first = roles.get("remote-istio-agent").await?;
    let served = json!({
        "serviceNamespaces": [NAMESPACE, "mesh-2"],
        "components": {"citadel": {"enabled": true}, "sidecarInjector": {"enabled": true}},
    });
    let mut other = Release::install(&cluster, Chart::Agent, "mesh-2", &values(&served), tool).await?;
    let granted = roles.get("remote-istio-agent-mesh-2").await?.rules.unwrap_or_default();
    let resources: Vec<_> = granted
        .into_iter()
        .flat_map(|rule| rule.resources.unwrap_or_default())
        .collect();
    assert_eq!(
        resources,
        ["services", "endpointslices", "endpoints"],
        "all that another namespace's agent may write"
    );
    assert_eq!(bound_roles(&cluster).await?.len(), COMPONENTS.len());
    other.uninstall().await?;
    assert_eq!(
        roles.get("remote-istio-agent").await?,
        of_first,
        "what is of one is not of the other"
    );
    assert!(roles.get_opt("remote-istio-agent-mesh-2").await?.is_none());
    first.try_upgrade(&with_components()).await?.success("helm upgrade")
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_holds_one_agent_with_helm_3() -> Result<()> {
    namespace_holds_one_agent(Tool::Helm).await
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_holds_one_agent_with_helm_4() -> Result<()> {
    namespace_holds_one_agent(Tool::Helm4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_component_is_granted_its_own_and_nothing_of_the_other() -> Result<()> {
    let cluster = cluster("agent-one", Tool::Helm).await?;
    let roles = Api::<Role>::namespaced(cluster.admin(), NAMESPACE);
    let cluster_roles = Api::<ClusterRole>::all(cluster.admin());
    let granted = async || {
        let own = roles
            .get("remote-istio-agent-components")
            .await?
            .rules
            .unwrap_or_default();
        let wide = cluster_roles
            .get("remote-istio-agent-components")
            .await?
            .rules
            .unwrap_or_default();
        anyhow::Ok(serde_json::to_string(&[own, wide])?)
    };
    let one = |name: &str| values(&json!({"components": {name: {"enabled": true}}}));

    let mut release = Release::install(&cluster, Chart::Agent, NAMESPACE, &one("citadel"), Tool::Helm).await?;
    let citadel = granted().await?;
    assert!(
        citadel.contains("cacerts") && !citadel.contains("webhook") && !citadel.contains("injector"),
        "{citadel}"
    );
    assert_eq!(bound_roles(&cluster).await?, ["istio-citadel-cluster-role"]);
    release.upgrade(&one("sidecarInjector")).await?;
    let injector = granted().await?;
    assert!(
        injector.contains("mutatingwebhook") && !injector.contains("cacerts"),
        "{injector}"
    );
    assert!(!injector.contains("citadel"), "{injector}");
    assert_eq!(bound_roles(&cluster).await?, ["istio-sidecar-injector-cluster-role"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_say_what_is_missing() -> Result<()> {
    let cluster = cluster("agent-notes", Tool::Helm).await?;
    let release = Release::of(&cluster, Chart::Agent, "mesh-2", Tool::Helm).await?;
    let said = release.try_install(&values(&json!({}))).await?;
    said.success("helm install")?;
    assert!(said.out.contains("The agent waits for a join token"), "{}", said.out);
    let command = "kubectl create secret generic remote-istio-agent-token --namespace mesh-2";
    assert!(said.out.contains(command), "{}", said.out);

    let token: Secret = serde_json::from_value(json!({
        "metadata": {"name": "remote-istio-agent-token"}, "data": {"token": "dG9rZW4="},
    }))?;
    Api::namespaced(cluster.admin(), "mesh-2")
        .create(&PostParams::default(), &token)
        .await?;
    let disallowed = json!({"components": {"citadel": {"enabled": true}}, "policy": {"components": []}});
    let said = release.try_upgrade(&values(&disallowed)).await?;
    said.success("helm upgrade")?;
    assert!(
        said.out
            .contains("joins by the token in Secret remote-istio-agent-token"),
        "{}",
        said.out
    );
    assert!(said.out.contains("policy.components does not allow it"), "{}", said.out);
    Ok(())
}

/// Values that cannot be, and what the message has.
fn refused() -> [(Value, &'static str); 14] {
    let pin = json!(format!("sha256:{}", "ab".repeat(32)));
    [
        (json!({"nosuch": 1}), "nosuch"),
        (
            json!({"hub": {}}),
            "hub.enrolment is empty: run `remote-istio-hub token create NAME`",
        ),
        (json!({"hub": {"enrolment": ["hub:8443"]}}), "hub.pins is empty"),
        (
            json!({"hub": {"enrolment": "hub:8443", "pins": [pin]}}),
            "/hub/enrolment",
        ),
        (
            json!({"hub": {"enrolment": ["fd00::1:8443"], "pins": [pin]}}),
            "hub.enrolment: \"fd00::1:8443\" is not HOST:PORT",
        ),
        (
            json!({"hub": {"enrolment": ["hub:8443"], "pins": ["sha256:12"]}}),
            "hub.pins: \"sha256:12\" is no pin",
        ),
        (json!({"endpointsObjects": "true"}), "/endpointsObjects"),
        (json!({"onUninstall": "Delete"}), "/onUninstall"),
        (json!({"policy": {"services": []}}), "services"),
        (
            json!({"policy": {"namespaces": ["shop"]}}),
            "policy.namespaces: \"shop\" is not among serviceNamespaces",
        ),
        (
            json!({"serviceNamespaces": ["kube-system"]}),
            "serviceNamespaces: \"kube-system\" is a namespace of Kubernetes",
        ),
        (
            json!({"proxy": {"httpsProxy": "https://p:1"}}),
            "proxy.httpsProxy: \"https://p:1\"",
        ),
        (
            json!({"hub": {}, "identity": {"filesSecretName": "files"}}),
            "hub.addresses is empty",
        ),
        (json!({"resources": {"limit": {"memory": "1Gi"}}}), "limit"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_cannot_be_is_refused_by_its_name() -> Result<()> {
    let cluster = cluster("agent-values", Tool::Helm).await?;
    for tool in [Tool::Helm, Tool::Helm4] {
        let release = Release::of(&cluster, Chart::Agent, NAMESPACE, tool).await?;
        for (more, expected) in refused() {
            let said = release.try_install(&values(&more)).await?;
            assert_ne!(said.code, 0, "{tool:?} takes {more}");
            assert!(said.err.contains(expected), "{tool:?} with {more}: {}", said.err);
        }
    }
    let deployments = Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(cluster.admin(), NAMESPACE);
    assert_eq!(
        deployments.list(&ListParams::default()).await?.items.len(),
        0,
        "nothing was installed by halves"
    );
    Ok(())
}
