#!/usr/bin/env python3
"""Writes the dashboards next to it. Needs only Python. Run deploy/generate.py afterwards, for the copies that
Kubernetes and Helm need.

The JSON files are what Grafana reads. They are made here so that every panel has the same conventions: the
data source is a variable, rates use $__rate_interval, and each panel has a unit and says what it shows.
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RUNBOOKS = "docs/runbooks"
MISMATCH = "repaired|rejected|would_repair|would_reject"
CHECKED = "Predict|Classify|Regress|MultiInference"
WIDTH = 24
# For a query that finds nothing when all is well. `on ()`: only if there is nothing else.
OR_ZERO = " or on () vector(0)"


def datasource():
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def variable(name, metric, several=True):
    """Values of a label. Several can be chosen, and All also covers series without the label."""
    query = f"label_values({metric}, {name})"
    made = {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "includeAll": several,
        "multi": several,
        "current": {"text": ["All"], "value": ["$__all"]} if several else {},
    }
    if several:
        made["allValue"] = ".*"
    return made


class Dashboard:
    """Lays panels out from left to right and top to bottom."""

    def __init__(self, uid, title, description, variables):
        self.panels, self.x, self.y, self.height = [], 0, 0, 0
        changes = 'tfs_sidecar_signature_changes_total{namespace=~"$namespace"}'
        self.made = {
            "id": None,
            "uid": uid,
            "title": title,
            "description": description,
            "tags": ["tfs-sidecar"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [datasource(), *variables]},
            "annotations": {
                "list": [
                    {
                        "name": "Signature changes",
                        "datasource": SOURCE,
                        "enable": True,
                        "iconColor": "purple",
                        "expr": f"max by (model) (increase({changes}[$__rate_interval])) > 0",
                        "titleFormat": "Signature of {{model}} changed",
                        "step": "60s",
                    }
                ]
            },
            "links": [
                {
                    "title": "tfs-sidecar",
                    "type": "dashboards",
                    "tags": ["tfs-sidecar"],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                }
            ],
        }

    def row(self, title):
        self.break_line()
        self.add({"type": "row", "title": title, "collapsed": False, "panels": []}, WIDTH, 1)

    def break_line(self):
        self.x, self.y, self.height = 0, self.y + self.height, 0

    def add(self, panel, width, height):
        if self.x + width > WIDTH:
            self.break_line()
        panel = {"id": len(self.panels) + 1, **panel}
        panel["gridPos"] = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x, self.height = self.x + width, max(self.height, height)
        self.panels.append(panel)

    def panel(
        self, kind, title, description, unit, queries, width, height, runbook=None, custom=None, options=None, **more
    ):
        targets = []
        for number, (legend, query) in enumerate(queries):
            target = {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            if kind in ("stat", "table"):
                target |= {"instant": True, "range": False}
            if kind == "table":
                target["format"] = "table"
            targets.append(target)
        defaults = {"unit": unit, "custom": custom or {}} | more.pop("defaults", {})
        panel = {
            "type": kind,
            "title": title,
            "description": description,
            "datasource": SOURCE,
            "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
            "options": options or {},
            **more,
        }
        if runbook:
            panel["description"] += f" Runbook: {RUNBOOKS}/{runbook}.md"
        self.add(panel, width, height)

    def stat(self, title, description, unit, query, bad=None, runbook=None, width=4):
        """One number; red from `bad` on."""
        steps = [{"color": "green", "value": None}] + ([{"color": "red", "value": bad}] if bad is not None else [])
        self.panel(
            "stat",
            title,
            description,
            unit,
            [("", query)],
            width,
            4,
            runbook,
            options={"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"},
            defaults={"thresholds": {"mode": "absolute", "steps": steps}},
        )

    def lines(self, title, description, unit, queries, runbook=None, width=12, stacked=False):
        custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if stacked else 0, "showPoints": "never"}
        if stacked:
            custom["stacking"] = {"mode": "normal", "group": "A"}
        self.panel(
            "timeseries",
            title,
            description,
            unit,
            queries,
            width,
            8,
            runbook,
            custom,
            {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
            defaults={"min": 0},
        )

    def table(self, title, description, unit, query, runbook=None, width=24, links=True, value="Requests", height=9):
        hidden = {"Time": True, "__name__": True, "job": True, "instance": True}
        overrides = (
            [
                {
                    "matcher": {"id": "byName", "options": name},
                    "properties": [
                        {
                            "id": "links",
                            "value": [
                                {
                                    "title": f"{name}: ${{__value.text}}",
                                    "url": f"/d/tfs-sidecar-{name}?${{__url_time_range}}&${{datasource:queryparam}}&var-{name}=${{__value.raw}}",
                                }
                            ],
                        }
                    ],
                }
                for name in ("client", "model")
            ]
            if links
            else []
        )
        self.panel(
            "table",
            title,
            description,
            unit,
            [("", query)],
            width,
            height,
            runbook,
            options={"showHeader": True},
            overrides=overrides,
            transformations=[
                {"id": "organize", "options": {"excludeByName": hidden, "renameByName": {"Value": value}}}
            ],
        )

    def text(self, title, markdown, width=24, height=4):
        self.add(
            {
                "type": "text",
                "title": title,
                "description": "How to go on from here.",
                "options": {"mode": "markdown", "content": markdown},
            },
            width,
            height,
        )

    def write(self):
        text = json.dumps(self.made | {"panels": self.panels}, indent=2) + "\n"
        (HERE / "dashboards" / f"{self.made['uid'].removeprefix('tfs-sidecar-')}.json").write_text(text)


def of(labels=""):
    """Label matchers: the chosen namespaces, and `labels`."""
    return "{" + ", ".join(filter(None, ['namespace=~"$namespace"', labels])) + "}"


def requests(by, labels=""):
    return counted(by, "requests", labels)


def summed(by):
    return f"sum by ({by})" if by else "sum"


def counted(by, metric, labels="", function="rate", window="$__rate_interval"):
    """The rate or increase of a counter."""
    return f"{summed(by)} ({function}(tfs_sidecar_{metric}_total{of(labels)}[{window}]))"


def share(by, outcome, labels=""):
    """The share of the checked requests with this outcome. A zero, and not nothing, if there was none."""
    labels = f'{labels}, method=~"{CHECKED}"'.removeprefix(", ")
    part = requests(by, f'{labels}, outcome=~"{outcome}"')
    return f"({part} or 0 * {requests(by, labels)}) / ({requests(by, labels)} > 0)"


def mistakes(by, labels="", window="$__range", function="increase"):
    """Rules and reasons as the label `mistake`. `label_replace` also keeps the four metrics apart."""
    parts = [
        f'label_replace({function}(tfs_sidecar_{metric}_total{of(labels)}[{window}]), "mistake", "$1", "{source}", "(.+)")'
        for metric, source in [
            ("repairs", "rule"),
            ("would_repair", "rule"),
            ("rejections", "reason"),
            ("would_reject", "reason"),
        ]
    ]
    return f"{summed(by)} ({' or '.join(parts)})"


def quantile(q, metric, labels=""):
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{of(labels)}[$__rate_interval])))"


def mean(metric, labels="", by=""):
    by = f" by ({by})" if by else ""
    return (
        f"sum{by} (rate({metric}_sum{of(labels)}[$__rate_interval])) / "
        f"(sum{by} (rate({metric}_count{of(labels)}[$__rate_interval])) > 0)"
    )


def latency(board, labels=""):
    request, upstream = "tfs_sidecar_request_duration_seconds", "tfs_sidecar_upstream_duration_seconds"
    board.lines(
        "Latency",
        "Time from the first byte of a request to the last byte of its answer.",
        "s",
        [("median", quantile(0.5, request, labels)), ("99 %", quantile(0.99, request, labels))],
        width=8,
    )
    board.lines(
        "Latency of TensorFlow Serving",
        "The part that a request spends there, network included.",
        "s",
        [("median", quantile(0.5, upstream, labels)), ("99 %", quantile(0.99, upstream, labels))],
        width=8,
    )
    board.lines(
        "Latency added by the sidecar (mean)",
        "The difference of the means. It includes the time until the client has sent the request and read the answer, and the wait in the queue.",
        "s",
        [("added", f"{mean(request, labels)} - {mean(upstream, labels)}")],
        width=8,
    )


def fleet():
    board = Dashboard(
        "tfs-sidecar-fleet",
        "tfs-sidecar / Fleet",
        "All sidecars: are they up, what share of requests mismatches, who must change what, what changed.",
        [variable("namespace", "tfs_sidecar_build_info")],
    )
    board.row("Is it up?")
    up = 'up{job=~"(.*/)?tfs-sidecar", namespace=~"$namespace"}'
    board.stat("Sidecars up", "Sidecars whose metrics Prometheus can read.", "short", f"sum({up})")
    board.stat(
        "Sidecars down",
        "Sidecars that do not answer Prometheus.",
        "short",
        f"count({up} == 0) or on () vector(0)",
        1,
        "TfsSidecarDown",
    )
    board.stat(
        "Without TensorFlow Serving",
        "Sidecars without a connection to TensorFlow Serving.",
        "short",
        f"count(tfs_sidecar_upstream_up{of()} == 0) or on () vector(0)",
        1,
        "TfsSidecarUpstreamDown",
    )
    board.stat(
        "Problems of models",
        "Models and versions that are not served.",
        "short",
        f"count(max by (namespace, model, version, kind) (tfs_sidecar_model_problem{of()}) == 1) or on () vector(0)",
        1,
        "TfsSidecarModelProblem",
    )
    board.stat(
        "Configurations refused",
        "Sidecars that use an older configuration than their file has.",
        "short",
        f"sum(tfs_sidecar_config_refused{of()}) or on () vector(0)",
        1,
        "TfsSidecarConfigRefused",
    )
    board.stat(
        "Alerts",
        "Firing alerts of the rules in deploy/prometheus.",
        "short",
        'count(ALERTS{alertname=~"TfsSidecar.+", alertstate="firing", namespace=~"$namespace"}) or on () vector(0)',
        1,
    )

    board.row("What share of requests mismatches, and since when?")
    board.lines(
        "Mismatches by model",
        "The share of checked requests that were repaired or refused, or would be in mode observe.",
        "percentunit",
        [("{{model}}", share("model", MISMATCH))],
        "TfsSidecarMismatches",
    )
    board.lines(
        "Requests by outcome",
        "All requests. docs/metrics.md explains the outcomes.",
        "reqps",
        [("{{outcome}}", requests("outcome"))],
        stacked=True,
    )

    board.row("Who must change what?")
    board.table(
        "Mistakes by client",
        "How often each client made each mistake in the time range. The first count of a new series is not in it. "
        "`tfs-sidecar fixes` has the line to change.",
        "short",
        f"topk(50, {mistakes('client, model, input, mistake')} > 0)",
        "TfsSidecarClientMismatches",
    )

    board.row("What changed?")
    board.lines(
        "Versions that requests were checked against",
        "Requests by model and version.",
        "reqps",
        [("{{model}} {{version}}", requests("model, version", f'method=~"{CHECKED}"'))],
        "TfsSidecarMismatchesAfterVersionChange",
        stacked=True,
    )
    board.lines(
        "Signature changes",
        "Refreshes that found changed signatures.",
        "short",
        [("{{model}}", f"max by (model) (tfs_sidecar_signature_changes_total{of()}) or on () vector(0)")],
        "TfsSidecarSignatureChanged",
    )
    board.lines(
        "Settings without effect",
        "Settings of a model that its signatures do not have.",
        "short",
        [("{{model}}", f"max by (model) (tfs_sidecar_config_problems{of()}) or on () vector(0)")],
        "TfsSidecarConfigProblems",
        8,
    )
    board.lines(
        "Modes changed by hand",
        "1 while an operator has changed the mode of a model, or of all.",
        "short",
        [("{{model}} {{mode}}", f"max by (model, mode) (tfs_sidecar_mode_override{of()}) or on () vector(0)")],
        width=8,
    )
    board.lines(
        "Certificates expire in",
        "The time until the certificates of a setting expire. Empty without TLS.",
        "s",
        [("{{setting}}", f"min by (setting) (tfs_sidecar_certificate_expiry_timestamp_seconds{of()}) - time()")],
        "TfsSidecarCertificateExpiry",
        8,
    )

    board.row("Overload")
    board.lines(
        "Requests refused because of load",
        "The share of the requests for each model. They are no mismatches.",
        "percentunit",
        [("{{model}}", share("model", "overloaded"))],
        "TfsSidecarOverloaded",
    )
    board.lines(
        "Concurrency towards TensorFlow Serving",
        "Requests in flight there, their limit, and requests that wait.",
        "short",
        [
            ("in flight", f"sum(tfs_sidecar_upstream_inflight{of()})"),
            ("limit", f"sum(tfs_sidecar_upstream_limit{of()})"),
            ("queued", f"sum(tfs_sidecar_queued_requests{of()})"),
            ("withheld", f"sum(tfs_sidecar_upstream_withheld_permits{of()})"),
        ],
    )
    board.lines(
        "Refused by TensorFlow Serving, and retried",
        "No free thread, a full batching queue, or a lost connection.",
        "reqps",
        [
            ("refused: {{cause}}", counted("cause", "upstream_refusals")),
            ("retried: {{cause}}", counted("cause", "retries")),
        ],
        width=8,
    )
    board.lines(
        "Client connections",
        "Open ones, and those turned away because of a limit.",
        "short",
        [
            ("open", f"sum(tfs_sidecar_connections{of()})"),
            ("refused: {{limit}}", counted("limit", "connections_refused", function="increase")),
        ],
        width=8,
    )
    board.lines(
        "Bytes in flight",
        "Messages that are held in memory.",
        "bytes",
        [("{{instance}}", f"sum by (instance) (tfs_sidecar_inflight_bytes{of()})")],
        width=8,
    )

    board.row("Latency")
    latency(board)

    board.row("The sidecars themselves")
    itself = 'job=~"(.*/)?tfs-sidecar"'
    board.lines(
        "Memory",
        "Resident memory of each sidecar.",
        "bytes",
        [("{{instance}}", f"process_resident_memory_bytes{of(itself)}")],
        width=8,
    )
    board.lines(
        "CPU",
        "CPU cores that each sidecar uses.",
        "cores",
        [("{{instance}}", f"rate(process_cpu_seconds_total{of(itself)}[$__rate_interval])")],
        width=8,
    )
    board.lines(
        "Versions",
        "Sidecars by their version.",
        "short",
        [("{{version}}", f"count by (version) (tfs_sidecar_build_info{of()})")],
        width=8,
    )
    board.lines(
        "Panics",
        "Bugs in the sidecar. Any is worth a report.",
        "short",
        [("{{task}}", counted("task", "panics", function="increase"))],
        "TfsSidecarPanic",
        8,
    )
    board.lines(
        "Missing in the log",
        "Lines that were lost, and events that repeat and were left out.",
        "short",
        [
            ("lines lost", counted("", "log_lines_lost", function="increase")),
            ("events left out", counted("", "events_left_out", function="increase")),
        ],
        "TfsSidecarLogLinesLost",
        8,
    )
    board.lines(
        "Trace spans",
        "By what became of them. Zero without `otlp_endpoint`.",
        "short",
        [("{{result}}", counted("result", "otlp_spans") + OR_ZERO)],
        width=8,
    )
    board.write()


def model():
    chosen = 'model=~"$model"'
    checked = f'{chosen}, method=~"{CHECKED}"'
    board = Dashboard(
        "tfs-sidecar-model",
        "tfs-sidecar / Model",
        "One model: its share of mismatches by version, who sends what wrong, its signatures, batching and latency.",
        [
            variable("namespace", "tfs_sidecar_build_info"),
            variable("model", 'tfs_sidecar_requests_total{namespace=~"$namespace"}', several=False),
        ],
    )
    board.row("Is it up?")
    board.stat("Requests", "Checked requests in a second.", "reqps", counted("", "requests", checked))
    board.stat(
        "Mismatches",
        "The share of checked requests that mismatch.",
        "percentunit",
        share("", MISMATCH, chosen),
        0.05,
        "TfsSidecarMismatches",
    )
    board.stat(
        "Refused",
        "The share of checked requests that the sidecar refuses because of what was sent.",
        "percentunit",
        share("", "rejected", chosen),
        0.05,
        "TfsSidecarRejections",
    )
    board.stat(
        "Overloaded",
        "The share of checked requests that are refused because of load.",
        "percentunit",
        share("", "overloaded", chosen),
        0.05,
        "TfsSidecarOverloaded",
    )
    board.stat(
        "Problems",
        "Reasons why the model or a version is not served.",
        "short",
        f"count(max by (version, kind) (tfs_sidecar_model_problem{of(chosen)}) == 1) or on () vector(0)",
        1,
        "TfsSidecarModelProblem",
    )
    board.stat(
        "Latency, 99 %",
        "From the first byte of a request to the last byte of its answer.",
        "s",
        quantile(0.99, "tfs_sidecar_request_duration_seconds", chosen),
    )

    board.row("What share of requests mismatches, and since when?")
    board.lines(
        "Mismatches by version",
        "By the version that requests were checked against.",
        "percentunit",
        [("version {{version}}", share("version", MISMATCH, chosen))],
        "TfsSidecarMismatchesAfterVersionChange",
        8,
    )
    board.lines(
        "Requests by version",
        "Checked requests.",
        "reqps",
        [("version {{version}}", requests("version", checked))],
        width=8,
        stacked=True,
    )
    board.lines(
        "Outcomes and codes",
        "What clients received.",
        "reqps",
        [("{{outcome}} {{code}}", requests("outcome, code", chosen))],
        width=8,
        stacked=True,
    )

    board.row("Who must change what?")
    board.table(
        "Mistakes by client",
        "How often each client made each mistake in the time range. The first count of a new series is not in it.",
        "short",
        f"topk(50, {mistakes('client, signature, input, mistake', chosen)} > 0)",
        "TfsSidecarClientMismatches",
        16,
    )
    board.lines(
        "Mistakes",
        "By rule or reason.",
        "reqps",
        [("{{mistake}}", mistakes("mistake", chosen, "$__rate_interval", "rate"))],
        width=8,
    )
    board.lines(
        "Warnings",
        "Requests that were forwarded although they may not be what the client means.",
        "reqps",
        [("{{client}} {{reason}}", counted("client, reason", "warnings", chosen) + OR_ZERO)],
        width=24,
    )

    board.row("What changed?")
    board.table(
        "Signatures",
        "The inputs of each version that is served.",
        "short",
        f"count by (version, signature, input, dtype, shape) (tfs_sidecar_signature_info{of(chosen)})",
        "TfsSidecarSignatureChanged",
        16,
        False,
        "Sidecars",
    )
    board.lines(
        "Refreshes of the signatures",
        "Reads of the signatures from TensorFlow Serving.",
        "short",
        [("{{outcome}}", counted("outcome", "signature_refreshes", chosen, function="increase"))],
        "TfsSidecarModelProblem",
        8,
    )

    board.row("Do the values look like the training data? (zero without a profile)")
    board.table(
        "Findings by client",
        "Requests whose values do not look like the training data, by client and kind. SHIFTED: the client "
        "preprocesses in another way. /api/findings says how, and what to change.",
        "short",
        f"topk(50, {counted('client, signature, input, kind', 'preprocessing_findings', chosen, 'increase', '$__range')}{OR_ZERO})",
        "TfsSidecarFindings",
        12,
    )
    board.lines(
        "Drift",
        "Population stability index of the features that are farthest from the training data. Above 0.25 they need a look.",
        "short",
        [
            (
                "{{input}} {{feature}}",
                f"topk(16, max by (signature, input, feature) (tfs_sidecar_feature_drift{of(chosen)})){OR_ZERO}",
            )
        ],
        "TfsSidecarDrift",
        12,
    )

    board.row("Batching (zero for models without it)")
    board.lines(
        "Requests and rows per run",
        "Means of the runs that requests share.",
        "short",
        [
            ("requests", mean("tfs_sidecar_batch_requests", chosen) + OR_ZERO),
            ("rows", mean("tfs_sidecar_batch_rows", chosen) + OR_ZERO),
        ],
        width=8,
    )
    board.lines(
        "What starts runs",
        "Runs in a second by what made them start.",
        "ops",
        [
            ("{{cause}}", counted("cause", "batch_flushes", chosen) + OR_ZERO),
        ],
        width=8,
    )
    board.lines(
        "Sent alone",
        "Requests that shared no run although they might have, by the reason.",
        "reqps",
        [
            ("{{reason}}", counted("reason", "batch_bypass", chosen) + OR_ZERO),
        ],
        width=8,
    )
    board.lines(
        "Cost of a run",
        "Learned: the time of a run, and what each row adds.",
        "s",
        [
            ("run {{signature}}", f"avg by (signature) (tfs_sidecar_batch_run_cost_seconds{of(chosen)}){OR_ZERO}"),
            ("row {{signature}}", f"avg by (signature) (tfs_sidecar_batch_row_cost_seconds{of(chosen)}){OR_ZERO}"),
        ],
        width=8,
    )
    board.lines(
        "Rows that wait",
        "Rows of requests that wait for a run.",
        "short",
        [
            ("rows", f"sum(tfs_sidecar_queue_rows{of(chosen)}){OR_ZERO}"),
        ],
        width=8,
    )
    board.lines(
        "Answers that differ",
        "Members of shared runs whose rows differ from a lone run; and 0 where batching was switched off.",
        "short",
        [
            ("differ", counted("", "batch_divergence", chosen, function="increase") + OR_ZERO),
            ("on: {{signature}}", f"min by (signature) (tfs_sidecar_batching{of(chosen)}){OR_ZERO}"),
        ],
        "TfsSidecarBatchingOff",
        8,
    )

    board.row("Latency")
    latency(board, chosen)
    board.write()


def client():
    chosen, checked = 'client=~"$client"', f'method=~"{CHECKED}"'
    board = Dashboard(
        "tfs-sidecar-client",
        "tfs-sidecar / Client",
        "One client: what it sends wrong, to which models, and since when.",
        [
            variable("namespace", "tfs_sidecar_build_info"),
            variable(
                "client",
                '{__name__=~"tfs_sidecar_(repairs|rejections|warnings|would_repair|would_reject)_total", namespace=~"$namespace"}',
                several=False,
            ),
        ],
    )
    board.row("How much is wrong?")
    board.stat(
        "Mistakes",
        "Repairs and refusals in the time range, or what they would be in mode observe. A request can have several.",
        "short",
        mistakes("", chosen),
        1,
        "TfsSidecarClientMismatches",
        6,
    )
    board.stat(
        "Refused",
        "Requests that the sidecar refused because of what was sent.",
        "short",
        counted("", "rejections", chosen, function="increase", window="$__range") + OR_ZERO,
        1,
        "TfsSidecarRejections",
        6,
    )
    board.stat(
        "Would be refused",
        "Requests that mode repair would refuse. They were forwarded.",
        "short",
        counted("", "would_reject", chosen, function="increase", window="$__range") + OR_ZERO,
        1,
        width=6,
    )
    board.stat(
        "Warnings",
        "Warnings about requests that were forwarded.",
        "short",
        counted("", "warnings", chosen, function="increase", window="$__range") + OR_ZERO,
        width=6,
    )

    board.row("Since when?")
    board.lines(
        "Mistakes by model",
        "In a second.",
        "reqps",
        [("{{model}}", mistakes("model", chosen, "$__rate_interval", "rate"))],
    )
    board.lines(
        "Share of the requests for each model",
        "Mistakes by all requests for the model. Requests are not counted by client. More than 100 % is possible, because a request can have several mistakes.",
        "percentunit",
        [
            (
                "{{model}}",
                f"{mistakes('model', chosen, '$__rate_interval', 'rate')} / on (model) ({requests('model', checked)} > 0)",
            )
        ],
        "TfsSidecarClientMismatches",
    )

    board.row("What must it change?")
    board.table(
        "Mistakes",
        "How often in the time range. The first count of a new series is not in it.",
        "short",
        f"topk(50, {mistakes('model, signature, input, mistake', chosen)} > 0)",
        "TfsSidecarClientMismatches",
        16,
    )
    board.lines(
        "Warnings",
        "By model and reason.",
        "reqps",
        [("{{model}} {{reason}}", counted("model, reason", "warnings", chosen) + OR_ZERO)],
        width=8,
    )
    board.text(
        "The line to change",
        "`tfs-sidecar fixes --admin ADDR --client '$client'` prints the line to change for each mistake, in the client's "
        "language; with `--format markdown`, the text of a ticket. The status page of each sidecar shows the same.",
    )
    board.write()


if __name__ == "__main__":
    (HERE / "dashboards").mkdir(exist_ok=True)
    fleet()
    model()
    client()
