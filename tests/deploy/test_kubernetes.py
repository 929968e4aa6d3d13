"""The Kustomize manifests: accepted by Kubernetes and by the sidecar, and free of the known mistakes."""

import importlib.util
import re
import shutil

import manifests
import pytest
import yaml
from manifests import ANY, KUBERNETES, NEWEST, OLDEST, OURS, Pod, changed, kustomize, only
from tools import DEPLOY, ROOT, program, run

VARIANTS = ["native", "classic", "uds"]
MONITORING = KUBERNETES / "monitoring"


def overlay(variant):
    return kustomize(KUBERNETES / "overlays" / variant)


def monitoring(name):
    return yaml.safe_load((MONITORING / f"{name}.yaml").read_text())


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_knows_every_field_of_the_overlays(variant):
    manifests.check_schemas(overlay(variant), OLDEST[variant], NEWEST)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pods_of_the_overlays_work(variant, tmp_path):
    pod = Pod(overlay(variant), tmp_path)
    assert pod.native == (variant != "classic")
    assert pod.settings["upstream"].startswith("unix://") == (variant == "uds")
    manifests.check_pod(pod, [*OURS, manifests.observes])
    manifests.check_network(pod)
    manifests.check_token(pod.objects)


def sidecar(spec):
    return spec["initContainers"][0]


# A mistake, the check that finds it, and how to make it.
MISTAKES = {
    "a misspelt restart policy": ("starts_and_becomes_ready", lambda spec: sidecar(spec).update(restartPolicy="Alway")),
    "a startup probe that waits for TF Serving": ("starts_and_becomes_ready", lambda spec: sidecar(spec)["startupProbe"]["httpGet"].update(path="/readyz")),
    "a liveness probe that waits for TF Serving": ("starts_and_becomes_ready", lambda spec: sidecar(spec)["livenessProbe"]["httpGet"].update(path="/readyz")),
    "a readiness probe that does not wait": ("starts_and_becomes_ready", lambda spec: sidecar(spec)["readinessProbe"]["httpGet"].update(path="/livez")),
    "a probe with the name of no port": ("starts_and_becomes_ready", lambda spec: sidecar(spec)["livenessProbe"]["httpGet"].update(port="admn")),
    "no preStop hook": ("is_drained_before_tf_serving_stops", lambda spec: spec["containers"][0].pop("lifecycle")),
    "a preStop hook of the sidecar": ("is_drained_before_tf_serving_stops", lambda spec: sidecar(spec).update(lifecycle=spec["containers"][0].pop("lifecycle"))),
    "a hook that names a port of another container": ("is_drained_before_tf_serving_stops", lambda spec: spec["containers"][0]["lifecycle"]["preStop"]["httpGet"].update(port="drain")),
    "a hook to the admin port": ("is_drained_before_tf_serving_stops", lambda spec: spec["containers"][0]["lifecycle"]["preStop"]["httpGet"].update(port=8602)),
    "too little time to drain": ("is_drained_before_tf_serving_stops", lambda spec: spec.update(terminationGracePeriodSeconds=35)),
    "TF Serving as PID 1": ("is_drained_before_tf_serving_stops", lambda spec: spec.pop("shareProcessNamespace")),
    "an admin port that kubelet cannot reach": ("is_drained_before_tf_serving_stops", lambda spec: sidecar(spec)["args"].__setitem__(2, "--admin-listen=127.0.0.1:8602")),
    "an unknown flag": ("the sidecar's settings", lambda spec: sidecar(spec)["args"].append("--drain-timeout=5s")),
    "an invalid variable": ("the sidecar's settings", lambda spec: sidecar(spec)["env"].append({"name": "TFS_SIDECAR_MODE", "value": "observ"})),
    "a port that another one has": ("has_the_ports_that_it_uses", lambda spec: spec["containers"][0]["args"].append("--port=8602")),
    "another port of TF Serving": ("reaches_tf_serving", lambda spec: spec["containers"][0]["args"].append("--port=8510")),
    "a port that is declared wrongly": ("has_the_ports_that_it_uses", lambda spec: sidecar(spec)["ports"][0].update(containerPort=8500)),
    "root": ("is_restricted", lambda spec: sidecar(spec)["securityContext"].update(runAsUser=0)),
    "a writable root": ("is_restricted", lambda spec: sidecar(spec)["securityContext"].update(readOnlyRootFilesystem=False)),
    "TF Serving as root": ("tf_serving_is_restricted", lambda spec: spec["containers"][0]["securityContext"].update(runAsUser=0)),
    "less memory than requests may take": ("has_memory_for_its_limits", lambda spec: sidecar(spec)["resources"]["limits"].update(memory="512Mi")),
    "a mounted file that is never updated": ("the sidecar's settings", lambda spec: sidecar(spec)["volumeMounts"][0].update(subPath="config.yaml")),
    "batching of TF Serving": ("sets_the_flags_of_tf_serving", lambda spec: spec["containers"][0]["args"].append("--enable_batching=true")),
    "no name of the pod": ("names_the_pod", lambda spec: sidecar(spec).update(env=[])),
    "another model": ("waits_for_its_model", lambda spec: spec["containers"][0]["args"].append("--model_name=other")),
}


