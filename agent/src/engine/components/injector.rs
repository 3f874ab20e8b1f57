//! The sidecar injector without its webhook: configuration, pods, service.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, ExecAction, KeyToPath, Probe, SecretVolumeSource,
    Service, ServicePort, Volume, VolumeMount,
};
use remote_istio::policy::image;
use remote_istio::wire::v1;

use super::workload::{self, Run, deployment as run, port, security, selecting};
use super::{CONFIGURATION_HASH, INJECTOR, MESH, Settings, map, metadata, template};

/// Its account, which the chart makes.
const ACCOUNT: &str = "istio-sidecar-injector-service-account";
/// The key of its configuration, and the file it becomes.
const CONFIG: &str = "config";
/// Where it serves.
pub const PORT: u16 = 443;
/// What its pods are selected by.
const SELECTOR: &[(&str, &str)] = &[("istio", "sidecar-injector")];
/// On all that is labelled by what it is.
const LABELS: &[(&str, &str)] = &[("app", INJECTOR), ("istio", "sidecar-injector")];

/// Its configuration: the policy and the injection template.
#[must_use]
pub fn config_map(settings: &Settings, injector: &v1::SidecarInjector) -> ConfigMap {
    ConfigMap {
        metadata: metadata(settings, INJECTOR, LABELS),
        data: Some(map(&[(CONFIG, &template::config(injector))])),
        ..ConfigMap::default()
    }
}

/// Its pods, which start anew when what they mount is another: `configuration` is the hash of it.
#[must_use]
pub fn deployment(settings: &Settings, injector: &v1::SidecarInjector, configuration: String) -> Deployment {
    let workload = injector.workload.clone().unwrap_or_default();
    run(
        settings,
        &workload,
        Run {
            name: INJECTOR,
            labels: LABELS,
            selector: SELECTOR,
            annotations: [(CONFIGURATION_HASH.to_owned(), configuration)].into(),
            account: ACCOUNT,
            default_image: image::SIDECAR_INJECTOR,
            container: container(settings),
            volumes: volumes(),
        },
    )
}

/// Where the API server asks.
#[must_use]
pub fn service(settings: &Settings) -> Service {
    let port = ServicePort {
        name: None,
        ..port("", PORT)
    };
    selecting(settings, INJECTOR, SELECTOR, SELECTOR, vec![port])
}

/// Whether it can be rendered.
///
/// # Errors
/// The field and what is wrong with it.
pub fn check(injector: &v1::SidecarInjector) -> Result<(), String> {
    workload::check("sidecarInjector", injector.workload.as_ref())?;
    template::check(injector)
}

fn container(settings: &Settings) -> Container {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Container {
        name: "sidecar-injector-webhook".to_owned(),
        args: Some(arguments(settings)),
        ports: Some(vec![ContainerPort {
            container_port: i32::from(PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe()),
        readiness_probe: Some(probe()),
        security_context: Some(security(&["NET_BIND_SERVICE"])),
        volume_mounts: Some(vec![
            mount("certs", "/etc/istio/certs"),
            mount("config-volume", "/etc/istio/config"),
            mount("inject-config", "/etc/istio/inject"),
        ]),
        ..Container::default()
    }
}

fn arguments(settings: &Settings) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--caCertFile=/etc/istio/certs/root-cert.pem",
        "--tlsCertFile=/etc/istio/certs/cert-chain.pem",
        "--tlsKeyFile=/etc/istio/certs/key.pem",
        "--injectConfig=/etc/istio/inject/config",
        "--meshConfig=/etc/istio/config/mesh",
        "--healthCheckInterval=2s",
        "--healthCheckFile=/health",
    ]
    .map(str::to_owned)
    .into();
    let webhook = super::webhook_name(settings);
    if webhook != INJECTOR {
        arguments.push(format!("--webhookConfigName={webhook}"));
    }
    arguments
}

fn probe() -> Probe {
    let command = [
        "/usr/local/bin/sidecar-injector",
        "probe",
        "--probe-path=/health",
        "--interval=4s",
    ];
    Probe {
        exec: Some(ExecAction {
            command: Some(command.map(str::to_owned).into()),
        }),
        initial_delay_seconds: Some(4),
        period_seconds: Some(4),
        timeout_seconds: Some(1),
        success_threshold: Some(1),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

fn volumes() -> Vec<Volume> {
    let configuration = |volume: &str, name: &str, items: Option<Vec<KeyToPath>>| Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.to_owned(),
            default_mode: Some(0o644),
            items,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let item = KeyToPath {
        key: CONFIG.to_owned(),
        path: CONFIG.to_owned(),
        ..KeyToPath::default()
    };
    vec![
        Volume {
            name: "certs".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(format!("istio.{ACCOUNT}")),
                default_mode: Some(0o644),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        configuration("config-volume", MESH, None),
        configuration("inject-config", INJECTOR, Some(vec![item])),
    ]
}
