{{- define "keyfence.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "keyfence.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keyfence.labels" -}}
{{ include "keyfence.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "keyfence.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "keyfence.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "keyfence.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "keyfence.databaseUrl" -}}
- name: KEYFENCE_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.database }}, key: url}}
{{- end -}}

{{/*
A sidecar container, for the pod of an application. In the application's chart, with this chart as a
dependency and the value `keyfence.libraryOnly: true`, in `containers:`

  {{- include "keyfence.sidecarContainer" (dict
        "image" "keyfence:0.1.0"
        "upstream" "keyfence.keyfence.svc:50051"
        "tokenSecret" "app-keyfence-token"
        "caSecret" "keyfence-ca") | nindent 8 }}

and in `volumes:` the same with "keyfence.sidecarVolumes". The secrets have the keys "token" and
"ca.crt". The application asks 127.0.0.1:50051.
*/}}
{{- define "keyfence.sidecarContainer" -}}
- name: keyfence
  image: {{ required "image is needed" .image }}
  args: [sidecar]
  env:
    - {name: KEYFENCE_UPSTREAM, value: {{ required "upstream is needed" .upstream | quote }}}
    - {name: KEYFENCE_UPSTREAM_TOKEN_FILE, value: /run/keyfence/token/token}
    {{- if .caSecret }}
    - {name: KEYFENCE_UPSTREAM_CA_FILE, value: /run/keyfence/ca/ca.crt}
    {{- end }}
    - {name: KEYFENCE_LISTEN, value: "127.0.0.1:50051"}
    - {name: KEYFENCE_METRICS_LISTEN, value: "0.0.0.0:9464"}
    - {name: KEYFENCE_METRICS_INSECURE_PLAINTEXT, value: "true"}
    - {name: KEYFENCE_LOG_FORMAT, value: json}
  ports:
    - {name: kf-metrics, containerPort: 9464}
  startupProbe:
    httpGet: {path: /livez, port: kf-metrics}
    periodSeconds: 2
    failureThreshold: 30
  livenessProbe:
    httpGet: {path: /livez, port: kf-metrics}
    periodSeconds: 10
    failureThreshold: 3
  readinessProbe:
    httpGet: {path: /readyz, port: kf-metrics}
    periodSeconds: 3
    failureThreshold: 2
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    {{- include "keyfence.containerSecurity" . | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 128Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    - {name: keyfence-token, mountPath: /run/keyfence/token, readOnly: true}
    {{- if .caSecret }}
    - {name: keyfence-ca, mountPath: /run/keyfence/ca, readOnly: true}
    {{- end }}
{{- end -}}

{{- define "keyfence.sidecarVolumes" -}}
- name: keyfence-token
  secret: {secretName: {{ required "tokenSecret is needed" .tokenSecret }}}
{{- if .caSecret }}
- name: keyfence-ca
  secret: {secretName: {{ .caSecret }}}
{{- end }}
{{- end -}}
