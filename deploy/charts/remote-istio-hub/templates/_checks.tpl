{{/* What the schema cannot say, or would say unclearly. */}}
{{- define "hub.checks" -}}
{{- $values := .Values -}}
{{- $exposure := $values.exposure -}}
{{- if and (has $exposure.type (list "NodePort" "Gateway")) (not $exposure.hosts) -}}
{{- fail (printf "exposure.hosts is empty: with exposure.type %s nobody tells the hub by which names or addresses remotes dial %s; list them" $exposure.type (ternary "the nodes" "the gateway" (eq $exposure.type "NodePort"))) -}}
{{- end -}}
{{- range $exposure.hosts -}}
{{- if regexMatch "^(\\[.*\\](:[0-9]+)?|[^:]*:[0-9]*)$" . -}}
{{- fail (printf "exposure.hosts: %q is not a name or address alone: leave out port and brackets, ports are exposure.syncPort and exposure.enrolmentPort" .) -}}
{{- end -}}
{{- if not (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$" .) -}}
{{- fail (printf "exposure.hosts: %q is neither a name nor an address; write hub.example.com, 192.0.2.7 or 2001:db8::7" .) -}}
{{- end -}}
{{- end -}}
{{- $times := dict "certificateLifetime" $values.certificateLifetime "recoveryPeriod" $values.recoveryPeriod "meshCA.certificateLifetime" $values.meshCA.certificateLifetime -}}
{{- range $name, $time := $times -}}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h|d) ?)*$" $time) -}}
{{- fail (printf "%s: %q is no time: write a number and its unit, as 30m, 24h or 90d" $name $time) -}}
{{- end -}}
{{- end -}}
{{- if eq $exposure.type "Gateway" -}}
{{- if not $exposure.gateway.parentRefs -}}
{{- fail "exposure.gateway.parentRefs is empty: with exposure.type Gateway, name the gateway whose listeners pass TLS through" -}}
{{- end -}}
{{- range $exposure.hosts -}}
{{- if or (contains ":" .) (regexMatch "^[0-9.]+$" .) -}}
{{- fail (printf "exposure.hosts: %q is an address: a gateway tells connections apart by the name that is dialled, so give names" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq (include "hub.syncPort" .) (include "hub.enrolmentPort" .) -}}
{{- fail (printf "exposure.syncPort and exposure.enrolmentPort are both %s: they are two listeners, so give two ports" (include "hub.syncPort" .)) -}}
{{- end -}}
{{- if ne $exposure.type "LoadBalancer" -}}
{{- range $name := list "loadBalancerClass" "loadBalancerSourceRanges" -}}
{{- if index $exposure $name -}}
{{- fail (printf "exposure.%s is given, but exposure.type is %s: it is for LoadBalancer alone" $name $exposure.type) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq $values.linkCA.mode "files" -}}
{{- if not $values.linkCA.filesSecretName -}}
{{- fail "linkCA.filesSecretName is empty: with linkCA.mode files, name the Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- range $name := list "certificateLifetime" "recoveryPeriod" -}}
{{- if index $values $name -}}
{{- fail (printf "%s is given, but linkCA.mode is files: the hub signs nothing then" $name) -}}
{{- end -}}
{{- end -}}
{{- else if $values.linkCA.filesSecretName -}}
{{- fail (printf "linkCA.filesSecretName is given, but linkCA.mode is %s: set it to files, or leave the name out" $values.linkCA.mode) -}}
{{- end -}}
{{- if not $values.meshCA.sign -}}
{{- range $name := list "secretName" "certificateLifetime" -}}
{{- if index $values.meshCA $name -}}
{{- fail (printf "meshCA.%s is given, but meshCA.sign is false: the hub signs nothing for the mesh then" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace "remote-istio-hub" -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there -}}
{{- if and $owner (ne $owner .Release.Name) -}}
{{- fail (printf "namespace %s has a hub already, of release %s: a namespace holds one. Upgrade that one (helm upgrade %s --namespace %s …), or install this one into another namespace" .Release.Namespace $owner $owner .Release.Namespace) -}}
{{- end -}}
{{- end -}}
