//! Namespaces where only restricted pods are admitted.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use support::deploy::NAMESPACE;
use support::manifest::documents;
use support::release::{Chart, Helm};
use support::tools::Tool;

use crate::life::stage::{lone, run};

/// Every pod that a chart would make, by the name of what makes it.
async fn pods(helm: &Helm, chart: Chart, values: &[&str]) -> Result<Vec<(String, Value)>> {
    let path = chart.path();
    let path = path.to_string_lossy();
    let mut arguments = vec![
        "template",
        chart.name(),
        &path,
        "--namespace",
        NAMESPACE,
        "--kube-version",
        "1.33.0",
    ];
    for value in values {
        arguments.extend(["--set", value]);
    }
    let said = helm.run(&arguments).await?;
    said.success("helm template")?;
    let mut pods = Vec::new();
    for document in documents(&said.out)? {
        let template = match document["kind"].as_str() {
            Some("Pod") => document.clone(),
            Some("Deployment" | "Job") => document["spec"]["template"].clone(),
            _ => continue,
        };
        let name = document["metadata"]["name"].as_str().context("a name")?;
        let pod = json!({
            "metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": template["spec"],
        });
        pods.push((format!("{} {name}", document["kind"]), pod));
    }
    Ok(pods)
}

async fn admit(client: &Client, pod: &Value) -> kube::Result<Pod> {
    let pod: Pod = serde_json::from_value(pod.clone()).expect("a pod");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Api::namespaced(client.clone(), NAMESPACE).create(&dry_run, &pod).await
}

#[test]
fn every_pod_of_both_charts_is_admitted_where_restricted_is_enforced() -> Result<()> {
    run(async {
        let cluster = lone("restricted").await?;
        let client = cluster.admin();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {
                "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest",
            }},
        });
        support::manifest::apply(&client, namespace).await?;
        let helm = Helm::of(&cluster, Tool::Helm).await?;
        let mut all = pods(&helm, Chart::Hub, &["replicas=2"]).await?;
        let pin = format!("hub.pins={{sha256:{}}}", "0".repeat(64));
        let agent = ["hub.enrolment={hub.test:8443}", &pin, "onUninstall=Remove"];
        all.extend(pods(&helm, Chart::Agent, &agent).await?);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(names.len() >= 5, "two Deployments, two tests and the end: {names:?}");
        for (name, pod) in &all {
            admit(&client, pod)
                .await
                .with_context(|| format!("{name} is refused: {pod}"))?;
            // The same with one right more is refused: it is really enforced.
            let mut bad = pod.clone();
            bad["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
            let refused = admit(&client, &bad).await.expect_err("refused").to_string();
            ensure!(refused.contains("PodSecurity"), "{name}: {refused}");
        }
        Ok(())
    })
}
