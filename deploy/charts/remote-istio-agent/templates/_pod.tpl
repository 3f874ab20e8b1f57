{{/* What pod and container may do: the restricted level, and a file system that cannot be written. */}}
{{- define "agent.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "agent.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* Where a pod of this chart may run. */}}
{{- define "agent.placement" -}}
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

{{/* The configuration of agent and check, which is all in the environment: what is run in the pod has it too. */}}
{{- define "agent.environment" -}}
- name: REMOTE_ISTIO_NAMESPACE
  value: {{ .Release.Namespace | quote }}
{{- with .Values.hub.addresses }}
- name: REMOTE_ISTIO_HUB
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.trustDomain }}
- name: REMOTE_ISTIO_TRUST_DOMAIN
  value: {{ . | quote }}
{{- end }}
{{- if .Values.identity.filesSecretName }}
- name: REMOTE_ISTIO_CERTIFICATE
  value: /var/run/secrets/remote-istio-identity/tls.crt
- name: REMOTE_ISTIO_KEY
  value: /var/run/secrets/remote-istio-identity/tls.key
- name: REMOTE_ISTIO_TRUST_BUNDLE
  value: /var/run/secrets/remote-istio-identity/ca.crt
{{- else }}
- name: REMOTE_ISTIO_ENROLMENT
  value: {{ join "," .Values.hub.enrolment | quote }}
- name: REMOTE_ISTIO_PIN
  value: {{ join "," .Values.hub.pins | quote }}
- name: REMOTE_ISTIO_TOKEN_FILE
  value: /var/run/secrets/remote-istio/token
- name: REMOTE_ISTIO_TOKEN_SECRET
  value: {{ .Values.token.secretName | quote }}
- name: REMOTE_ISTIO_IDENTITY_SECRET
  value: {{ .Values.identity.secretName | quote }}
{{- end }}
- name: REMOTE_ISTIO_SERVICE_NAMESPACES
  value: {{ include "agent.serviceNamespaces" . | fromJsonArray | join "," | quote }}
- name: REMOTE_ISTIO_POLICY
  value: /etc/remote-istio/policy.yaml
- name: REMOTE_ISTIO_ENDPOINTS_OBJECTS
  value: {{ .Values.endpointsObjects | quote }}
{{- if .Values.proxy.secretName }}
- name: HTTPS_PROXY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.proxy.secretName | quote }}
      key: https-proxy
{{- else if .Values.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ .Values.proxy.httpsProxy | quote }}
{{- end }}
{{- with .Values.proxy.noProxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
- name: REMOTE_ISTIO_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
- name: REMOTE_ISTIO_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
{{- end -}}

{{- define "agent.volumes" -}}
- name: policy
  configMap:
    name: remote-istio-agent-policy
{{- if .Values.identity.filesSecretName }}
- name: identity
  secret:
    secretName: {{ .Values.identity.filesSecretName | quote }}
    defaultMode: 288 # 0440
{{- else }}
# Not there until somebody joins the remote; the kubelet brings it into the running pod then.
- name: token
  secret:
    secretName: {{ .Values.token.secretName | quote }}
    optional: true
    defaultMode: 288 # 0440
{{- end }}
{{- end -}}

{{- define "agent.mounts" -}}
- name: policy
  mountPath: /etc/remote-istio
  readOnly: true
{{- if .Values.identity.filesSecretName }}
- name: identity
  mountPath: /var/run/secrets/remote-istio-identity
  readOnly: true
{{- else }}
- name: token
  mountPath: /var/run/secrets/remote-istio
  readOnly: true
{{- end }}
{{- end -}}
