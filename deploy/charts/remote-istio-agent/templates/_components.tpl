{{/* Deployments and Services of the components that are enabled, as a YAML list of names. */}}
{{- define "agent.componentNames" -}}
{{- $names := list -}}
{{- if .Values.components.citadel.enabled }}{{ $names = append $names "istio-citadel" }}{{ end -}}
{{- if .Values.components.sidecarInjector.enabled }}{{ $names = append $names "istio-sidecar-injector" }}{{ end -}}
{{- printf "[%s]" (join ", " $names) -}}
{{- end -}}

{{/* Role and binding of each component that is enabled. Call with a dict: root, and annotations for all of them. */}}
{{- define "agent.componentRoles" -}}
{{- $root := .root -}}
{{- $annotations := .annotations -}}
{{- $suffix := include "agent.suffix" $root -}}
{{- if $root.Values.components.citadel.enabled }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: istio-citadel-cluster-role{{ $suffix }}
  labels:
    {{- include "agent.labels" (list $root (dict "app" "security")) | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
rules:
  # Citadel mints a Secret istio.NAME beside every ServiceAccount NAME of every namespace, renews it, and deletes it with
  # its account. It is the one component that may read Secrets everywhere: that is what it is.
  - apiGroups: [""]
    resources: ["secrets"]
    verbs: ["create", "get", "watch", "list", "update", "delete"]
  # Whom it mints for.
  - apiGroups: [""]
    resources: ["serviceaccounts"]
    verbs: ["get", "watch", "list"]
  # Annotations of services say which accounts may stand behind them.
  - apiGroups: [""]
    resources: ["services"]
    verbs: ["get", "watch", "list"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: istio-citadel-cluster-role-binding{{ $suffix }}
  labels:
    {{- include "agent.labels" (list $root (dict "app" "security")) | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: istio-citadel-cluster-role{{ $suffix }}
subjects:
  - kind: ServiceAccount
    name: istio-citadel-service-account
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- if $root.Values.components.sidecarInjector.enabled }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: istio-sidecar-injector-cluster-role{{ $suffix }}
  labels:
    {{- include "agent.labels" (list $root (dict "app" "istio-sidecar-injector")) | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
rules:
  # The two it is configured by. (In 2019 the API group and the resource of this rule were swapped by mistake, so that it
  # granted nothing; the injector reads mounted files. It is put right here, and kept to the two names.)
  - apiGroups: [""]
    resources: ["configmaps"]
    resourceNames: ["istio", "istio-sidecar-injector"]
    verbs: ["get", "watch", "list"]
  # Its own webhook, to look at. On purpose without the right to patch it, which the injector of 2019 had: it patched its
  # CA bundle through an API version that is served no more, and the agent writes the bundle now.
  - apiGroups: ["admissionregistration.k8s.io"]
    resources: ["mutatingwebhookconfigurations"]
    resourceNames: ["istio-sidecar-injector{{ $suffix }}"]
    verbs: ["get", "list", "watch"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: istio-sidecar-injector-cluster-role-binding{{ $suffix }}
  labels:
    {{- include "agent.labels" (list $root (dict "app" "istio-sidecar-injector")) | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: istio-sidecar-injector-cluster-role{{ $suffix }}
subjects:
  - kind: ServiceAccount
    name: istio-sidecar-injector-service-account
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end -}}
