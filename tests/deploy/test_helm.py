"""The Helm chart: the same objects as the Kustomize overlays, for every example of values."""

import copy
import json
import re

import manifests
import pytest
import yaml
from manifests import CHART, KUBERNETES, NEWEST, OLDEST, OURS, Pod, kustomize, only
from tools import ROOT

helm = pytest.importorskip("helm_python")

VARIANTS = ["native", "classic", "uds"]
EXAMPLES = sorted((CHART.parent / "examples").glob("*.yaml"))
# The release has the name of the objects in kubernetes/base.
RELEASE = "tensorflow-serving"
# The two labels that only Helm sets, on every object.
HELM_LABELS = {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "tfs-sidecar-1.0.0"}
# Several releases may share a namespace, so Helm puts the name of the release in front.
RENAMED = {f"{RELEASE}-tfs-sidecar": "tfs-sidecar"}


def render(values, name=RELEASE):
    """The files that the chart makes, by path."""
    with helm.Chart.load(CHART) as chart:
        return chart.render(values, name=name, namespace="default")


def chart(values, name=RELEASE):
    """The objects that the chart makes."""
    files = render(values, name)
    return [one for path, text in sorted(files.items()) if path.endswith(".yaml") for one in manifests.objects_of(text)]


def normalised(objects, of_helm):
    """The objects by kind, without what Helm and Kustomize write differently for the same meaning."""
    found = {}
    for one in copy.deepcopy(objects):
        if of_helm:
            labels = one["metadata"]["labels"]
            assert {name: labels.pop(name) for name in HELM_LABELS} == HELM_LABELS
            text = json.dumps(one)
            for before, after in RENAMED.items():
                text = text.replace(f'"{before}"', f'"{after}"')
            one = json.loads(text)
        if one["kind"] == "ConfigMap":
            # Comments and order differ.
            one["data"]["config.yaml"] = yaml.safe_load(one["data"]["config.yaml"])
        if one["kind"] == "Deployment":
            # Kustomize leaves an empty list when the last one moves away.
            spec = one["spec"]["template"]["spec"]
            spec["initContainers"] = spec.get("initContainers") or []
            spec["volumes"].sort(key=lambda volume: volume["name"])
            for container in spec["containers"] + spec["initContainers"]:
                container["volumeMounts"].sort(key=lambda mount: mount["mountPath"])
        assert one["kind"] not in found
        found[one["kind"]] = one
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_makes_what_kustomize_makes(variant):
    ours = normalised(chart({"variant": variant} if variant != "native" else {}), of_helm=True)
    overlay = normalised(kustomize(KUBERNETES / "overlays" / variant), of_helm=False)
    assert ours.keys() == overlay.keys()
    for kind, one in overlay.items():
        assert ours[kind] == one, kind


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pods_of_the_variants_work(variant, tmp_path):
    pod = Pod(chart({"variant": variant}), tmp_path)
    assert pod.native == (variant != "classic")
    manifests.check_pod(pod, [*OURS, manifests.observes])
    manifests.check_network(pod)


def test_the_chart_has_no_lint():
    for values in [{}, *(yaml.safe_load(path.read_text()) for path in EXAMPLES)]:
        report = helm.lint(CHART, values, strict=True)
        assert report["errors"] == []
        # 1 is information, such as that there is no icon.
        assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_work(path, tmp_path):
    values = yaml.safe_load(path.read_text())
    objects = chart(values, name="churn")
    manifests.check_schemas(objects, OLDEST[values.get("variant", "native")], NEWEST)
    pod = Pod(objects, tmp_path)
    manifests.check_pod(pod, OURS)
    manifests.check_network(pod)
    manifests.check_token(objects)
    assert {one["metadata"]["labels"]["app.kubernetes.io/instance"] for one in objects} == {"churn"}
    modes = {name: model["mode"] for name, model in pod.settings["models"].items()}
    assert modes == {values.get("model", {}).get("name", "my_model"): "repair" if path.stem == "repair" else "observe"}
    assert pod.settings["defaults"]["mode"] == "observe"


def test_three_values_are_enough_for_an_existing_deployment(tmp_path):
    (path,) = [path for path in EXAMPLES if path.stem == "existing"]
    values = yaml.safe_load(path.read_text())
    assert sum(len(section) for section in values.values()) == 3
    pod = Pod(chart(values, name="churn"), tmp_path)
    assert pod.tf_serving["image"] == values["tensorflowServing"]["image"]
    assert manifests.flags(pod.tf_serving["args"])["model_base_path"] == "/models/churn"
    (claim,) = [volume["persistentVolumeClaim"] for volume in pod.spec["volumes"] if "persistentVolumeClaim" in volume]
    assert claim == {"claimName": "models", "readOnly": True}


