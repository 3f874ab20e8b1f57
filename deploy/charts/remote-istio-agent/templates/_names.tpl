{{/* Cluster-wide names tell their namespace, but for the usual one. */}}
{{- define "agent.suffix" -}}
{{- if ne .Release.Namespace "istio-system" }}-{{ .Release.Namespace }}{{ end -}}
{{- end -}}

{{/* What Services and selectors go by: the agent's pod alone. */}}
{{- define "agent.selector" -}}
app.kubernetes.io/name: remote-istio-agent
app.kubernetes.io/component: agent
{{- end -}}

{{/* Labels of an object. Call with a list: the root, and labels that win over the others. */}}
{{- define "agent.labels" -}}
{{- $root := index . 0 -}}
{{- $own := dict
      "app.kubernetes.io/name" "remote-istio-agent"
      "app.kubernetes.io/instance" $root.Release.Name
      "app.kubernetes.io/version" $root.Chart.AppVersion
      "app.kubernetes.io/managed-by" $root.Release.Service
      "helm.sh/chart" (printf "%s-%s" $root.Chart.Name (replace "+" "_" $root.Chart.Version)) -}}
{{- toYaml (mergeOverwrite (dict) $root.Values.commonLabels $own (index . 1)) -}}
{{- end -}}

{{/* Labels of a pod: none that changes with the chart alone. Call with a list: the root, and its component. */}}
{{- define "agent.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := dict "app.kubernetes.io/name" "remote-istio-agent" "app.kubernetes.io/component" (index . 1) -}}
{{- toYaml (mergeOverwrite (dict) $root.Values.commonLabels $root.Values.podLabels $own) -}}
{{- end -}}

{{- define "agent.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* The namespaces that services are written into, as JSON. */}}
{{- define "agent.serviceNamespaces" -}}
{{- .Values.serviceNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{/* The policy, with the components that are enabled where it names none. */}}
{{- define "agent.policy" -}}
{{- $policy := deepCopy .Values.policy -}}
{{- if not (hasKey $policy "components") -}}
{{- $enabled := list -}}
{{- if .Values.components.citadel.enabled }}{{ $enabled = append $enabled "citadel" }}{{ end -}}
{{- if .Values.components.sidecarInjector.enabled }}{{ $enabled = append $enabled "sidecarInjector" }}{{ end -}}
{{- if $enabled }}{{ $_ := set $policy "components" $enabled }}{{ end -}}
{{- end -}}
{{- toYaml $policy -}}
{{- end -}}
