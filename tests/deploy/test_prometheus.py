"""The files of deploy/prometheus and the runbooks, without a running Prometheus."""

import re

import pytest
import yaml
from tools import DEPLOY, ROOT, program, run

PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "rules" / "tfs-sidecar.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"


def alerts():
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def names():
    return {alert["alert"] for alert in alerts()}


def test_the_configuration_and_the_rules_are_valid():
    run(program("promtool"), "check", "config", "--lint=all", PROMETHEUS / "prometheus.yml")
    run(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_configuration_of_alertmanager_is_valid():
    run(program("amtool"), "check-config", PROMETHEUS / "alertmanager.yml")


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*_test.yml")), ids=lambda path: path.stem)
def test_rules_alert_when_they_should(path):
    run(program("promtool"), "test", "rules", path)


def test_every_alert_is_shown_to_fire_and_to_resolve():
    tests = [
        test for path in (PROMETHEUS / "tests").glob("*_test.yml") for test in yaml.safe_load(path.read_text())["tests"]
    ]
    fires, resolves = set(), set()
    for test in tests:
        fired = set()
        for step in test["promql_expr_test"]:
            shown = {
                name for sample in step["exp_samples"] for name in re.findall(r'alertname="(\w+)"', sample["labels"])
            }
            asked = re.findall(r'alertname="(\w+)"', step["expr"]) or fired if "ALERTS" in step["expr"] else []
            resolves |= fired & (set(asked) - shown)
            fired |= shown
        fires |= fired
    assert fires == names()
    assert resolves == names()


def test_every_alert_says_how_urgent_it_is_and_what_to_do():
    for alert in alerts():
        assert alert["alert"].startswith("TfsSidecar")
        assert alert["labels"]["severity"] in ("page", "ticket")
        texts = alert["annotations"]
        assert texts["summary"].endswith(".") and texts["description"].endswith(".")
        assert texts["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names()
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        assert text.startswith(f"# {path.stem}\n"), path
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == ["See who", "What to do", "When to ignore it"], path
        severities = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] == path.stem}
        for severity in severities:
            assert re.search(rf"[Ss]everity: {severity}", text), f"{path}: {severity}"


def test_runbooks_name_only_metrics_and_files_that_exist():
    metrics = set(re.findall(r"`(tfs_sidecar_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        assert set(re.findall(r"\btfs_sidecar_\w+", text)) <= metrics, path
        for target in re.findall(r"\]\(([^)]+)\)", text):
            file, _, anchor = target.partition("#")
            page = (path.parent / file).resolve()
            assert page.is_file(), f"{path}: {target}"
            titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, f"{path}: {target}"


def test_runbooks_name_only_commands_and_flags_that_exist():
    help_ = (ROOT / "docs" / "cli.md").read_text()
    sections = dict(re.findall(r"^## `tfs-sidecar (\S+)`\n(.*?)(?=^## |\Z)", help_, re.MULTILINE | re.DOTALL))
    found = 0
    for path in RUNBOOKS.glob("*.md"):
        for command, rest in re.findall(r"tfs-sidecar (?!\/)([a-z-]+)((?:\s+(?:'[^']*'|[^\s`]+))*)", path.read_text()):
            if command not in sections:
                continue
            found += 1
            for flag in re.findall(r"(?<=\s)--[a-z-]+", rest.split("\n")[0]):
                assert flag in sections[command], f"{path}: {command} {flag}"
        for command in re.findall(r"^\s*tfs-sidecar (\S+)", path.read_text(), re.MULTILINE):
            assert command in sections, f"{path}: {command}"
    assert found >= 10
