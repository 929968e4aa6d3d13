{{- define "tfs-sidecar.name" -}}
{{- default .Release.Name .Values.name | trunc 51 | trimSuffix "-" -}}
{{- end -}}

{{- define "tfs-sidecar.selector" -}}
app.kubernetes.io/name: tensorflow-serving
app.kubernetes.io/instance: {{ include "tfs-sidecar.name" . }}
{{- end -}}

{{- define "tfs-sidecar.labels" -}}
{{ include "tfs-sidecar.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* The configuration file: `sidecar.config`, with the mode and the model of this chart. */ -}}
{{- define "tfs-sidecar.config" -}}
{{- $ours := dict "defaults" (dict "mode" .Values.sidecar.mode) "models" (dict .Values.model.name (dict)) -}}
{{- toYaml (mergeOverwrite $ours (deepCopy .Values.sidecar.config)) -}}
{{- end -}}

{{- define "tfs-sidecar.container" -}}
- name: tfs-sidecar
  image: {{ .Values.sidecar.image | quote }}
  {{- if ne .Values.variant "classic" }}
  # A native sidecar: it starts before TF Serving and is stopped after it.
  restartPolicy: Always
  {{- end }}
  args:
    - run
    - --config=/etc/tfs-sidecar/config.yaml
    - --admin-listen=0.0.0.0:8602
    - --drain-listen=0.0.0.0:8603
    {{- if .Values.rest.enabled }}
    - --rest-listen=0.0.0.0:8601
    {{- end }}
    {{- if eq .Values.variant "uds" }}
    - --upstream=unix:///run/tfs/grpc.sock
    {{- end }}
  env:
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    {{- with .Values.sidecar.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: grpc
      containerPort: 8600
    {{- if .Values.rest.enabled }}
    - name: rest
      containerPort: 8601
    {{- end }}
    - name: admin
      containerPort: 8602
    - name: drain
      containerPort: 8603
  # Not /readyz: it waits for TF Serving, which starts after this probe has succeeded.
  startupProbe:
    httpGet:
      path: /livez
      port: admin
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: 30
  livenessProbe:
    httpGet:
      path: /livez
      port: admin
    periodSeconds: 10
    timeoutSeconds: 3
    failureThreshold: 3
  readinessProbe:
    httpGet:
      path: /readyz
      port: admin
    periodSeconds: 2
    timeoutSeconds: 3
    failureThreshold: 2
  resources:
    {{- toYaml .Values.sidecar.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    - name: tfs-sidecar-config
      mountPath: /etc/tfs-sidecar
      readOnly: true
    {{- if eq .Values.variant "uds" }}
    - name: tfs-socket
      mountPath: /run/tfs
    {{- end }}
{{- end -}}
