{{/* Each takes the root context, or a dict with `root`, `component` and what else it names. */}}

{{- define "sendtrace.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sendtrace.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "sendtrace.metadata" -}}
name: {{ include "sendtrace.fullname" .root }}-{{ .component }}{{ .suffix }}
labels:
  {{- include "sendtrace.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* Ports are those of sendtrace/runtime/settings.py; tests/all/test_helm.py holds them equal. */}}
{{- define "sendtrace.port" -}}
{{- get (dict "edge" 8081 "joiner" 8083 "rollup" 8086 "exporter" 8084 "loader" 8085) . -}}
{{- end -}}

{{/* A number of YAML is a float64, and 67108864 would be written 6.7108864e+07. */}}
{{- define "sendtrace.plain" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* `uses` lists what a process may know: `accounts` with all their secrets (the edge), their
`terms` (the same file without the secrets: joiner and loader), `postgres`. Nobody gets another's. */}}
{{- define "sendtrace.env" -}}
- { name: SENDTRACE_KAFKA_BOOTSTRAP, value: {{ .root.Values.kafka.bootstrap | quote }} }
- { name: SENDTRACE_BIND_ADDRESS, value: "0.0.0.0" }
- { name: SENDTRACE_DATA_DIR, value: /var/lib/sendtrace }
{{- range $name, $value := .root.Values.settings }}
- { name: SENDTRACE_{{ upper $name }}, value: {{ include "sendtrace.plain" $value | quote }} }
{{- end }}
{{- if or (has "accounts" .uses) (has "terms" .uses) }}
- name: SENDTRACE_ACCOUNTS_FILE
  value: {{ printf "/etc/sendtrace/accounts/%s" .root.Values.accounts.file | quote }}
{{- end }}
{{- if has "accounts" .uses }}
{{- with .root.Values.sends.tokenSecret }}
{{- if .name }}
- { name: SENDTRACE_SENDS_TOKEN_FILE, value: {{ printf "/etc/sendtrace/sends/%s" .key | quote }} }
{{- end }}
{{- end }}
{{- end }}
{{- if has "postgres" .uses }}
- name: SENDTRACE_POSTGRES_DSN
  valueFrom:
    secretKeyRef: {{ .root.Values.postgres.dsnSecret | toJson }}
{{- end }}
{{- end -}}

{{/* Whole folders, no subPath: only so does a changed Secret reach a running pod. */}}
{{- define "sendtrace.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .hasState }}
- { name: state, mountPath: /var/lib/sendtrace }
{{- end }}
{{- if or (has "accounts" .uses) (has "terms" .uses) }}
- { name: accounts, mountPath: /etc/sendtrace/accounts, readOnly: true }
{{- end }}
{{- if has "accounts" .uses }}
{{- if .root.Values.sends.tokenSecret.name }}
- { name: sends, mountPath: /etc/sendtrace/sends, readOnly: true }
{{- end }}
{{- end }}
{{- range $i, $name := .root.Values.secretMounts }}
- { name: secret-{{ $i }}, mountPath: /etc/sendtrace/secrets/{{ $name }}, readOnly: true }
{{- end }}
{{- end -}}

{{- define "sendtrace.volumes" -}}
- { name: tmp, emptyDir: { sizeLimit: 64Mi } }
{{- with .root.Values.accounts }}
{{- if has "terms" $.uses }}
- name: accounts
  secret:
    secretName: {{ .secret | quote }}
    defaultMode: 0440
    items: [{ key: {{ .file | quote }}, path: {{ .file | quote }} }]
{{- else if has "accounts" $.uses }}
- { name: accounts, secret: { secretName: {{ .secret | quote }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
{{- if has "accounts" .uses }}
{{- with .root.Values.sends.tokenSecret }}
{{- if .name }}
- { name: sends, secret: { secretName: {{ .name | quote }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
{{- end }}
{{- range $i, $name := .root.Values.secretMounts }}
- { name: secret-{{ $i }}, secret: { secretName: {{ $name | quote }}, defaultMode: 0440 } }
{{- end }}
{{- end -}}

{{/* What a container is, but for its probes and resources. `args` is the command of sendtrace. */}}
{{- define "sendtrace.container" -}}
name: {{ .component }}
{{- with .root.Values.image }}
image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
args: {{ .args | toJson }}
env:
  {{- include "sendtrace.env" . | nindent 2 }}
volumeMounts:
  {{- include "sendtrace.mounts" . | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{/* A process that stays: ports, probes, resources. `extraPorts` stand before the health port. */}}
{{- define "sendtrace.service-container" -}}
{{- $values := index .root.Values .component }}
{{- $args := ternary (list .component "--accept-gap") (list .component) (default false $values.acceptGap) }}
{{- include "sendtrace.container" (set . "args" $args) }}
ports:
  {{- with .extraPorts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  - { name: health, containerPort: {{ include "sendtrace.port" .component }} }
# Until the process answers at all: it first asks Kafka whether its topics are right.
startupProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
resources:
  {{- toYaml (index .root.Values .component).resources | nindent 2 }}
{{- end -}}

{{- define "sendtrace.pod-metadata" -}}
labels:
  {{- include "sendtrace.selector" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := deepCopy .root.Values.podAnnotations }}
{{- if and .root.Values.monitoring.annotations (not .root.Values.monitoring.podMonitor.enabled) }}
{{- $port := include "sendtrace.port" .component }}
{{- $scrape := dict "prometheus.io/scrape" "true" "prometheus.io/port" $port "prometheus.io/path" "/metrics" }}
{{- $annotations = merge $annotations $scrape }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every pod is, Jobs included. */}}
{{- define "sendtrace.pod" -}}
automountServiceAccountToken: false
# Kubernetes would set SENDTRACE_EDGE_PORT=tcp://... for our own Service: a setting of ours.
enableServiceLinks: false
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - { name: {{ . | quote }} }
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if ne .root.Values.runAsUser nil }}
  {{- $uid := int64 .root.Values.runAsUser }}
  runAsUser: {{ $uid }}
  runAsGroup: {{ $uid }}
  fsGroup: {{ $uid }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile: { type: RuntimeDefault }
{{- range $name := list "nodeSelector" "tolerations" "affinity" }}
{{- with index $.root.Values $name }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
volumes:
  {{- include "sendtrace.volumes" . | nindent 2 }}
{{- end -}}

{{/* Not all on one node, as far as there are others. */}}
{{- define "sendtrace.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sendtrace.selector" . | nindent 8 }}
{{- end -}}

{{- define "sendtrace.disruption-budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "sendtrace.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "sendtrace.selector" . | nindent 6 }}
{{- end -}}
