{{/* What pod and container may do: the restricted level, and a file system that cannot be written. */}}
{{- define "hub.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "hub.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* Where a pod of this chart may run. */}}
{{- define "hub.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How hubs spread. */}}
{{- define "hub.spread" -}}
{{- $selector := dict "matchLabels" (include "hub.selector" . | fromYaml) -}}
{{- $constraints := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (merge (dict) . (dict "labelSelector" $selector)) -}}
{{- end -}}
{{- if and (not $constraints) (gt (int .Values.replicas) 1) -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector) -}}
{{- end -}}
{{- end -}}
{{- with $constraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The configuration of the hub, which is all in the environment: the commands that people run in the pod have it too. */}}
{{- define "hub.environment" -}}
- name: REMOTE_ISTIO_NAMESPACE
  value: {{ .Release.Namespace | quote }}
- name: REMOTE_ISTIO_SERVICE_NAMESPACES
  value: {{ include "hub.serviceNamespaces" . | fromJsonArray | join "," | quote }}
{{- with .Values.trustDomain }}
- name: REMOTE_ISTIO_TRUST_DOMAIN
  value: {{ . | quote }}
{{- end }}
- name: REMOTE_ISTIO_LINK_CA
  value: {{ .Values.linkCA.mode | quote }}
{{- if eq .Values.linkCA.mode "files" }}
- name: REMOTE_ISTIO_CERTIFICATE
  value: /var/run/secrets/remote-istio-identity/tls.crt
- name: REMOTE_ISTIO_KEY
  value: /var/run/secrets/remote-istio-identity/tls.key
- name: REMOTE_ISTIO_TRUST_BUNDLE
  value: /var/run/secrets/remote-istio-identity/ca.crt
{{- else }}
- name: REMOTE_ISTIO_LINK_CA_SECRET
  value: {{ .Values.linkCA.secretName | quote }}
{{- if include "hub.followsService" . }}
- name: REMOTE_ISTIO_PUBLIC_SERVICE
  value: remote-istio-hub
{{- else }}
- name: REMOTE_ISTIO_PUBLIC_SYNC
  value: {{ include "hub.addresses" (list . (include "hub.syncPort" .)) | quote }}
- name: REMOTE_ISTIO_PUBLIC_ENROLMENT
  value: {{ include "hub.addresses" (list . (include "hub.enrolmentPort" .)) | quote }}
{{- end }}
{{- with .Values.certificateLifetime }}
- name: REMOTE_ISTIO_CERTIFICATE_LIFETIME
  value: {{ . | quote }}
{{- end }}
{{- with .Values.recoveryPeriod }}
- name: REMOTE_ISTIO_RECOVERY_PERIOD
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .Values.meshCA.sign }}
- name: REMOTE_ISTIO_SIGN_MESH_CA
  value: "true"
{{- with .Values.meshCA.secretName }}
- name: REMOTE_ISTIO_MESH_CA_SECRET
  value: {{ . | quote }}
{{- end }}
{{- with .Values.meshCA.certificateLifetime }}
- name: REMOTE_ISTIO_MESH_CERTIFICATE_LIFETIME
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.agentChart }}
- name: REMOTE_ISTIO_AGENT_CHART
  value: {{ . | quote }}
{{- end }}
- name: REMOTE_ISTIO_DELETION_LIMIT
  value: {{ .Values.deletionLimit | int | quote }}
- name: REMOTE_ISTIO_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
- name: REMOTE_ISTIO_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
{{- end -}}
