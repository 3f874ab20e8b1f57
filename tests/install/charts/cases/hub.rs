//! Cases of the hub's chart.

use super::Case;

/// What a Prometheus operator and a gateway API say of themselves.
const GATEWAY: &[&str] = &["--api-versions", "gateway.networking.k8s.io/v1/TLSRoute"];
const EARLIER_GATEWAY: &[&str] = &["--api-versions", "gateway.networking.k8s.io/v1alpha2/TLSRoute"];

pub(super) const CASES: &[Case] = &[
    Case::hub("default", "{}"),
    Case::hub("elsewhere", "{}").in_namespace("mesh-2"),
    Case::hub(
        "load-balancer",
        r"
exposure:
  hosts: [hub.example.com, 192.0.2.7, '2001:db8::7']
  syncPort: 444
  enrolmentPort: 443
  annotations: {example.com/scheme: internal}
  loadBalancerClass: example.com/inner
  loadBalancerSourceRanges: [192.0.2.0/24, '2001:db8::/32']
",
    ),
    Case::hub(
        "node-port",
        "exposure: {type: NodePort, hosts: [node-1.example.com, 192.0.2.8], enrolmentPort: 31443}",
    ),
    Case::hub("cluster-ip", "exposure: {type: ClusterIP}"),
    Case::hub(
        "gateway",
        r"
exposure:
  type: Gateway
  hosts: [hub.example.com]
  syncPort: 443
  enrolmentPort: 8443
  gateway:
    parentRefs: [{name: mesh, namespace: gateways}]
    syncListener: tls-sync
",
    )
    .with_flags(GATEWAY),
    Case::hub(
        "earlier-gateway",
        "exposure: {type: Gateway, hosts: [hub.example.com], gateway: {parentRefs: [{name: mesh}]}}",
    )
    .with_flags(EARLIER_GATEWAY),
    Case::hub(
        "brought-ca",
        r"
linkCA: {mode: secret, secretName: mesh-link-ca}
certificateLifetime: 12h
recoveryPeriod: 30d
trustDomain: mesh.example.com
",
    ),
    Case::hub(
        "certificate-files",
        "linkCA: {mode: files, filesSecretName: hub-tls}\nnetworkPolicy: {enabled: true}",
    ),
    Case::hub("mesh-ca", "meshCA: {sign: true}"),
    Case::hub(
        "named-mesh-ca",
        "meshCA: {sign: true, secretName: mesh-root, certificateLifetime: 90d}",
    ),
    Case::hub("without-crds", "crds: {install: false}"),
    Case::hub("service-namespaces", "serviceNamespaces: [istio-system, tracing]"),
    Case::hub("only-others", "serviceNamespaces: [tracing, metrics]"),
    Case::hub(
        "only-others-behind-a-name",
        "serviceNamespaces: [tracing]\nexposure: {hosts: [hub.example.com]}",
    ),
    Case::hub("replicas", "replicas: 3"),
    Case::hub(
        "everything",
        r"
replicas: 2
image: {registry: registry.example.com/team/, repository: mesh/hub, digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', pullPolicy: Always}
imagePullSecrets: [{name: pull}]
agentChart: oci://registry.example.com/charts/remote-istio-agent
deletionLimit: 20
logFormat: text
logLevel: info,remote_istio_hub=debug
resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: '2', memory: 2Gi}}
podDisruptionBudget: {maxUnavailable: 50%}
topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
priorityClassName: system-cluster-critical
nodeSelector: {disk: fast}
tolerations: [{key: mesh, operator: Exists, effect: NoSchedule}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
commonLabels: {team: mesh}
podLabels: {cost: '7'}
podAnnotations: {example.com/inject: 'false'}
serviceAccount: {annotations: {example.com/role: hub}}
networkPolicy:
  enabled: true
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  apiServerPorts: [443]
monitoring:
  serviceMonitor: {enabled: true, interval: 1m, labels: {release: prometheus}}
  podMonitor: {enabled: true}
",
    ),
];
