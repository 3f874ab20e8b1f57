//! The hub's chart: values that exclude each other, and what a release keeps on a real API server.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use support::release::{Chart, Release};
use support::render::Renderer;
use support::tools::Tool;
use support::{Cluster, ClusterOptions};

const NAMESPACE: &str = "istio-system";

const LINK_CA: &str = "remote-istio-link-ca";

/// Values that cannot be, and what the message has.
const REFUSED: &[(&str, &str)] = &[
    ("nosuch: 1", "nosuch"),
    ("exposure: {host: [a]}", "host"),
    ("replicas: 0", "replicas"),
    ("exposure: {type: Ingress}", "exposure"),
    (
        "exposure: {hosts: ['hub.example.com:8444']}",
        "exposure.hosts: \"hub.example.com:8444\" is not a name or address alone",
    ),
    ("exposure: {hosts: ['[2001:db8::7]']}", "leave out port and brackets"),
    (
        "exposure: {hosts: ['hub_1 ']}",
        "exposure.hosts: \"hub_1 \" is neither a name nor an address",
    ),
    (
        "exposure: {type: NodePort}",
        "exposure.hosts is empty: with exposure.type NodePort nobody tells the hub by which names or addresses remotes dial the nodes",
    ),
    (
        "exposure: {type: Gateway, gateway: {parentRefs: [{name: a}]}}",
        "exposure.hosts is empty: with exposure.type Gateway",
    ),
    (
        "exposure: {type: Gateway, hosts: [a.example.com]}",
        "exposure.gateway.parentRefs is empty",
    ),
    (
        "exposure: {type: Gateway, hosts: [192.0.2.1], gateway: {parentRefs: [{name: a}]}}",
        "exposure.hosts: \"192.0.2.1\" is an address",
    ),
    (
        "exposure: {syncPort: 443, enrolmentPort: 443}",
        "exposure.syncPort and exposure.enrolmentPort are both 443",
    ),
    (
        "exposure: {type: ClusterIP, loadBalancerClass: a}",
        "exposure.loadBalancerClass is given, but exposure.type is ClusterIP",
    ),
    ("linkCA: {mode: files}", "linkCA.filesSecretName is empty"),
    (
        "linkCA: {filesSecretName: a}",
        "linkCA.filesSecretName is given, but linkCA.mode is made",
    ),
    (
        "linkCA: {mode: files, filesSecretName: a}\ncertificateLifetime: 1h",
        "certificateLifetime is given, but linkCA.mode is files",
    ),
    (
        "meshCA: {secretName: a}",
        "meshCA.secretName is given, but meshCA.sign is false",
    ),
    (
        "certificateLifetime: a day",
        "certificateLifetime: \"a day\" is no time",
    ),
    (
        "meshCA: {sign: true, certificateLifetime: 1y}",
        "meshCA.certificateLifetime: \"1y\" is no time",
    ),
    ("deletionLimit: 0", "deletionLimit"),
];

#[test]
fn value_that_cannot_be_is_refused_by_its_name() -> Result<()> {
    for tool in [Tool::Helm, Tool::Helm4] {
        let helm = Renderer::new(tool)?;
        for (values, expected) in REFUSED {
            let said = helm.template(Chart::Hub, NAMESPACE, values, &[])?;
            assert_ne!(said.code, 0, "{tool:?} takes {values}");
            assert!(said.err.contains(expected), "{tool:?} with {values}: {}", said.err);
        }
    }
    Ok(())
}

#[test]
fn cluster_below_the_supported_version_is_refused() -> Result<()> {
    for tool in [Tool::Helm, Tool::Helm4] {
        let helm = Renderer::new(tool)?;
        for (version, is_taken) in [("1.32.9", false), ("1.33.0", true), ("1.33.0-gke.100", true)] {
            let said = helm.template(Chart::Hub, NAMESPACE, "{}", &["--kube-version", version])?;
            assert_eq!(said.code == 0, is_taken, "{tool:?} and {version}: {}", said.err);
            assert!(is_taken || said.err.contains(">=1.33.0"), "{}", said.err);
        }
    }
    Ok(())
}

async fn cluster(name: &str, helm: Tool) -> Result<Cluster> {
    Cluster::start(ClusterOptions::named(&format!("{name}-{helm:?}").to_lowercase())).await
}

/// UID and data of the CA's Secret.
async fn link_ca(cluster: &Cluster) -> Result<(Option<String>, Value)> {
    let secret = Api::<Secret>::namespaced(cluster.admin(), NAMESPACE)
        .get(LINK_CA)
        .await?;
    Ok((secret.uid(), serde_json::to_value(secret.data)?))
}

async fn definitions(cluster: &Cluster) -> Result<Vec<Option<String>>> {
    let all = Api::<CustomResourceDefinition>::all(cluster.admin())
        .list(&ListParams::default())
        .await?;
    Ok(all.items.iter().map(kube::ResourceExt::uid).collect())
}

