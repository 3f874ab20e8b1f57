{{/* What the schema cannot say, or would say unclearly. */}}
{{- define "agent.checks" -}}
{{- $values := .Values -}}
{{- if $values.identity.filesSecretName -}}
{{- if not $values.hub.addresses -}}
{{- fail "hub.addresses is empty: with identity.filesSecretName nobody tells the agent where the hub listens; give HOST:PORT of its sync port" -}}
{{- end -}}
{{- if or $values.hub.enrolment $values.hub.pins -}}
{{- fail "identity.filesSecretName and hub.enrolment or hub.pins exclude each other: certificates come either from files or by a token" -}}
{{- end -}}
{{- else -}}
{{- range $name, $given := dict "hub.enrolment" $values.hub.enrolment "hub.pins" $values.hub.pins -}}
{{- if not $given -}}
{{- fail (printf "%s is empty: run `remote-istio-hub token create NAME` on central, it prints the command with all values (for an upgrade that changes others: --reuse-values); or give certificates in a Secret, by identity.filesSecretName" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $given := dict "hub.enrolment" $values.hub.enrolment "hub.addresses" $values.hub.addresses -}}
{{- range $given -}}
{{- if not (regexMatch "^([[][0-9A-Fa-f:.]+[]]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?):[1-9][0-9]{0,4}$" .) -}}
{{- fail (printf "%s: %q is not HOST:PORT; write hub.example.com:8443, or [fd00::1]:8443 where the host is an IPv6 address" $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $values.hub.pins -}}
{{- if not (regexMatch "^sha256:[0-9A-Fa-f]{64}$" .) -}}
{{- fail (printf "hub.pins: %q is no pin; write sha256: and 64 hexadecimal digits, as `remote-istio-hub token create` prints it" .) -}}
{{- end -}}
{{- end -}}
{{- range $values.serviceNamespaces -}}
{{- if hasPrefix "kube-" . -}}
{{- fail (printf "serviceNamespaces: %q is a namespace of Kubernetes itself, which nothing is written into: take it out" .) -}}
{{- end -}}
{{- end -}}
{{- if and $values.proxy.httpsProxy (not (hasPrefix "http://" $values.proxy.httpsProxy)) -}}
{{- fail (printf "proxy.httpsProxy: %q is no proxy that the agent can use; write http://HOST:PORT" $values.proxy.httpsProxy) -}}
{{- end -}}
{{- if and $values.proxy.httpsProxy $values.proxy.secretName -}}
{{- fail "proxy.httpsProxy and proxy.secretName exclude each other: the proxy stands either in the values or in a Secret" -}}
{{- end -}}
{{- $served := include "agent.serviceNamespaces" . | fromJsonArray -}}
{{- range $values.policy.namespaces -}}
{{- if not (has . $served) -}}
{{- fail (printf "policy.namespaces: %q is not among serviceNamespaces (%s): the agent has no rights there; name it there too" . (join ", " $served)) -}}
{{- end -}}
{{- end -}}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace "remote-istio-agent" -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there -}}
{{- if and $owner (ne $owner .Release.Name) -}}
{{- fail (printf "namespace %s has an agent already, of release %s: a namespace holds one. Upgrade that one (helm upgrade %s --namespace %s …), or install this one into another namespace" .Release.Namespace $owner $owner .Release.Namespace) -}}
{{- end -}}
{{- end -}}
