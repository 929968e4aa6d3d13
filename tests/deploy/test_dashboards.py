"""The dashboards and the rules on a real Prometheus that scrapes real sidecars, and an alert from its cause to
a webhook and back. Grafana itself is not run: it is in no package registry."""

import contextlib
import importlib.util
import json
import re

import promql_parser
import pytest
import yaml
from monitoring import FLOAT, NAMESPACE, RULES, Alertmanager, Models, Prometheus, Sidecar, Traffic, Webhook
from tools import DEPLOY, ROOT, program, run, until

GRAFANA = DEPLOY / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
TLS = ROOT / "tests" / "fixtures" / "tls"
# What Grafana puts in place of variables. Models and clients are those of the traffic.
VARIABLES = {
    "$__rate_interval": "5s",
    "$__range": "30s",
    "$namespace": NAMESPACE,
    "$model": "churn|batched|embed|absent",
    "$client": "fraud-scorer/2.3|checkout/4.1|web-frontend/7.0",
}
# Series that do not come from the sidecar itself.
OF_PROMETHEUS = {"up", "ALERTS"}
# A scaler that clients must apply.
FEATURE = "{count: 1000, min: -3.2, max: 3.2, mean: 0, std: 1, quantiles: [-2.3, -1.6, -0.7, 0, 0.7, 1.6, 2.3]}"
PROFILE = f"""
profile: 1
rows: 1000
inputs:
  ids:
    dtype: float
    by: feature
    features: [{", ".join([FEATURE] * 8)}]
    scaler: {{kind: standard, mean: [500], scale: [2]}}
"""
CONFIG = """
drain_delay: 0s
poll_interval: 100ms
reload_interval: 100ms
models:
  churn:
    signatures:
      serving_default:
        inputs: {featurs: {rank1_is: single_row}}
  embed: {mode: observe, profile: PROFILE.yaml}
  batched:
    signatures:
      serving_default:
        batching: {enabled: on, probation: 0, verify_sample: 0.2, max_rows: 2, max_queue_rows: 2}
"""


def metric_names(expression):
    """Every metric in an expression."""
    return {selector.split("{")[0] for selector in selectors(expression)}


def selectors(expression):
    """Every selector of an expression, as an instant selector without offset."""
    found = []

    def visit(node):
        kind = type(node).__name__
        if kind == "VectorSelector":
            text = str(node)
            found.append(re.sub(r"\s+offset .*", "", text))
        elif kind == "MatrixSelector":
            visit(node.vector_selector if hasattr(node, "vector_selector") else node.vs)
        else:
            for part in ("expr", "lhs", "rhs"):
                if hasattr(node, part):
                    visit(getattr(node, part))
            for argument in getattr(node, "args", None) or []:
                visit(argument)

    visit(promql_parser.parse(expression))
    return found


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels") or []


