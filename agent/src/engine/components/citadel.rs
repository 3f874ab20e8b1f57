//! Citadel: the CA of the remote's workloads. It signs with the Secret `cacerts`, the remote's own intermediate.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Probe, SecretVolumeSource, Service, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use remote_istio::policy::image;
use remote_istio::wire::v1;

use super::workload::{Run, deployment as run, port, security, selecting};
use super::{CACERTS_HASH, CITADEL, Facts, Settings, map};

/// Its account, which the chart makes.
const ACCOUNT: &str = "istio-citadel-service-account";
/// Where it signs.
const GRPC_PORT: u16 = 8_060;
/// Its own metrics.
const MONITORING_PORT: u16 = 9_093;
/// Secret and volume of what it signs with.
const CACERTS: &str = "cacerts";
/// Where that is mounted.
const CACERTS_PATH: &str = "/etc/cacerts";
/// What its pods are selected by.
const SELECTOR: &[(&str, &str)] = &[("istio", "citadel")];

/// Citadel's pods.
#[must_use]
pub fn deployment(settings: &Settings, facts: &Facts, citadel: &v1::Citadel) -> Deployment {
    let workload = citadel.workload.clone().unwrap_or_default();
    let trust: Vec<(&str, &str)> = facts
        .trust_hash()
        .map(|hash| (CACERTS_HASH, hash))
        .into_iter()
        .collect();
    run(
        settings,
        &workload,
        Run {
            name: CITADEL,
            labels: &[("app", "security"), ("istio", "citadel")],
            selector: SELECTOR,
            annotations: map(&trust),
            account: ACCOUNT,
            default_image: image::CITADEL,
            container: container(&settings.namespace),
            volumes: vec![volume()],
        },
    )
}

/// Where workloads that ask for certificates themselves find it.
#[must_use]
pub fn service(settings: &Settings) -> Service {
    let ports = vec![
        port("grpc-citadel", GRPC_PORT),
        port("http-monitoring", MONITORING_PORT),
    ];
    selecting(settings, CITADEL, &[("app", CITADEL)], SELECTOR, ports)
}

fn container(namespace: &str) -> Container {
    let listening = |number: u16, name: &str| ContainerPort {
        container_port: i32::from(number),
        name: Some(name.to_owned()),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        name: "citadel".to_owned(),
        args: Some(arguments(namespace)),
        ports: Some(vec![
            listening(GRPC_PORT, "grpc-citadel"),
            listening(MONITORING_PORT, "http-monitoring"),
        ]),
        readiness_probe: Some(probe(2, 5)),
        liveness_probe: Some(probe(15, 10)),
        security_context: Some(security(&[])),
        volume_mounts: Some(vec![VolumeMount {
            name: CACERTS.to_owned(),
            mount_path: CACERTS_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn arguments(namespace: &str) -> Vec<String> {
    let name = |service: &str| format!("{service}-service-account.{namespace}:{service}.{namespace}");
    vec![
        "--append-dns-names=true".to_owned(),
        format!("--grpc-port={GRPC_PORT}"),
        "--grpc-hostname=citadel".to_owned(),
        format!("--citadel-storage-namespace={namespace}"),
        format!(
            "--custom-dns-names={},{}",
            name("istio-pilot"),
            name("istio-ingressgateway")
        ),
        "--self-signed-ca=false".to_owned(),
        format!("--signing-cert={CACERTS_PATH}/ca-cert.pem"),
        format!("--signing-key={CACERTS_PATH}/ca-key.pem"),
        format!("--root-cert={CACERTS_PATH}/root-cert.pem"),
        format!("--cert-chain={CACERTS_PATH}/cert-chain.pem"),
    ]
}

/// It listens there once it has read what it signs with.
fn probe(delay: i32, period: i32) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::Int(i32::from(GRPC_PORT)),
            ..TCPSocketAction::default()
        }),
        initial_delay_seconds: Some(delay),
        period_seconds: Some(period),
        timeout_seconds: Some(1),
        success_threshold: Some(1),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

fn volume() -> Volume {
    Volume {
        name: CACERTS.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(CACERTS.to_owned()),
            default_mode: Some(0o644),
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}