def failing(objects, folder):
    """The names of the checks that fail."""
    try:
        pod = Pod(objects, folder)
    except AssertionError:
        return ["the sidecar's settings"]
    failed = []
    for check in [*OURS, manifests.observes]:
        try:
            check(pod)
        except (AssertionError, KeyError):
            failed.append(check.__name__)
    return failed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_pod_is_found(mistake, tmp_path):
    check, change = MISTAKES[mistake]
    assert check in failing(changed(overlay("native"), change), tmp_path)


def test_a_tcp_port_beside_the_unix_socket_is_found(tmp_path):
    for argument in ("--port=8500", "--rest_api_port=8501"):
        objects = changed(overlay("uds"), lambda spec, argument=argument: spec["containers"][0]["args"].append(argument))
        with pytest.raises(AssertionError):
            manifests.reaches_tf_serving(Pod(objects, tmp_path))
    objects = changed(overlay("uds"), lambda spec: spec["containers"][0]["securityContext"].update(runAsUser=1000))
    with pytest.raises(AssertionError):
        manifests.reaches_tf_serving(Pod(objects, tmp_path))


def test_an_unknown_field_is_found():
    objects = changed(overlay("native"), lambda spec: spec.update(terminationGracePeriod=45))
    with pytest.raises(Exception, match="terminationGracePeriod"):
        manifests.check_schemas(objects, NEWEST)


def test_the_variants_have_the_same_sidecar(tmp_path):
    native, classic, uds = (Pod(overlay(variant), tmp_path).sidecar for variant in VARIANTS)
    assert native == classic | {"restartPolicy": "Always"}
    assert uds["args"] == [*native["args"], "--upstream=unix:///run/tfs/grpc.sock"]
    assert {**uds, "args": 0, "volumeMounts": 0} == {**native, "args": 0, "volumeMounts": 0}


