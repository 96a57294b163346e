{{- define "standings.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "standings.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "standings.labels" -}}
{{ include "standings.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "standings.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What a pod may do, whatever it runs. */}}
{{- define "standings.podSecurity" -}}
automountServiceAccountToken: false
# A Service called standings would put STANDINGS_ variables here, and unknown ones stop the start.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "standings.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Where the stores are, and who we are to them: secrets are read from files. */}}
{{- define "standings.stores" -}}
- { name: STANDINGS_POSTGRES_DSN_FILE, value: /run/secrets/standings/postgres/dsn }
{{- if .Values.postgres.directDsn }}
- { name: STANDINGS_POSTGRES_DIRECT_DSN_FILE, value: /run/secrets/standings/postgres/direct-dsn }
{{- end }}
- { name: STANDINGS_POSTGRES_TRANSACTION_POOLER, value: {{ .Values.postgres.transactionPooler | quote }} }
- { name: STANDINGS_REDIS_NODES, value: {{ join "," .Values.redis.nodes | quote }} }
{{- with .Values.redis.username }}
- { name: STANDINGS_REDIS_USERNAME, value: {{ . | quote }} }
- { name: STANDINGS_REDIS_PASSWORD_FILE, value: /run/secrets/standings/redis/password }
{{- end }}
{{- with .Values.redis.adminUsername }}
- { name: STANDINGS_REDIS_ADMIN_USERNAME, value: {{ . | quote }} }
- { name: STANDINGS_REDIS_ADMIN_PASSWORD_FILE, value: /run/secrets/standings/redis/admin-password }
{{- end }}
{{- range $name, $value := .Values.settings }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{/* "true", or nothing where server.insecure says so. Whoever says neither learns it from here, not
     from pods that do not start. */}}
{{- define "standings.tls" -}}
{{- if not .Values.server.insecure }}
{{- if not .Values.tls.secretName }}
{{- fail "Callers connect by TLS: name a Secret in tls.secretName, or set server.insecure=true (docs/security.md)" }}
{{- end }}
{{- if not (or .Values.tls.clientCa .Values.settings.STANDINGS_IDENTITY_JWKS_URL .Values.settings.STANDINGS_IDENTITY_JWKS_FILE) }}
{{- fail "Nobody would be asked who calls: set tls.clientCa=true, the keys of tokens in settings.STANDINGS_IDENTITY_JWKS_URL, or server.insecure=true (docs/security.md)" }}
{{- end -}}
true
{{- end }}
{{- end }}

{{- define "standings.secretMounts" -}}
- { name: postgres, mountPath: /run/secrets/standings/postgres, readOnly: true }
{{- if or .Values.redis.username .Values.redis.adminUsername }}
- { name: redis, mountPath: /run/secrets/standings/redis, readOnly: true }
{{- end }}
{{- end }}

{{- define "standings.secretVolumes" -}}
- name: postgres
  secret: { secretName: {{ .Values.postgres.secretName }}, defaultMode: 0440 }
{{- if or .Values.redis.username .Values.redis.adminUsername }}
- name: redis
  secret: { secretName: {{ .Values.redis.secretName }}, defaultMode: 0440 }
{{- end }}
{{- end }}