def test_the_notes_tell_how_to_move_the_clients(tmp_path):
    files = render({"model": {"name": "churn"}}, name="churn-checked")
    notes = files["tfs-sidecar/templates/NOTES.txt"]
    patch = json.loads(notes.split("--patch '", 1)[1].split("'", 1)[0])
    pod = Pod(chart({"model": {"name": "churn"}}, name="churn-checked"), tmp_path)
    changes = {change["path"]: change["value"] for change in patch}
    assert changes["/spec/selector"] == only(pod.objects, "Service")["spec"]["selector"]
    assert changes["/spec/ports/0/targetPort"] == pod.port("listen")
    assert "mode `observe`" in notes


def test_a_bucket_needs_no_volume(tmp_path):
    (path,) = [path for path in EXAMPLES if path.stem == "bucket"]
    pod = Pod(chart(yaml.safe_load(path.read_text())), tmp_path)
    assert manifests.flags(pod.tf_serving["args"])["model_base_path"] == "gs://models/churn"
    assert [volume["name"] for volume in pod.spec["volumes"]] == ["tfs-sidecar-config"]
    assert "volumeMounts" not in pod.tf_serving


def test_every_value_is_used(tmp_path):
    """Values that are not the defaults all show in what the chart makes."""
    marks = {
        "name": "own-name",
        "replicas": 7,
        "tensorflowServing": {
            "maxThreads": 96,
            "args": ["--max_num_load_retries=1"],
            "env": [{"name": "TF_A", "value": "mark-tf"}],
            "resources": {"requests": {"cpu": "3"}, "limits": {"memory": "3Gi"}},
        },
        "sidecar": {"image": "own/sidecar:1", "env": [{"name": "TFS_SIDECAR_LOG", "value": "mark=debug"}]},
        "terminationGracePeriodSeconds": 61,
        "rest": {"port": 9501},
        "service": {"type": "NodePort", "port": 9500, "annotations": {"mark": "mark-service"}},
        "podDisruptionBudget": {"maxUnavailable": "49%"},
        "networkPolicy": {
            "clients": [{"podSelector": {"matchLabels": {"mark": "mark-client"}}}],
            "prometheus": {"namespace": "mark-monitoring", "podLabels": {"mark": "mark-prometheus"}},
        },
        "podLabels": {"mark": "mark-label"},
        "podAnnotations": {"mark": "mark-annotation"},
        "nodeSelector": {"mark": "mark-node"},
        "tolerations": [{"key": "mark-toleration"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "imagePullSecrets": [{"name": "mark-secret"}],
    }
    objects = chart(marks)
    manifests.check_schemas(objects, OLDEST["native"], NEWEST)
    manifests.check_pod(Pod(objects, tmp_path), OURS)
    made = json.dumps(objects)
    leaves = ["own-name", "replicas\": 7", "threads=96", "load_retries=1", "mark-tf", "\"cpu\": \"3\"", "3Gi", "own/sidecar:1"]
    leaves += ["mark=debug", "Seconds\": 61", "NodePort", "9500", "9501", "mark-service", "49%", "mark-client", "mark-monitoring", "mark-prometheus"]
    leaves += ["mark-label", "mark-annotation", "mark-node", "mark-toleration", "nodeAffinity", "mark-secret"]
    for leaf in leaves:
        assert leaf in made, leaf


def test_rest_can_be_switched_off(tmp_path):
    pod = Pod(chart({"rest": {"enabled": False}}), tmp_path)
    assert pod.settings.get("rest_listen", "off") == "off"
    assert "8601" not in json.dumps(pod.objects)
    manifests.check_pod(pod, OURS)
    manifests.check_network(pod)


def test_monitoring_is_made_on_request(tmp_path):
    off = {one["kind"] for one in chart({})}
    assert off == {"Deployment", "Service", "ServiceAccount", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"}
    (path,) = [path for path in EXAMPLES if path.stem == "monitoring"]
    objects = chart(yaml.safe_load(path.read_text()))
    monitor, rule = only(objects, "PodMonitor"), only(objects, "PrometheusRule")
    for one in (monitor, rule):
        assert one["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    pod = Pod(objects, tmp_path)
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod.labels.items()
    kustomized = kustomize(KUBERNETES / "monitoring")
    assert rule["spec"] == only(kustomized, "PrometheusRule")["spec"]
    endpoints = only(kustomized, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert monitor["spec"]["podMetricsEndpoints"] == endpoints

    def dashboards(objects):
        maps = [one for one in objects if one["kind"] == "ConfigMap" and "grafana_dashboard" in one["metadata"].get("labels", {})]
        return {file: json.loads(text) for one in maps for file, text in one["data"].items()}

    assert dashboards(objects) == dashboards(kustomized)


REFUSED = {
    "an unknown variant": ({"variant": "natve"}, "variant"),
    "an unknown mode": ({"sidecar": {"mode": "observ"}}, "mode"),
    "a switch of YAML 1.1": ({"sidecar": {"mode": False}}, "mode"),
    "an unknown key": ({"sidecar": {"modus": "observe"}}, "modus"),
    "an unknown key at the top": ({"replicaCount": 3}, "replicaCount"),
    "a wrong type": ({"replicas": "two"}, "replicas"),
    "a port beyond the last": ({"service": {"port": 70000}}, "port"),
    "too little time to drain": ({"terminationGracePeriodSeconds": 30}, "terminationGracePeriodSeconds"),
    "a model without a place": ({"model": {"claim": ""}}, "model"),
    "a model without a name": ({"model": {"name": ""}}, "name"),
    "a flag without dashes": ({"tensorflowServing": {"args": ["enable_batching"]}}, "args"),
    "an unknown resource list": ({"sidecar": {"resources": {"limit": {"memory": "1Gi"}}}}, "limit"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_values_with_a_mistake_are_refused(mistake):
    values, named = REFUSED[mistake]
    with pytest.raises(helm.HelmError, match=named):
        chart(values)


def test_every_value_has_a_place_in_the_schema():
    """Else --set of a documented value would be refused."""

    def compare(values, schema, path):
        for key, value in values.items():
            assert key in schema["properties"], f"{path}{key}"
            inner = schema["properties"][key]
            if isinstance(value, dict) and "properties" in inner:
                assert inner["additionalProperties"] is False
                compare(value, inner, f"{path}{key}.")

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    compare(values, schema, "")
    assert schema["properties"].keys() - values.keys() == {"global"}, "a key without a default and a comment"


def test_other_charts_can_depend_on_it():
    """Helm passes `global` to every chart of a release."""
    assert chart({"global": {"imageRegistry": "registry.example"}}) == chart({})


def test_a_name_that_is_too_long_for_a_label_is_cut():
    objects = chart({}, name="r" * 53)
    manifests.check_schemas(objects, OLDEST["native"], NEWEST)
    assert all(len(one["metadata"]["name"]) <= 63 for one in objects)


def test_an_autoscaler_may_set_the_number_of_pods():
    assert "replicas" not in only(chart({"replicas": None}), "Deployment")["spec"]
    assert only(chart({"replicas": 0}), "Deployment")["spec"]["replicas"] == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_native_sidecar_is_refused_where_kubernetes_does_not_know_it(variant, capfd):
    """An older Kubernetes drops `restartPolicy` silently, and the pod would never start."""
    refused = f"variant `{variant}` needs Kubernetes 1.29"
    # Only `helm lint` takes a version here. It goes on after `fail`, and writes what it says.
    helm.lint(CHART, {"variant": variant}, kube_version="v1.28.9")
    assert (refused in capfd.readouterr().err) == (variant != "classic")
    helm.lint(CHART, {"variant": variant}, kube_version="v1.29.0")
    assert refused not in capfd.readouterr().err


def test_the_commands_of_the_readme_work():
    text = (CHART.parents[1] / "README.md").read_text()
    (install,) = re.findall(r"^helm install (\S+) deploy/helm/tfs-sidecar --set (\S+)$", text, re.MULTILINE)
    name, settings = install
    values = helm.parse_set_string(settings)
    (example,) = [path for path in EXAMPLES if path.stem == "existing"]
    assert values == yaml.safe_load(example.read_text())
    assert only(chart(values, name=name), "Deployment")["metadata"]["name"] == name
    folders = re.findall(r"^kubectl apply -k (\S+)$", text, re.MULTILINE)
    assert len(folders) >= 3
    for folder in folders:
        assert kustomize(ROOT / folder)