def example(tmp_path, components=("",), change=lambda text: text):
    """The example deployment with components, after a change of its text."""
    shutil.copytree(KUBERNETES / "component", tmp_path / "component")
    shutil.copytree(KUBERNETES / "example", tmp_path / "example")
    deployment = tmp_path / "example" / "tf-serving.yaml"
    deployment.write_text(change(deployment.read_text()))
    kustomization = yaml.safe_load((tmp_path / "example" / "kustomization.yaml").read_text())
    kustomization["components"] = [f"../component{name}" for name in components]
    (tmp_path / "example" / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return manifests.objects_of(run(program("kubectl"), "kustomize", tmp_path / "example"))


@pytest.mark.parametrize("components", [("",), ("", "/classic"), ("", "/uds")])
def test_the_component_works_in_an_existing_deployment(components, tmp_path):
    objects = example(tmp_path, components)
    manifests.check_schemas(objects, OLDEST["classic" if "/classic" in components else "native"], NEWEST)
    pod = Pod(objects, tmp_path)
    assert pod.native == ("/classic" not in components)
    manifests.check_pod(pod, [*ANY, manifests.observes])


def test_the_example_is_as_it_is_committed(tmp_path):
    assert kustomize(KUBERNETES / "example") == example(tmp_path)


def test_the_component_changes_nothing_else(tmp_path):
    before = manifests.objects_of((KUBERNETES / "example" / "tf-serving.yaml").read_text())
    objects = example(tmp_path)
    service, old_service = only(objects, "Service"), only(before, "Service")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [8600, "http"]
    service["spec"]["ports"][0]["targetPort"] = "grpc"
    assert service == old_service

    deployment, old_deployment = only(objects, "Deployment"), only(before, "Deployment")
    template = deployment["spec"]["template"]
    del template["metadata"]["labels"]["tfs-sidecar/inject"]
    del template["spec"]["shareProcessNamespace"], template["spec"]["terminationGracePeriodSeconds"]
    assert [container["name"] for container in template["spec"].pop("initContainers")] == ["tfs-sidecar"]
    assert template["spec"]["containers"][0].pop("lifecycle").keys() == {"preStop"}
    template["spec"]["volumes"] = [volume for volume in template["spec"]["volumes"] if volume["name"] != "tfs-sidecar-config"]
    assert deployment == old_deployment


def test_without_the_label_the_component_changes_nothing(tmp_path):
    objects = example(tmp_path, change=lambda text: text.replace('    tfs-sidecar/inject: "true"\n', ""))
    assert "initContainers" not in only(objects, "Deployment")["spec"]["template"]["spec"]
    assert only(objects, "Service")["spec"]["ports"][0]["targetPort"] == "grpc"


INIT = """      initContainers:
        - name: download
          image: busybox
      containers:
"""


@pytest.mark.parametrize("components", [("",), ("", "/classic"), ("", "/uds")])
def test_an_init_container_of_the_deployment_stays(components, tmp_path):
    objects = example(tmp_path, components, lambda text: text.replace("      containers:\n", INIT))
    pod = Pod(objects, tmp_path)
    assert {"name": "download", "image": "busybox"} in pod.init
    manifests.check_pod(pod, ANY)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("      port: 8500\n", "      port: 8500\n      protocol: TCP\n"),
        lambda text: text.replace("      targetPort: grpc\n", ""),
    ],
)
def test_the_component_finds_the_port_however_it_is_written(change, tmp_path):
    assert only(example(tmp_path, change=change), "Service")["spec"]["ports"][0]["targetPort"] == 8600


def test_a_service_without_port_8500_is_an_error_and_not_bypassed_silently(tmp_path):
    example(tmp_path)
    deployment = tmp_path / "example" / "tf-serving.yaml"
    deployment.write_text(deployment.read_text().replace("port: 8500", "port: 9000"))
    run(program("kubectl"), "kustomize", tmp_path / "example", code=1)


def test_tf_serving_may_have_a_liveness_probe(tmp_path):
    probe = "          livenessProbe: {tcpSocket: {port: 8500}}\n          args:\n"
    pod = Pod(example(tmp_path, change=lambda text: text.replace("          args:\n", probe)), tmp_path)
    assert "livenessProbe" in pod.tf_serving
    manifests.check_pod(pod, [*ANY, manifests.observes])


def test_the_operator_knows_every_field_of_monitoring():
    manifests.check_schemas(kustomize(MONITORING), OLDEST["classic"], NEWEST)
    manifests.check_schemas([monitoring("hpa"), monitoring("scaledobject")], OLDEST["classic"], NEWEST)


def test_unknown_and_invalid_fields_of_custom_resources_are_found():
    monitor, rule, scaled = monitoring("podmonitor"), monitoring("prometheusrule"), monitoring("scaledobject")
    monitor["spec"]["podMetricsEndpoints"][0] |= {"interval": "15 parsecs", "relabeling": []}
    rule["spec"]["groups"][0]["rules"][0]["recrod"] = "x"
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 16
    problems = "\n".join(manifests.check_custom([monitor, rule, scaled]))
    for part in ("interval", "relabeling", "recrod", "threshold"):
        assert part in problems


