//! Cases of the agent's chart.

use super::Case;

/// What the join command gives, before more.
macro_rules! joined {
    ($more:literal) => {
        concat!(
            "hub: {enrolment: ['hub.example.com:8443'], ",
            "pins: ['sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']}\n",
            $more
        )
    };
}

pub(super) const CASES: &[Case] = &[
    Case::agent("default", joined!("")),
    Case::agent("elsewhere", joined!("")).in_namespace("mesh-2"),
    Case::agent(
        "certificate-files",
        "hub: {addresses: ['hub.example.com:8444', '[2001:db8::7]:8444']}\nidentity: {filesSecretName: agent-tls}",
    ),
    Case::agent("citadel", joined!("components: {citadel: {enabled: true}}")),
    Case::agent("injector", joined!("components: {sidecarInjector: {enabled: true}}")),
    Case::agent(
        "components-elsewhere",
        joined!("components: {citadel: {enabled: true}, sidecarInjector: {enabled: true}}"),
    )
    .in_namespace("mesh-2"),
    Case::agent(
        "components-and-others-services",
        joined!("components: {citadel: {enabled: true}, sidecarInjector: {enabled: true}}\nserviceNamespaces: [shop]"),
    ),
    Case::agent(
        "service-namespaces",
        joined!("serviceNamespaces: [istio-system, shop, web]\nendpointsObjects: false"),
    ),
    Case::agent("remove", joined!("onUninstall: Remove")),
    Case::agent(
        "remove-everything",
        joined!(
            r"
onUninstall: Remove
serviceNamespaces: [shop]
components: {citadel: {enabled: true}, sidecarInjector: {enabled: true}}
"
        ),
    )
    .in_namespace("mesh-2"),
    Case::agent(
        "policy",
        joined!(
            r"
policy:
  components: [citadel]
  namespaces: [shop]
  imageRegistries: [docker.io/istio, 'registry.example:5000/mesh']
  endpointRanges: [10.0.0.0/8, 'fd00::/8', 192.0.2.7]
  injectionNamespaces: ['*']
  mostRemovals: 25
  privilegedProxy: false
serviceNamespaces: [istio-system, shop]
"
        ),
    ),
    Case::agent(
        "proxy-in-a-secret",
        joined!("proxy: {secretName: agent-proxy, noProxy: '10.0.0.1,.example.com'}"),
    ),
    Case::agent(
        "everything",
        r"
image: {registry: registry.example.com/team/, repository: mesh/agent, digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', pullPolicy: Always}
imagePullSecrets: [{name: pull}]
hub:
  enrolment: ['hub.example.com:443', '[2001:db8::7]:30443']
  pins:
    - sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    - sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
  addresses: ['hub.example.com:9444']
trustDomain: mesh.example.com
token: {secretName: our-token}
identity: {secretName: our-identity}
components: {sidecarInjector: {enabled: true}}
onUninstall: Remove
proxy: {httpsProxy: 'http://proxy.example.com:3128/', noProxy: 10.0.0.1}
logFormat: text
logLevel: info,remote_istio_agent=debug
resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: '2', memory: 2Gi}}
priorityClassName: system-cluster-critical
nodeSelector: {disk: fast}
tolerations: [{key: mesh, operator: Exists, effect: NoSchedule}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
commonLabels: {team: mesh, app.kubernetes.io/name: nothing-that-counts}
podLabels: {cost: '7', app.kubernetes.io/component: nothing-that-counts}
podAnnotations: {example.com/inject: 'false'}
serviceAccount: {annotations: {example.com/role: agent}}
networkPolicy:
  enabled: true
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  apiServerPorts: [443]
  egressPorts: [7000]
monitoring:
  serviceMonitor: {enabled: true, interval: 1m, labels: {release: prometheus}}
  podMonitor: {enabled: true}
",
    ),
];
