{{/* Cluster-wide names tell their namespace, but for the usual one. */}}
{{- define "hub.suffix" -}}
{{- if ne .Release.Namespace "istio-system" }}-{{ .Release.Namespace }}{{ end -}}
{{- end -}}

{{/* What Services and selectors go by: the hub's pods alone. */}}
{{- define "hub.selector" -}}
app.kubernetes.io/name: remote-istio-hub
app.kubernetes.io/component: hub
{{- end -}}

{{/* Labels of an object. Call with a list: the root, and labels that win over the others. */}}
{{- define "hub.labels" -}}
{{- $root := index . 0 -}}
{{- $own := dict
      "app.kubernetes.io/name" "remote-istio-hub"
      "app.kubernetes.io/instance" $root.Release.Name
      "app.kubernetes.io/version" $root.Chart.AppVersion
      "app.kubernetes.io/managed-by" $root.Release.Service
      "helm.sh/chart" (printf "%s-%s" $root.Chart.Name (replace "+" "_" $root.Chart.Version)) -}}
{{- toYaml (mergeOverwrite (dict) $root.Values.commonLabels $own (index . 1)) -}}
{{- end -}}

{{/* Labels of a pod: none that changes with the chart alone. Call with a list: the root, and its component. */}}
{{- define "hub.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := dict "app.kubernetes.io/name" "remote-istio-hub" "app.kubernetes.io/component" (index . 1) -}}
{{- toYaml (mergeOverwrite (dict) $root.Values.commonLabels $root.Values.podLabels $own) -}}
{{- end -}}

{{- define "hub.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* The namespaces whose services are served, as JSON. */}}
{{- define "hub.serviceNamespaces" -}}
{{- .Values.serviceNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{/* Ports that remotes dial. */}}
{{- define "hub.syncPort" -}}
{{- .Values.exposure.syncPort | default (ternary 30444 8444 (eq .Values.exposure.type "NodePort")) | int -}}
{{- end -}}
{{- define "hub.enrolmentPort" -}}
{{- .Values.exposure.enrolmentPort | default (ternary 30443 8443 (eq .Values.exposure.type "NodePort")) | int -}}
{{- end -}}

{{/* Ports of the Service: those that remotes dial, where they dial it. */}}
{{- define "hub.serviceSyncPort" -}}
{{- if has .Values.exposure.type (list "LoadBalancer" "ClusterIP") }}{{ include "hub.syncPort" . }}{{ else }}8444{{ end -}}
{{- end -}}
{{- define "hub.serviceEnrolmentPort" -}}
{{- if has .Values.exposure.type (list "LoadBalancer" "ClusterIP") }}{{ include "hub.enrolmentPort" . }}{{ else }}8443{{ end -}}
{{- end -}}

{{/* HOST:PORT of each host, separated by commas. Call with a list: the root, and the port. */}}
{{- define "hub.addresses" -}}
{{- $root := index . 0 -}}
{{- $port := index . 1 -}}
{{- $hosts := $root.Values.exposure.hosts | default (list (printf "remote-istio-hub.%s.svc" $root.Release.Namespace)) -}}
{{- $all := list -}}
{{- range $hosts -}}
{{- $all = append $all (printf "%s:%s" (ternary (printf "[%s]" .) . (contains ":" .)) $port) -}}
{{- end -}}
{{- join "," $all -}}
{{- end -}}

{{/* Whether the hub follows the address of its load balancer: "true" or nothing. */}}
{{- define "hub.followsService" -}}
{{- if and (eq .Values.exposure.type "LoadBalancer") (not .Values.exposure.hosts) (ne .Values.linkCA.mode "files") }}true{{ end -}}
{{- end -}}