@pytest.mark.parametrize("variant", VARIANTS)
def test_prometheus_finds_the_pods(variant, tmp_path):
    pod = Pod(overlay(variant), tmp_path)
    monitor = only(kustomize(MONITORING), "PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod.labels.items()
    assert monitor["namespaceSelector"] == {"any": True}
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert pod.resolve(pod.sidecar, endpoint["port"]) == pod.port("admin_listen")
    assert {"targetLabel": "job", "replacement": "tfs-sidecar"} in endpoint["relabelings"]


def test_the_autoscalers_read_metrics_that_exist():
    exported = set(re.findall(r"^\| `(tfs_sidecar_\w+)` \| gauge", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    hpa, scaled = monitoring("hpa")["spec"], monitoring("scaledobject")["spec"]
    deployment = only(overlay("native"), "Deployment")["metadata"]["name"]
    assert hpa["scaleTargetRef"]["name"] == scaled["scaleTargetRef"]["name"] == deployment
    used = [metric["pods"]["metric"]["name"] for metric in hpa["metrics"]]
    assert used == ["tfs_sidecar_inflight_requests", "tfs_sidecar_queued_requests"]
    queries = [trigger["metadata"]["query"] for trigger in scaled["triggers"]]
    assert used == [re.search(r"tfs_sidecar_\w+", query)[0] for query in queries]
    assert set(used) <= exported
    targets = [metric["pods"]["target"]["averageValue"] for metric in hpa["metrics"]]
    assert targets == [trigger["metadata"]["threshold"] for trigger in scaled["triggers"]]
    promql_parser = pytest.importorskip("promql_parser")
    for query in queries:
        promql_parser.parse(query)


def generator():
    spec = importlib.util.spec_from_file_location("generate", DEPLOY / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_copies_of_rules_and_dashboards_are_up_to_date(capsys):
    assert generator().main(DEPLOY, check=True) == 0, capsys.readouterr().err + "run deploy/generate.py"


def test_the_copies_have_what_the_originals_have(tmp_path):
    """With files of its own: two rules files, and a dashboard with what YAML could misread."""
    for path in ("prometheus/rules", "grafana/dashboards", "kubernetes/monitoring"):
        (tmp_path / path).mkdir(parents=True)
    group = "groups:\n  - name: {0}\n    rules:\n      - alert: {0}\n        expr: up == 0\n        annotations:\n          summary: '{{{{ $labels.pod }}}}'\n"
    for name in ("a", "b"):
        (tmp_path / f"prometheus/rules/{name}.yml").write_text("# Conventions.\n" + group.format(name))
    (tmp_path / "grafana/dashboards/fleet.json").write_text('{\n  "title": "---",\n\n  "x": "a: b # {{ c }}"\n}\n')
    assert generator().main(tmp_path, check=True) == 1
    assert generator().main(tmp_path, check=False) == 0
    assert generator().main(tmp_path, check=True) == 0

    groups = [yaml.safe_load((tmp_path / f"prometheus/rules/{name}.yml").read_text())["groups"][0] for name in ("a", "b")]
    assert yaml.safe_load((tmp_path / "kubernetes/monitoring/prometheusrule.yaml").read_text())["spec"] == {"groups": groups}
    assert yaml.safe_load((tmp_path / "helm/tfs-sidecar/files/rules.yaml").read_text()) == {"groups": groups}
    (config_map,) = manifests.objects_of((tmp_path / "kubernetes/monitoring/dashboards.yaml").read_text())
    assert config_map["data"] == {"fleet.json": (tmp_path / "grafana/dashboards/fleet.json").read_text()}

    (tmp_path / "grafana/dashboards/fleet.json").unlink()
    assert generator().main(tmp_path, check=True) == 1
    assert generator().main(tmp_path, check=False) == 0
    assert not (tmp_path / "helm/tfs-sidecar/files/dashboards/fleet.json").exists()


def test_a_config_map_is_not_too_large():
    for one in kustomize(MONITORING):
        if one["kind"] == "ConfigMap":
            # `kubectl apply` keeps a copy in an annotation, and all annotations may have 256 KiB.
            assert len(yaml.safe_dump(one)) < 250 * 1024, one["metadata"]["name"]


def test_the_files_are_tidy_yaml():
    helm = ["helm/tfs-sidecar/templates/*", "helm/tfs-sidecar/files/*", "kubernetes/monitoring/dashboards.yaml"]
    rules = {"line-length": "disable", "document-start": "disable", "braces": {"max-spaces-inside": 1}}
    rules["truthy"] = {"check-keys": False}
    config = {"extends": "default", "ignore": helm, "rules": {**rules, "comments": {"min-spaces-from-content": 1}}}
    run(program("yamllint"), "--strict", "-d", yaml.safe_dump(config), ".", cwd=DEPLOY)


def test_the_pod_starts_as_committed():
    """Nobody has to set anything before `kubectl apply` but the model, its claim and the images."""
    objects = overlay("native")
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    spec = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert ("ServiceAccount", spec["serviceAccountName"]) in names
    for volume in spec["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"] if "persistentVolumeClaim" in volume] == ["models"]
