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
