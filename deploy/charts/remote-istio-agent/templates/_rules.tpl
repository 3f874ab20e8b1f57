{{/* Services and their addresses, in each namespace that the hub may write into. */}}
{{- define "agent.serviceRules" -}}
# The mirrored services and their addresses. The watches see foreign objects too, so that those are left alone and
# their going is noticed; a new object is created by POST, an owned one is patched by server-side apply.
- apiGroups: [""]
  resources: ["services"]
  verbs: ["list", "watch", "create", "patch", "delete"]
- apiGroups: ["discovery.k8s.io"]
  resources: ["endpointslices"]
  verbs: ["list", "watch", "create", "patch", "delete"]
{{- if .Values.endpointsObjects }}
- apiGroups: [""]
  resources: ["endpoints"]
  verbs: ["list", "watch", "create", "patch", "delete"]
{{- else }}
# Those of before endpointsObjects was switched off are taken away.
- apiGroups: [""]
  resources: ["endpoints"]
  verbs: ["list", "watch", "delete"]
{{- end }}
{{- end -}}
