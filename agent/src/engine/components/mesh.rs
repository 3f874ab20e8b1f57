//! The mesh configuration: the `ConfigMap` named `istio`, field by field the seed's.

use k8s_openapi::api::core::v1::ConfigMap;
use remote_istio::wire::v1;

use super::{MESH, Settings, map, metadata};

/// The key that the injector mounts.
const KEY: &str = "mesh";

/// Ports of central's services, without and with mutual TLS to the control plane.
struct Ports {
    mixer: u16,
    pilot: u16,
}

/// The configuration as an object.
#[must_use]
pub fn config_map(settings: &Settings, mesh: v1::MeshConfig) -> ConfigMap {
    ConfigMap {
        metadata: metadata(settings, MESH, &[("app", "istio")]),
        data: Some(map(&[(KEY, &text(&settings.namespace, mesh))])),
        ..ConfigMap::default()
    }
}

/// The configuration as YAML. A namespace is a DNS label: it cannot end a quoted text.
#[must_use]
pub fn text(namespace: &str, mesh: v1::MeshConfig) -> String {
    let secure = mesh.control_plane_security;
    let (ports, policy) = if secure {
        let ports = Ports {
            mixer: 15_004,
            pilot: 15_005,
        };
        (ports, "MUTUAL_TLS")
    } else {
        let ports = Ports {
            mixer: 9_091,
            pilot: 15_007,
        };
        (ports, "NONE")
    };
    let Ports { mixer, pilot } = ports;
    format!(
        r#"disablePolicyChecks: false
enableTracing: true
accessLogFile: "/dev/stdout"
mixerCheckServer: "istio-policy.{namespace}.svc.cluster.local:{mixer}"
mixerReportServer: "istio-telemetry.{namespace}.svc.cluster.local:{mixer}"
policyCheckFailOpen: false
sdsUdsPath: ""
sdsRefreshDelay: "15s"
defaultConfig:
  connectTimeout: "10s"
  configPath: "/etc/istio/proxy"
  binaryPath: "/usr/local/bin/envoy"
  serviceCluster: "istio-proxy"
  drainDuration: "45s"
  parentShutdownDuration: "1m0s"
  proxyAdminPort: 15000
  concurrency: 0
  zipkinAddress: "zipkin.{namespace}:9411"
  controlPlaneAuthPolicy: "{policy}"
  discoveryAddress: "istio-pilot.{namespace}:{pilot}"
"#
    )
}
