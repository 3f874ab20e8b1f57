//! What stands before the first change: pods and Services on central, the objects that floor and sequential push write
//! into on every remote.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Endpoints, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use support::{deploy, manifest};

use crate::system::{APP, PODS, SERVICES, System};

/// Where clients of a service without known ports are said to connect; its Endpoints need one.
pub const PLACEHOLDER_PORT: u16 = 65_000;

/// The name of a pod.
pub fn pod_name(service: &str, pod: usize) -> String {
    format!("{service}-{pod}")
}

/// The address of a pod before its first change.
pub fn first_address(system: System, service: usize, pod: usize) -> String {
    format!("10.{}.0.{}", system.range(), service * PODS + pod + 1)
}

/// A status as the kubelet writes it; readiness of the pod stands for that of all its containers.
pub fn pod_status(address: &str, ready: bool) -> Value {
    json!({"status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
    }})
}

/// Everything on central.
///
/// # Errors
/// The API server refuses it.
pub async fn central(client: &Client) -> Result<()> {
    for system in System::ALL {
        deploy::namespace(client, system.namespace()).await?;
        for (index, service) in SERVICES.into_iter().enumerate() {
            manifest::apply(
                client,
                json!({
                    "apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": service, "namespace": system.namespace()},
                    "spec": {"selector": {(APP): service}, "ports": [{"name": "grpc", "port": 15010}]},
                }),
            )
            .await?;
            for pod in 0..PODS {
                create_pod(client, system, service, pod, &first_address(system, index, pod)).await?;
            }
        }
    }
    Ok(())
}

async fn create_pod(client: &Client, system: System, service: &str, pod: usize, address: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), system.namespace());
    let name = pod_name(service, pod);
    let object = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {(APP): service}},
        "spec": {"containers": [{"name": "main", "image": "istio:1.0", "ports": [{"containerPort": 15010}]}]},
    }))
    .context("a pod")?;
    pods.create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("creating pod {name}"))?;
    let status = Patch::Merge(pod_status(address, true));
    pods.patch_status(&name, &PatchParams::default(), &status)
        .await
        .with_context(|| format!("status of pod {name}"))?;
    Ok(())
}

/// The resource that joins a remote to central.
///
/// # Errors
/// The API server refuses it.
pub async fn remote_istio(central: &Client, name: &str) -> Result<()> {
    let services: Vec<Value> = SERVICES
        .iter()
        .map(|service| json!({"name": service, "labelSelector": format!("{APP}={service}")}))
        .collect();
    let resource = json!({
        "apiVersion": "istio.banzaicloud.io/v1beta1", "kind": "RemoteIstio",
        "metadata": {"name": name, "namespace": System::RemoteIstio.namespace()},
        "spec": {"enabledServices": services},
    });
    manifest::apply(central, resource).await.map(|_| ())
}

/// Slices for the floor, Endpoints for the sequential push.
///
/// # Errors
/// The API server refuses them.
pub async fn remote(client: &Client) -> Result<()> {
    let (floor, push) = (System::Floor.namespace(), System::SequentialPush.namespace());
    deploy::namespace(client, floor).await?;
    deploy::namespace(client, push).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), floor);
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), push);
    for (index, service) in SERVICES.into_iter().enumerate() {
        let slice = serde_json::from_value(json!({
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": (0..PODS).map(|pod| endpoint(&first_address(System::Floor, index, pod))).collect::<Vec<_>>(),
            "ports": [{"name": "grpc", "port": 15010, "protocol": "TCP"}],
        }))
        .context("a slice")?;
        slices
            .create(&PostParams::default(), &slice)
            .await
            .with_context(|| format!("creating slice {service}"))?;
        let addresses: Vec<String> = (0..PODS)
            .map(|pod| first_address(System::SequentialPush, index, pod))
            .collect();
        let object = serde_json::from_value(json!({
            "metadata": {"name": service},
            "subsets": subsets(&addresses),
        }))
        .context("Endpoints")?;
        endpoints
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("creating Endpoints {service}"))?;
    }
    Ok(())
}

/// One endpoint of a slice.
pub fn endpoint(address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}})
}

/// The subsets of an Endpoints object.
pub fn subsets(addresses: &[String]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!([{"addresses": addresses, "ports": [{"port": PLACEHOLDER_PORT}]}])
}
