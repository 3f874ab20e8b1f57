//! Somebody who may not make CRDs.

use anyhow::Result;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use support::Cluster;
use support::deploy::NAMESPACE;
use support::release::{Chart, Release};
use support::tools::Tool;

use crate::life::stage::{hub_values, lone, object, run, with};

/// Who may do everything in the cluster but touch CRDs.
async fn installer(cluster: &Cluster) -> Result<std::path::PathBuf> {
    let admin = cluster.admin();
    support::deploy::namespace(&admin, NAMESPACE).await?;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "installer"}}))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
    accounts.create(&PostParams::default(), &account).await?;
    let groups = [
        "",
        "apps",
        "batch",
        "policy",
        "rbac.authorization.k8s.io",
        "networking.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "istio.banzaicloud.io",
    ];
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "installer"},
        "rules": [
            {"apiGroups": groups, "resources": ["*"], "verbs": ["*"]},
            // Also those of the hub's own ClusterRole, which nobody could grant who has them not.
            {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get"],
             "resourceNames": ["remoteistios.istio.banzaicloud.io"]},
        ],
    });
    support::manifest::apply(&admin, role).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "installer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "installer"},
        "subjects": [{"kind": "ServiceAccount", "name": "installer", "namespace": "default"}],
    });
    support::manifest::apply(&admin, binding).await?;
    cluster.service_account_kubeconfig("default", "installer", None).await
}

async fn without_the_right_to_make_crds(helm: Tool) -> Result<()> {
    let central = lone("central").await?;
    let admin = central.admin();
    let kubeconfig = installer(&central).await?;
    let values = hub_values()?;
    let hub = Release::of(&central, Chart::Hub, NAMESPACE, helm)
        .await?
        .as_user(&kubeconfig);
    let said = hub.try_install(&values).await?;
    assert_ne!(said.code, 0, "{}", said.text());
    assert!(said.err.contains("customresourcedefinitions"), "{}", said.err);
    assert!(said.err.contains("forbidden"), "{}", said.err);
    // Nothing runs that would not work.
    let deployment = object(&admin, "apps/v1", "Deployment", "remote-istio-hub").await?;
    assert!(deployment.is_none(), "{deployment:?}");

    // Who may makes the CRDs, as the chart's notes say; the other one installs the rest.
    let crds = support::release::repository().join("deploy/charts/remote-istio-hub/files/crds");
    let administrator = Release::of(&central, Chart::Hub, NAMESPACE, helm).await?;
    let command = format!("kubectl apply --server-side --filename {}", crds.display());
    administrator.helm().shell(&command).await?.success(&command)?;
    let without = with(&values, json!({"crds": {"install": false}}));
    let said = hub.try_upgrade_or_install(&without).await?;
    said.success("helm upgrade --install")?;
    let mut hub = Release::of(&central, Chart::Hub, NAMESPACE, helm).await?;
    hub.launch().await?;
    Ok(())
}

#[test]
fn hub_is_installed_in_two_steps_where_crds_are_not_ones_own_with_helm_3() -> Result<()> {
    run(without_the_right_to_make_crds(Tool::Helm))
}

#[test]
fn hub_is_installed_in_two_steps_where_crds_are_not_ones_own_with_helm_4() -> Result<()> {
    run(without_the_right_to_make_crds(Tool::Helm4))
}
