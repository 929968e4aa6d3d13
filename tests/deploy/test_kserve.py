"""The KServe files: the pod that KServe makes of them is one that works with the sidecar."""

import copy

import manifests
import pytest
from manifests import ANY, NEWEST, OLDEST, Pod, kustomize, only
from tools import DEPLOY

KSERVE = DEPLOY / "kserve"

# The fields of KServe's types that the files may use: ServingRuntimeSpec, ServingRuntimePodSpec and
# SupportedModelFormat in pkg/apis/serving/v1alpha1/servingruntime_types.go, and PredictorSpec,
# ModelSpec and ComponentExtensionSpec in pkg/apis/serving/v1beta1.
RUNTIME = {"supportedModelFormats", "multiModel", "disabled", "protocolVersions", "containers", "volumes"}
RUNTIME |= {"nodeSelector", "affinity", "tolerations", "labels", "annotations", "imagePullSecrets"}
FORMAT = {"name", "version", "autoSelect", "priority"}
PREDICTOR = {"minReplicas", "maxReplicas", "timeout", "terminationGracePeriodSeconds", "shareProcessNamespace", "model"}
MODEL = {"modelFormat", "runtime", "protocolVersion", "storageUri", "resources", "args", "env"}


def pod_of(runtime, service):
    """The Deployment and the Service that KServe makes in mode Standard.

    As in `buildPodSpec`, `createRawDefaultDeployment` and `createDefaultSvc` of KServe: its own container
    is the first one, only its arguments get the name, and the Service goes to its first port.
    """
    predictor = service["spec"]["predictor"]
    name = service["metadata"]["name"]
    containers = copy.deepcopy(runtime["spec"]["containers"])
    containers.sort(key=lambda container: container["name"] != "kserve-container")
    containers[0]["args"] = [argument.replace("{{.Name}}", name) for argument in containers[0]["args"]]
    spec = {"containers": containers, "volumes": runtime["spec"]["volumes"]}
    for field in predictor.keys() - {"model", "minReplicas", "maxReplicas"}:
        spec[field] = predictor[field]
    spec.setdefault("terminationGracePeriodSeconds", 30)
    app = f"isvc.{name}-predictor"
    labels = runtime["spec"].get("labels", {}) | {"serving.kserve.io/inferenceservice": name, "app": app}
    metadata = {"name": f"{name}-predictor", "labels": labels, "annotations": runtime["spec"]["annotations"]}
    template = {"metadata": metadata, "spec": spec}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    deployment["spec"] = {"selector": {"matchLabels": {"app": app}}, "template": template}
    first = containers[0]["ports"][0]
    port = {"name": first["name"], "port": 80, "targetPort": first["containerPort"], "protocol": first["protocol"]}
    made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": app}, "ports": [port]}}
    return [deployment, made]


def objects(change=lambda runtime, service: None):
    """What KServe makes of the files, after a change of them."""
    files = kustomize(KSERVE)
    runtime, service = only(files, "ServingRuntime"), only(files, "InferenceService")
    change(runtime, service)
    return [only(files, "ConfigMap"), *pod_of(runtime, service)]


def test_kserve_knows_every_field():
    files = kustomize(KSERVE)
    runtime, service = only(files, "ServingRuntime"), only(files, "InferenceService")
    assert runtime["spec"].keys() <= RUNTIME
    assert all(one.keys() <= FORMAT for one in runtime["spec"]["supportedModelFormats"])
    assert service["spec"].keys() == {"predictor"}
    assert service["spec"]["predictor"].keys() <= PREDICTOR
    assert service["spec"]["predictor"]["model"].keys() <= MODEL


def test_the_pod_is_one_that_kubernetes_takes():
    manifests.check_schemas(objects(), OLDEST["classic"], NEWEST)


def test_the_pod_works(tmp_path):
    made = objects()
    pod = Pod(made, tmp_path)
    assert pod.tf_serving["name"] == "kserve-container", "KServe looks for this name"
    assert not pod.native, "a ServingRuntime has no init containers"
    assert pod.settings["models"].keys() == {"my-model"}
    manifests.check_pod(pod, [*ANY, manifests.observes, manifests.sets_the_flags_of_tf_serving, manifests.tf_serving_is_restricted])
    (port,) = only(made, "Service")["spec"]["ports"]
    assert port["targetPort"] == pod.port("listen")
    assert pod.deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.kserve.io/port"] == str(pod.port("admin_listen"))


def test_kserve_asks_the_sidecar_whether_the_pod_is_ready(tmp_path):
    """Without a probe of its container, KServe adds one that only opens a connection."""
    pod = Pod(objects(), tmp_path)
    probe = pod.tf_serving["readinessProbe"]["httpGet"]
    assert probe["path"] == "/readyz"
    assert pod.resolve(pod.tf_serving, probe["port"]) == pod.port("admin_listen")


def test_the_example_uses_the_runtime():
    files = kustomize(KSERVE)
    runtime, service = only(files, "ServingRuntime"), only(files, "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert not any(one.get("autoSelect") for one in runtime["spec"]["supportedModelFormats"])


def predictor(**fields):
    return lambda runtime, service: service["spec"]["predictor"].update(fields)


def container(at, **fields):
    return lambda runtime, service: runtime["spec"]["containers"][at].update(fields)


MISTAKES = {
    "KServe's own time to stop": ("is_drained", lambda runtime, service: service["spec"]["predictor"].pop("terminationGracePeriodSeconds")),
    "TF Serving as PID 1": ("is_drained", predictor(shareProcessNamespace=False)),
    "no preStop hook": ("is_drained", container(0, lifecycle={})),
    "the placeholder in the sidecar": ("waits_for", container(1, env=[{"name": "TFS_SIDECAR_MODEL", "value": "{{.Name}}"}])),
    "the port of TF Serving": ("has_the_ports", container(0, ports=[{"name": "grpc", "containerPort": 9000, "protocol": "TCP"}])),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake, tmp_path):
    check, change = MISTAKES[mistake]
    (found,) = [one for one in ANY if one.__name__.startswith(check)]
    found(Pod(objects(), tmp_path))
    with pytest.raises((AssertionError, KeyError)):
        found(Pod(objects(change), tmp_path))
