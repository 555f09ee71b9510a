{{/* The names are fixed: bootstraps, injected pods and Istio's sidecars dial sidewall.NAMESPACE.svc. */}}
{{- define "sidewall.labels" -}}
app.kubernetes.io/part-of: sidewall
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sidewall.distributor.selector" -}}
app.kubernetes.io/name: sidewall
app.kubernetes.io/component: distributor
{{- end }}

{{- define "sidewall.node.selector" -}}
app.kubernetes.io/name: sidewall-node
app.kubernetes.io/component: node
{{- end }}

{{- define "sidewall.image" -}}
{{- $image := index .root.Values.images .name -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "sidewall.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where alone the distributor's admin port is served. On a node's network no policy would keep anybody from
it; Prometheus has to reach it there as well. */}}
{{- define "sidewall.adminHost" -}}
{{- if and .Values.node.enabled (not .Values.serviceMonitor.enabled) }}127.0.0.1{{ end }}
{{- end }}

{{- define "sidewall.probe" -}}
{path: {{ .path }}, port: admin{{ with include "sidewall.adminHost" .root }}, host: {{ . }}{{ end }}}
{{- end }}