async fn ca_and_definitions_stay(tool: Tool, forces: &[&[&str]]) -> Result<()> {
    let cluster = cluster("hub-life", tool).await?;
    let mut release = Release::install(&cluster, Chart::Hub, NAMESPACE, &json!({}), tool).await?;
    let filled = json!({"data": {"tls.key": "a2V5", "tls.crt": "Y2VydA=="}});
    Api::<Secret>::namespaced(cluster.admin(), NAMESPACE)
        .patch(LINK_CA, &PatchParams::default(), &Patch::Merge(filled))
        .await?;
    let (ca, crds) = (link_ca(&cluster).await?, definitions(&cluster).await?);
    assert_eq!(crds.len(), 3);
    let same = async |when: &str| -> Result<()> {
        assert_eq!(link_ca(&cluster).await?, ca, "{when}");
        assert_eq!(definitions(&cluster).await?, crds, "{when}");
        Ok(())
    };

    release
        .upgrade(&json!({"logLevel": "debug", "commonLabels": {"team": "mesh"}}))
        .await?;
    same("after an upgrade").await?;
    release
        .upgrade(&json!({"linkCA": {"mode": "files", "filesSecretName": "files"}}))
        .await?;
    same("with certificates from files").await?;
    release.rollback(1).await?;
    same("after a rollback").await?;
    let chart = Chart::Hub.path().to_string_lossy().into_owned();
    for force in forces {
        let upgrade = [
            "upgrade",
            Chart::Hub.name(),
            &chart,
            "--reuse-values",
            "--namespace",
            NAMESPACE,
        ];
        let said = release.helm().run(&[&upgrade[..], force].concat()).await?;
        said.success("helm upgrade")?;
        same(&format!("after an upgrade with {force:?}")).await?;
    }
    release.upgrade(&json!({"crds": {"install": false}})).await?;
    same("without the CRDs in the release").await?;
    release.upgrade(&json!({"crds": {"install": true}})).await?;
    same("with the CRDs taken over again").await?;
    release.uninstall().await?;
    same("after the uninstallation").await?;
    let mut again = Release::install(&cluster, Chart::Hub, NAMESPACE, &json!({}), tool).await?;
    same("after the second installation").await?;
    again.uninstall().await?;

    let other = Release::of(&cluster, Chart::Hub, NAMESPACE, tool).await?.named("other");
    let said = other.try_install(&json!({})).await?;
    assert!(
        said.code != 0 && said.err.contains("cannot be imported into the current release"),
        "{}",
        said.text()
    );
    let install = [
        "upgrade",
        "--install",
        "other",
        &chart,
        "--namespace",
        NAMESPACE,
        "--take-ownership",
    ];
    let said = other.helm().run(&install).await?;
    said.success("helm upgrade --install --take-ownership")?;
    same("after an installation under another name").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_and_definitions_stay_with_helm_3() -> Result<()> {
    ca_and_definitions_stay(Tool::Helm, &[&["--force"]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_and_definitions_stay_with_helm_4() -> Result<()> {
    let forces: [&[&str]; 3] = [
        &["--force-conflicts"],
        &["--server-side=false"],
        &["--force-replace", "--server-side=false"],
    ];
    ca_and_definitions_stay(Tool::Helm4, &forces).await
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_holds_one_hub() -> Result<()> {
    for tool in [Tool::Helm, Tool::Helm4] {
        let cluster = cluster("hub-twice", tool).await?;
        let values = json!({"serviceNamespaces": [NAMESPACE]});
        let _first = Release::install(&cluster, Chart::Hub, NAMESPACE, &values, tool).await?;
        let second = Release::of(&cluster, Chart::Hub, NAMESPACE, tool)
            .await?
            .named("second");
        let said = second.try_install(&values).await?;
        let told = "namespace istio-system has a hub already, of release remote-istio-hub: a namespace holds one";
        assert!(said.code != 0 && said.err.contains(told), "{tool:?}: {}", said.text());
        let beside = json!({"crds": {"install": false}});
        Release::install(&cluster, Chart::Hub, "mesh-2", &beside, tool)
            .await
            .context("another namespace")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_say_whether_the_load_balancer_has_an_address() -> Result<()> {
    let cluster = cluster("hub-notes", Tool::Helm).await?;
    let release = Release::of(&cluster, Chart::Hub, NAMESPACE, Tool::Helm).await?;
    let said = release.try_install(&json!({})).await?;
    said.success("helm install")?;
    assert!(
        said.out.contains("Its load balancer has no address yet"),
        "{}",
        said.out
    );
    let token =
        "kubectl --namespace istio-system exec deploy/remote-istio-hub -- /remote-istio-hub token create remote-1";
    assert!(said.out.contains(token), "{}", said.out);

    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}});
    Api::<k8s_openapi::api::core::v1::Service>::namespaced(cluster.admin(), NAMESPACE)
        .patch_status("remote-istio-hub", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    let said = release.try_upgrade(&json!({})).await?;
    said.success("helm upgrade")?;
    assert!(
        said.out.contains("Remotes dial it at 192.0.2.7, ports 8444 and 8443."),
        "{}",
        said.out
    );
    Ok(())
}
