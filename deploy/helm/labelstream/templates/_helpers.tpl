{{- define "labelstream.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The labels of one component's pods that never change. Takes root, component. */ -}}
{{- define "labelstream.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "labelstream.labels" -}}
{{ include "labelstream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* The roles that run, with their values, as JSON. */ -}}
{{- define "labelstream.roles" -}}
{{- $found := dict -}}
{{- range $role := list "poller" "agents" "sink" "api" "fetcher" "trainer" -}}
{{- $values := index $.Values $role -}}
{{- if $values.enabled -}}{{- $_ := set $found $role $values -}}{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{- /* What a component connects to. Takes its name. */ -}}
{{- define "labelstream.servers" -}}
{{- if eq . "init" -}}clickhouse kafka
{{- else if has . (list "agents" "api" "check" "trainer") -}}clickhouse kafka models collector
{{- else -}}clickhouse kafka collector
{{- end -}}
{{- end -}}

{{- /* Takes root and override, the image of one component. */ -}}
{{- define "labelstream.image" -}}
{{- $override := default dict .override -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) $override -}}
{{- /* The digest of all is that of another image than a tag of this one. */ -}}
{{- if and $override.tag (not $override.digest) -}}{{- $_ := set $image "digest" "" -}}{{- end -}}
{{- $name := $image.repository -}}
{{- with $image.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* A value as labelstream reads it. Helm has every number as a float, and would write 2147483648 as 2.147483648e+09. */ -}}
{{- define "labelstream.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- /* Where the certificates of each server are, and the settings that name them. Takes root. */ -}}
{{- define "labelstream.certificates" -}}
{{- $given := .root.Values.certificates -}}
{{- $found := list -}}
{{- range $server, $setting := dict "clickhouse" "CLICKHOUSE_CA_CERT" "kafka" "KAFKA_SSL_CAFILE" "models" "LLM_CA_CERT" "collector" "OTEL_EXPORTER_OTLP_CERTIFICATE" -}}
{{- $one := index $given $server -}}
{{- if or $one.existingConfigMap $one.existingSecret -}}
{{- $found = append $found (dict "server" $server "name" (printf "%s-ca" $server) "from" $one "files" (dict $setting $one.key)) -}}
{{- end -}}
{{- end -}}
{{- range $server, $settings := dict "kafka" (list "KAFKA_SSL_CERTFILE" "KAFKA_SSL_KEYFILE") "collector" (list "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" "OTEL_EXPORTER_OTLP_CLIENT_KEY") -}}
{{- with index $given (printf "%sClient" $server) -}}
{{- if .existingSecret -}}
{{- $found = append $found (dict "server" $server "name" (printf "%s-client" $server) "from" . "files" (dict (first $settings) .certKey (last $settings) .keyKey)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{- /* The ConfigMap with the taxonomy, where one is needed: init runs before it is there. Takes root, component. */ -}}
{{- define "labelstream.taxonomy" -}}
{{- if ne .component "init" -}}
{{- with .root.Values.taxonomy -}}
{{- if .existingConfigMap -}}
{{- .existingConfigMap -}}
{{- else if .text -}}
{{- printf "%s-taxonomy" (include "labelstream.fullname" $.root) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The environment of a container. Takes root, component. */ -}}
{{- define "labelstream.environment" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $servers := splitList " " (include "labelstream.servers" $component) -}}
- name: HOME
  value: /tmp
- name: LABELSTREAM_DATA
  value: /var/lib/labelstream
- name: HEALTH_HOST
  value: 0.0.0.0
- name: HEALTH_PORT
  value: "8081"
{{- if eq $component "api" }}
- name: API_HOST
  value: 0.0.0.0
- name: API_PORT
  value: "8080"
{{- end }}
{{- if include "labelstream.taxonomy" . }}
- name: TAXONOMY_PATH
  value: /etc/labelstream/taxonomy/taxonomy.yaml
{{- end }}
{{- range $one := include "labelstream.certificates" . | fromJsonArray }}
{{- if has $one.server $servers }}
{{- range $setting, $file := $one.files }}
- name: {{ $setting }}
  value: {{ printf "/etc/labelstream/%s/%s" $one.name $file | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := merge (dict) $root.Values.settings (dict "LOG_FORMAT" "json") }}
- name: {{ $name }}
  value: {{ include "labelstream.text" $value | quote }}
{{- end }}
{{- range $name, $from := $root.Values.secrets }}
{{- $server := get (dict "CLICKHOUSE" "clickhouse" "LLM" "models" "OTEL" "collector") (splitList "_" $name | first) }}
{{- if and (or (eq $server "") (has $server $servers)) (or (eq $component "api") (not (hasPrefix "API_" $name))) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ default $root.Values.existingSecret $from.existingSecret }}
      key: {{ default $name $from.key }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The specification of a pod. Takes root, component, arguments, override (its image), resources, and for a
role also role: its values; claim: the volume claim for its data. */ -}}
{{- define "labelstream.pod" -}}
{{- $root := .root -}}
{{- $servers := splitList " " (include "labelstream.servers" .component) -}}
{{- $pod := .root.Values.pod -}}
automountServiceAccountToken: false
# Otherwise a Service named `api` would set API_PORT.
enableServiceLinks: false
{{- with $pod.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .role $pod.spread.enabled }}
topologySpreadConstraints:
  {{- range $pod.spread.topologyKeys }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: {{ $pod.spread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "labelstream.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- if .role }}
terminationGracePeriodSeconds: {{ int64 $pod.terminationGracePeriodSeconds }}
{{- else }}
# Each try is a pod, and stays with its log: with OnFailure the Job deletes its pod when it gives up.
restartPolicy: Never
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if not (kindIs "invalid" $pod.userId) }}
  runAsUser: {{ int64 $pod.userId }}
  runAsGroup: {{ int64 $pod.userId }}
  fsGroup: {{ int64 $pod.userId }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: labelstream
    image: {{ include "labelstream.image" . | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{ .arguments | toJson }}
    securityContext:
      allowPrivilegeEscalation: false
      privileged: false
      readOnlyRootFilesystem: true
      runAsNonRoot: true
      capabilities:
        drop: [ALL]
    env:
      {{- include "labelstream.environment" . | nindent 6 }}
    {{- if .role }}
    ports:
      - name: health
        containerPort: 8081
      {{- if eq .component "api" }}
      - name: http
        containerPort: 8080
      {{- end }}
    # A minute to begin, on a slow node.
    startupProbe:
      httpGet: {path: /healthz, port: health}
      periodSeconds: 2
      timeoutSeconds: 5
      failureThreshold: 60
    livenessProbe:
      httpGet: {path: /healthz, port: health}
      periodSeconds: 15
      timeoutSeconds: 5
      failureThreshold: 3
    readinessProbe:
      httpGet: {path: /readyz, port: health}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 2
    {{- if eq .component "api" }}
    # Until no new connection is sent here.
    lifecycle:
      preStop:
        exec:
          command: [sleep, "5"]
    {{- end }}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      - name: data
        mountPath: /var/lib/labelstream
      {{- if include "labelstream.taxonomy" . }}
      - name: taxonomy
        mountPath: /etc/labelstream/taxonomy
        readOnly: true
      {{- end }}
      {{- range $one := include "labelstream.certificates" . | fromJsonArray }}
      {{- if has $one.server $servers }}
      - name: {{ $one.name }}
        mountPath: /etc/labelstream/{{ $one.name }}
        readOnly: true
      {{- end }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 256Mi
  - name: data
    {{- if .claim }}
    persistentVolumeClaim:
      claimName: {{ .claim }}
    {{- else }}
    emptyDir:
      sizeLimit: {{ dig "scratch" "256Mi" (default dict .role) }}
    {{- end }}
  {{- with include "labelstream.taxonomy" . }}
  - name: taxonomy
    configMap:
      name: {{ . }}
      items:
        - key: {{ ternary $root.Values.taxonomy.key "taxonomy.yaml" (ne $root.Values.taxonomy.existingConfigMap "") }}
          path: taxonomy.yaml
  {{- end }}
  {{- range $one := include "labelstream.certificates" . | fromJsonArray }}
  {{- if has $one.server $servers }}
  - name: {{ $one.name }}
    {{- if $one.from.existingSecret }}
    secret:
      secretName: {{ $one.from.existingSecret }}
      defaultMode: 0440
    {{- else }}
    configMap:
      name: {{ $one.from.existingConfigMap }}
    {{- end }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- /* The claim for a role's data; empty if it has none. Takes root, component, role. */ -}}
{{- define "labelstream.claim" -}}
{{- with .role.persistence -}}
{{- if .enabled -}}
{{- default (printf "%s-%s" (include "labelstream.fullname" $.root) $.component) .existingClaim -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Ports of URLs or of hosts, comma separated; with a default for those that name none. Takes urls, plain (the default without https). */ -}}
{{- define "labelstream.portsOf" -}}
{{- $found := list -}}
{{- range splitList "," .urls -}}
{{- $url := trim . -}}
{{- if $url -}}
{{- $host := regexReplaceAll "^([a-z]+://)?([^/?#]*@)?([^/?#]*).*$" $url "${3}" -}}
{{- /* The last number of an IPv6 address without brackets is no port. */ -}}
{{- $port := regexFind "[0-9]+$" (regexFind "^([^:]+|\\[.*\\]):[0-9]+$" $host) -}}
{{- $found = append $found (default (ternary 443 $.plain (hasPrefix "https://" $url)) $port | int64) -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}
