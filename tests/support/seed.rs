//! The control plane of the 2019 walk, as Deployments without containers, and the resource that joins a remote to it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::deploy::NAMESPACE;

/// One Deployment of the control plane with its Service.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The Deployment.
    pub deployment: &'static str,
    /// The Service on central, and on every remote that enables it.
    pub service: &'static str,
    /// The label that the blog selects its pods by.
    pub selector: (&'static str, &'static str),
    /// More labels of its pods.
    labels: &'static [(&'static str, &'static str)],
    /// Name and number of the Service's ports.
    ports: &'static [(&'static str, u16)],
}

impl Part {
    /// As `kubectl --selector` takes it.
    #[must_use]
    pub fn label_selector(&self) -> String {
        format!("{}={}", self.selector.0, self.selector.1)
    }
}

const MIXER_PORTS: &[(&str, u16)] = &[
    ("grpc-mixer", 9091),
    ("grpc-mixer-mtls", 15004),
    ("http-monitoring", 9093),
];

/// Pilot, policy, telemetry and jaeger, with the ports of the 1.0 line.
pub const PARTS: [Part; 4] = [
    Part {
        deployment: "istio-pilot",
        service: "istio-pilot",
        selector: ("istio", "pilot"),
        labels: &[("app", "pilot")],
        ports: &[
            ("grpc-xds", 15010),
            ("https-xds", 15011),
            ("http-legacy-discovery", 8080),
            ("http-monitoring", 9093),
        ],
    },
    Part {
        deployment: "istio-policy",
        service: "istio-policy",
        selector: ("istio-mixer-type", "policy"),
        labels: &[("app", "policy"), ("istio", "mixer")],
        ports: MIXER_PORTS,
    },
    Part {
        deployment: "istio-telemetry",
        service: "istio-telemetry",
        selector: ("istio-mixer-type", "telemetry"),
        labels: &[("app", "telemetry"), ("istio", "mixer")],
        ports: MIXER_PORTS,
    },
    Part {
        deployment: "jaeger",
        service: "zipkin",
        selector: ("app", "jaeger"),
        labels: &[],
        ports: &[("http", 9411)],
    },
];

/// Deployments and Services of the control plane; every pod runs on `node`.
#[must_use]
pub fn control_plane(node: &str) -> Vec<Value> {
    PARTS
        .iter()
        .flat_map(|part| [deployment(part, node), service(part)])
        .collect()
}

fn deployment(part: &Part, node: &str) -> Value {
    let selector = json!({(part.selector.0): part.selector.1});
    let mut labels = selector.clone();
    for (name, value) in part.labels {
        labels[name] = json!(value);
    }
    let ports: Vec<Value> = part
        .ports
        .iter()
        .map(|(_, port)| json!({"containerPort": port}))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": part.deployment, "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeName": node,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "main", "image": "istio:1.0", "ports": ports}],
                },
            },
        },
    })
}

fn service(part: &Part) -> Value {
    let ports: Vec<Value> = part
        .ports
        .iter()
        .map(|(name, port)| json!({"name": name, "port": port}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": part.service, "namespace": NAMESPACE},
        "spec": {"selector": {(part.selector.0): part.selector.1}, "ports": ports},
    })
}

/// The blog's `RemoteIstio` under another name.
#[must_use]
pub fn remote_istio(name: &str) -> String {
    let mut text = format!(
        "apiVersion: istio.banzaicloud.io/v1beta1\n\
         kind: RemoteIstio\n\
         metadata:\n\
         \x20 labels:\n\
         \x20   controller-tools.k8s.io: \"1.0\"\n\
         \x20 name: {name}\n\
         \x20 namespace: {NAMESPACE}\n\
         spec:\n\
         \x20 autoInjectionNamespaces:\n\
         \x20 - \"default\"\n\
         \x20 includeIPRanges: \"*\"\n\
         \x20 excludeIPRanges: \"\"\n\
         \x20 enabledServices:\n"
    );
    let services = [
        ("istio-pilot", "istio=pilot"),
        ("istio-policy", "istio-mixer-type=policy"),
        ("istio-statsd", "statsd-prom-bridge"),
        ("istio-telemetry", "istio-mixer-type=telemetry"),
        ("zipkin", "app=jaeger"),
    ];
    for (service, selector) in services {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - name: \"{service}\"\n    labelSelector: \"{selector}\"");
    }
    text.push_str(
        "  controlPlaneSecurityEnabled: false\n  citadel:\n      replicaCount: 1\n  sidecarInjector:\n      replicaCount: 1\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::documents;

    #[test]
    fn the_blogs_resource_is_yaml_with_its_five_services() -> anyhow::Result<()> {
        let documents = documents(&remote_istio("remote-1"))?;
        assert_eq!(documents.len(), 1);
        assert_eq!(documents[0]["metadata"]["name"], "remote-1");
        assert_eq!(
            documents[0]["spec"]["enabledServices"][4],
            json!({"name": "zipkin", "labelSelector": "app=jaeger"})
        );
        assert_eq!(documents[0]["spec"]["sidecarInjector"], json!({"replicaCount": 1}));
        Ok(())
    }
}
