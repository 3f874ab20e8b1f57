//! CRDs go up with the hub's chart, stay at its end, and what was stored under an older one is still there.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::deploy::NAMESPACE;
use support::eventually::{eventually, seen};
use support::release::{Chart, Release};
use support::tools::Tool;
use support::{Cluster, folder::Folder};

use super::stage::{hub_values, lone, object, run};

const CRD: (&str, &str, &str) = (
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "remoteistios.istio.banzaicloud.io",
);

/// A field of today's schema that the older CRD has not.
const YOUNG_FIELD: &str = "paused";

/// The hub's chart as it was before the field came.
fn older_chart(folder: &Folder) -> Result<std::path::PathBuf> {
    let older = folder.data("older-chart");
    copy(&Chart::Hub.path(), &older)?;
    let file = older.join("files/crds/remoteistios.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let mut definition: Value = serde_saphyr::from_str(&text)?;
    let mut taken = 0;
    for version in definition["spec"]["versions"].as_array_mut().context("versions")? {
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        taken += usize::from(spec.as_object_mut().context("fields")?.remove(YOUNG_FIELD).is_some());
    }
    ensure!(taken > 0, "{YOUNG_FIELD} is a field of today's schema");
    std::fs::write(&file, definition.to_string())?;
    Ok(older)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

async fn knows_the_field(cluster: &Cluster) -> Result<bool> {
    let found = object(&cluster.admin(), CRD.0, CRD.1, CRD.2)
        .await?
        .context("the CRD")?;
    let properties = &found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    Ok(!properties["spec"]["properties"][YOUNG_FIELD].is_null())
}

async fn crd_goes_up_and_stays(helm: Tool) -> Result<()> {
    let central = lone("central").await?;
    let admin = central.admin();
    let values = hub_values()?;
    let mut hub = Release::of(&central, Chart::Hub, NAMESPACE, helm).await?;
    hub.use_chart(&older_chart(central.folder())?);
    hub.try_install(&values)
        .await?
        .success("helm install of the older chart")?;
    assert!(!knows_the_field(&central).await?);
    let before = object(&admin, CRD.0, CRD.1, CRD.2).await?.context("the CRD")?;
    eventually("the API server serves it", || async {
        let resource = json!({
            "apiVersion": "istio.banzaicloud.io/v1beta1", "kind": "RemoteIstio",
            "metadata": {"name": "remote-1", "namespace": NAMESPACE},
            "spec": {"enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot"}]},
        });
        let applied = support::manifest::apply(&admin, resource).await;
        seen(applied.is_ok(), applied.err())
    })
    .await;

    hub.use_chart(&Chart::Hub.path());
    hub.upgrade(&values).await?;
    assert!(knows_the_field(&central).await?, "helm upgrade brings the newer CRD");
    hub.rollback(1).await?;
    assert!(!knows_the_field(&central).await?, "a rollback is one of the CRD too");
    hub.upgrade(&values).await?;
    let without = super::stage::with(&values, json!({"crds": {"install": false}}));
    hub.upgrade(&without).await?;
    assert!(
        knows_the_field(&central).await?,
        "it stays when the chart no longer brings it"
    );
    hub.upgrade(&values).await?;
    hub.uninstall().await?;
    let after = object(&admin, CRD.0, CRD.1, CRD.2)
        .await?
        .context("the CRD stays at uninstall")?;
    assert_eq!(
        after["metadata"]["uid"], before["metadata"]["uid"],
        "the same CRD all along"
    );
    let kept = object(&admin, "istio.banzaicloud.io/v1beta1", "RemoteIstio", "remote-1").await?;
    assert!(kept.is_some(), "and so does what was stored under it");

    // Another release name, as of somebody who starts anew: helm says whose it is, and takes it when told to.
    let anew = Release::of(&central, Chart::Hub, NAMESPACE, helm)
        .await?
        .named("another-name");
    let said = anew.try_install(&values).await?;
    if said.code != 0 {
        assert!(said.text().contains("remote-istio-hub"), "{}", said.text());
    }
    Ok(())
}

#[test]
fn crd_goes_up_with_the_chart_and_stays_at_uninstall_with_helm_3() -> Result<()> {
    run(crd_goes_up_and_stays(Tool::Helm))
}

#[test]
fn crd_goes_up_with_the_chart_and_stays_at_uninstall_with_helm_4() -> Result<()> {
    run(crd_goes_up_and_stays(Tool::Helm4))
}
