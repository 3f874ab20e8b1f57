{{/* Annotations of what is there only while the remote is left. Call with the weight. */}}
{{- define "agent.leaveHook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* In each namespace with mirrored services. Patch lets go of what is to stay. */}}
{{- define "agent.leaveRules" -}}
- apiGroups: [""]
  resources: ["services", "endpoints"]
  verbs: ["list", "watch", "patch", "delete"]
- apiGroups: ["discovery.k8s.io"]
  resources: ["endpointslices"]
  verbs: ["list", "watch", "patch", "delete"]
{{- end -}}