def queries():
    """(dashboard and panel, query with its variables replaced) of all dashboards."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        targets = [(panel["title"], it["expr"]) for panel in panels(dashboard) for it in panel.get("targets", [])]
        # An annotation is there only for a moment.
        notes = dashboard["annotations"]["list"]
        targets += [(note["name"], f"max_over_time(({note['expr']})[2m:500ms])") for note in notes]
        for title, query in targets:
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query.replace('"$1"', ""), f"{path.name}: {title}: an unknown variable: {query}"
            yield f"{path.stem}: {title}", query


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def documented():
    """The metrics of docs/metrics.md, which a test of the sidecar keeps equal to what it exports."""
    lines = re.findall(r"^\| `(tfs_sidecar_\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    names = {name for name, _ in lines}
    names |= {name + end for name, kind in lines if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    return names | OF_PROMETHEUS | {rule["record"] for rule in rules() if "record" in rule}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Two sidecars, mixed traffic, Prometheus, Alertmanager and a webhook, after everything has happened that
    a dashboard shows: a new version with another signature, a refused configuration, a changed mode."""
    program("prometheus"), program("prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("monitoring")
    churn = {"features": (FLOAT, [-1, 4]), "age": (FLOAT, [-1, 1])}
    models = {"churn": (6, churn), "embed": (1, {"ids": (FLOAT, [-1, 8])}), "batched": (1, {"x": (FLOAT, [-1, 4])})}
    # It has certificates, a model that is not served, and traces that nobody takes.
    other = f"""
drain_delay: 0s
poll_interval: 100ms
otlp_endpoint: 127.0.0.1:1
listen_tls: {{cert: {TLS / "server.pem"}, key: {TLS / "server.key"}}}
models: {{absent: {{}}}}
"""
    with contextlib.ExitStack() as running:
        enter = running.enter_context
        backend = enter(Models(models))
        (folder / "profile.yaml").write_text(PROFILE)
        config = CONFIG.replace("PROFILE.yaml", str(folder / "profile.yaml"))
        sidecar = enter(Sidecar(folder, "first", backend.address, config))
        second = enter(Sidecar(folder, "second", backend.address, other))
        webhook = enter(Webhook())
        alertmanager = enter(Alertmanager(folder, webhook.url))
        prometheus = enter(Prometheus(folder, [sidecar.admin, second.admin], alertmanager.address))
        until(lambda: sidecar.answers(f"http://{sidecar.admin}/readyz"), "readiness")
        traffic = enter(Traffic(sidecar.address))
        # The share before the change has to be older than the rule looks back.
        until(
            lambda: prometheus.query('namespace_model:tfs_sidecar_mismatches:ratio_rate5m{model="churn"} offset 10s'),
            "a past",
        )
        models["churn"] = (7, {"features": (FLOAT, [-1, 5]), "age": (FLOAT, [-1, 1])})
        sidecar.file.write_text(config + "surprise: 1\n")
        sidecar.change_mode("embed", "observe")
        until(lambda: prometheus.query("tfs_sidecar_config_refused == 1"), "the refused configuration")
        until(
            lambda: prometheus.query('namespace_model_version:tfs_sidecar_mismatches:ratio_rate5m{version="7"}'),
            "the new version",
        )
        yield prometheus, webhook, traffic, sidecar, second


def test_an_alert_reaches_the_webhook_with_its_client_and_is_resolved_once_the_client_is_fixed(stage):
    _, webhook, traffic, _, _ = stage
    alert = {"client": "web-frontend/7.0", "model": "embed", "namespace": NAMESPACE}
    until(lambda: webhook.last("TfsSidecarClientMismatches", **alert)[1]["status"] == "firing", "the alert")
    path, sent = webhook.last("TfsSidecarClientMismatches", **alert)
    assert path == "/tickets"
    assert re.fullmatch(
        r"Client web-frontend/7\.0 sends [\d.]+% of the requests for model embed wrong\.",
        sent["annotations"]["summary"],
    )
    assert (ROOT / sent["annotations"]["runbook_url"]).is_file()
    traffic.fixed.set()
    until(
        lambda: webhook.last("TfsSidecarClientMismatches", **alert)[1]["status"] == "resolved", "the end of the alert"
    )


def test_a_version_that_breaks_its_clients_pages(stage):
    _, webhook, _, _, _ = stage
    change = "TfsSidecarMismatchesAfterVersionChange"
    until(lambda: webhook.last(change, model="churn", version="7")[1]["status"], "the page")
    assert webhook.last(change, model="churn", version="7")[0] == "/pages"


def test_every_query_of_every_dashboard_shows_something(stage):
    prometheus = stage[0]
    every = list(queries())
    assert len(every) > 60
    empty = every

    def none_is_empty():
        nonlocal empty
        empty = [(panel, query) for panel, query in empty if not prometheus.query(query)]
        return not empty

    try:
        until(none_is_empty, "data in every panel", 20)
    except AssertionError as error:
        raise AssertionError("\n".join(f"{panel}: {query}" for panel, query in empty)) from error


def test_every_selector_of_every_dashboard_selects_something(stage):
    """A query with a zero where there is nothing hides a label that is misspelt."""
    prometheus = stage[0]
    wanted = {selector: panel for panel, query in queries() for selector in selectors(query)}
    for selector, panel in wanted.items():
        until(lambda selector=selector: prometheus.query(f"last_over_time({selector}[1m])"), f"{panel}: {selector}", 20)


def test_every_rule_selects_something_and_every_recording_rule_records(stage):
    prometheus = stage[0]
    for rule in rules():
        for selector in {rule["expr"] if "record" in rule else None, *selectors(rule["expr"])} - {None}:
            query = selector.replace("[5m]", "[5s]")
            until(lambda query=query: prometheus.query(query), f"{rule.get('record') or rule['alert']}: {query}", 20)
        if "record" in rule:
            assert prometheus.query(rule["record"]), rule["record"]
    loaded = prometheus.api("rules")["groups"]
    unhealthy = [rule for group in loaded for rule in group["rules"] if rule["health"] != "ok"]
    assert unhealthy == []


def test_texts_of_firing_alerts_name_what_they_are_about(stage):
    wanted = {"Mismatches", "ClientMismatches", "ModelUnknown", "ModelProblem", "ConfigRefused", "ConfigProblems"}
    wanted |= {"Findings", "Drift"}

    def firing():
        found = [alert for alert in stage[0].api("alerts")["alerts"] if alert["state"] == "firing"]
        names = {alert["labels"]["alertname"].removeprefix("TfsSidecar") for alert in found}
        return found if wanted <= names else None

    for alert in until(firing, "the alerts that stay"):
        for text in alert["annotations"].values():
            assert "<no value>" not in text and "{{" not in text and "  " not in text, alert


def test_the_metrics_of_the_sidecar_are_well_formed(stage):
    for sidecar in stage[3:]:
        run(program("promtool"), "check", "metrics", input=sidecar.metrics())


def test_every_metric_in_dashboards_and_rules_is_documented():
    known = documented()
    for panel, query in queries():
        missing = {name for name in metric_names(query) if name not in known and not name.startswith("process_")}
        assert not missing, f"{panel}: {missing}"
    for rule in rules():
        assert metric_names(rule["expr"]) <= known, rule


def test_dashboards_are_those_that_the_generator_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.HERE = tmp_path
    (tmp_path / "dashboards").mkdir()
    for write in (generate.fleet, generate.model, generate.client):
        write()
    written = {path.name: path.read_text() for path in (tmp_path / "dashboards").iterdir()}
    assert written == {path.name: path.read_text() for path in DASHBOARDS}, "run deploy/grafana/generate.py"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_follows_the_conventions(path):
    dashboard = json.loads(path.read_text())
    assert dashboard["id"] is None and dashboard["uid"] == f"tfs-sidecar-{path.stem}"
    assert "__inputs" not in dashboard
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables[0] == "datasource"
    expressions = " ".join(target["expr"] for panel in panels(dashboard) for target in panel.get("targets", []))
    assert set(re.findall(r"\$(?!__)\{?([a-z]\w*)", expressions)) <= set(variables)
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(ids) == len(set(ids))
    source = {"type": "prometheus", "uid": "${datasource}"}
    covered = set()
    for panel in panels(dashboard):
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & covered and at["x"] + at["w"] <= 24, f"{panel['title']} overlaps"
        covered |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        if panel["type"] == "text":
            continue
        assert panel["datasource"] == source, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == source, panel["title"]
            windows = set(re.findall(r"\[([^\]]+)\]", target["expr"]))
            assert windows <= {"$__rate_interval", "$__range"}, panel["title"]
        for runbook in re.findall(r"docs/runbooks/\w+\.md", panel["description"]):
            assert (ROOT / runbook).is_file(), runbook
    text = path.read_text()
    assert "docs/runbooks/" in text
    for uid in re.findall(r"/d/(tfs-sidecar-\w+)", text):
        assert (GRAFANA / "dashboards" / f"{uid.removeprefix('tfs-sidecar-')}.json").is_file(), uid


def test_the_provisioning_of_grafana_names_what_is_there():
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "tfs-sidecar.yaml").read_text())
    [source] = sources["datasources"]
    assert source["type"] == "prometheus"
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "tfs-sidecar.yaml").read_text())["providers"]
    assert provider["type"] == "file" and provider["allowUiUpdates"] is False
