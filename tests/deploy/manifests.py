"""What the tests of Kubernetes manifests share: rendering, schemas, and what must hold for every pod."""

import copy
import functools
import json
import os
import re

import kubernetes_validate
import pytest
import yaml
from tools import DEPLOY, ROOT, program, run, sidecar_binary

KUBERNETES = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "tfs-sidecar"
SCHEMAS = ROOT / "tests" / "deploy" / "schemas"
NEWEST = kubernetes_validate.latest_version()
# The oldest version of Kubernetes that each variant is for.
OLDEST = {"native": "1.29.0", "uds": "1.29.0", "classic": "1.26.0"}
CUSTOM = {"PodMonitor", "PrometheusRule", "ScaledObject"}


def objects_of(text):
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


@functools.cache
def _kustomize(folder):
    return run(program("kubectl"), "kustomize", folder)


def kustomize(folder):
    """The objects of a kustomization."""
    return objects_of(_kustomize(folder))


def only(objects, kind):
    """The one object of a kind."""
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


def check_schemas(objects, *versions):
    """Fails for a field that a version of Kubernetes, or the operator of a custom resource, does not know."""
    for one in objects:
        if one["kind"] in CUSTOM:
            continue
        for version in versions:
            kubernetes_validate.validate(one, version, strict=True)
    custom = [one for one in objects if one["kind"] in CUSTOM]
    if custom:
        assert check_custom(custom) == []


def check_custom(objects):
    """The problems of custom resources."""
    if not (SCHEMAS / "node_modules" / ".ok").exists():
        pytest.skip("the schemas of custom resources are not installed (tests/deploy/setup.sh)")
    return json.loads(run(program("node"), SCHEMAS / "check.mjs", input=json.dumps(objects)))


def flags(arguments):
    """Flags of TF Serving, which takes the last one of a name."""
    return dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)


def seconds(time):
    """Seconds of a time as the sidecar prints it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", time))


def size(text):
    """Bytes of a size, as Kubernetes or the sidecar writes it."""
    number, unit = re.fullmatch(r"(\d+)\s*(\w*)", str(text)).groups()
    return int(number) * 1024 ** ["", "K", "M", "G"].index(unit.removesuffix("B").removesuffix("i"))


class Pod:
    """The pod of a Deployment, with the sidecar's settings as the real program reads them."""

    def __init__(self, objects, folder, deployment=None):
        self.objects = objects
        self.deployment = deployment or only(objects, "Deployment")
        template = self.deployment["spec"]["template"]
        self.labels = template["metadata"]["labels"]
        self.spec = template["spec"]
        self.init = self.spec.get("initContainers") or []
        self.all = self.init + self.spec["containers"]
        self.tf_serving = self.spec["containers"][0]
        assert self.tf_serving["name"] != "tfs-sidecar", "TF Serving is not the first container"
        (self.sidecar,) = [container for container in self.all if container["name"] == "tfs-sidecar"]
        self.native = self.sidecar in self.init
        self.settings = self._settings(folder)

    def _settings(self, folder):
        command, *arguments = self.sidecar["args"]
        assert command == "run"
        environment = {"PATH": os.environ["PATH"]}
        for variable in self.sidecar.get("env", []):
            environment[variable["name"]] = variable.get("value") or self._field(variable["valueFrom"]["fieldRef"])
        mapped = []
        for argument in arguments:
            if argument.startswith("--upstream="):
                # On the command line, `check` would connect there.
                environment["TFS_SIDECAR_UPSTREAM"] = argument.partition("=")[2]
            elif argument.startswith("--config="):
                mapped.append(f"--config={self._file(argument.partition('=')[2], folder)}")
            else:
                mapped.append(argument)
        return yaml.safe_load(run(sidecar_binary(), "check", "--print", *mapped, env=environment))

    def _field(self, reference):
        label = re.fullmatch(r"metadata\.labels\['(.*)'\]", reference["fieldPath"])
        assert label or reference["fieldPath"] == "metadata.name"
        return self.labels[label[1]] if label else "pod-1"

    def _file(self, path, folder):
        """A file of the sidecar's container, copied from its ConfigMap."""
        for mount in self.sidecar["volumeMounts"]:
            if not path.startswith(mount["mountPath"] + "/"):
                continue
            assert "subPath" not in mount, "Kubernetes never updates a file with subPath"
            (volume,) = [volume for volume in self.spec["volumes"] if volume["name"] == mount["name"]]
            name = volume["configMap"]["name"]
            (config,) = [one for one in self.objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name]
            copied = folder / "config.yaml"
            copied.write_text(config["data"][path.removeprefix(mount["mountPath"] + "/")])
            return copied
        raise AssertionError(f"no volume has {path}")

    def port(self, setting):
        """The number in an address of the sidecar."""
        return int(self.settings[setting].rpartition(":")[2])

    def probes(self):
        """Every probe and hook over HTTP, with its container and name."""
        for container in self.all:
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(name, {}):
                    yield container, name, container[name]["httpGet"]
            for name, hook in container.get("lifecycle", {}).items():
                if "httpGet" in hook:
                    yield container, name, hook["httpGet"]

    def resolve(self, container, port):
        """The number of a port as kubelet finds it: a name is one of the same container."""
        if isinstance(port, int):
            return port
        numbers = {declared["name"]: declared["containerPort"] for declared in container.get("ports", [])}
        assert port in numbers, f"{container['name']} has no port {port}"
        return numbers[port]

    def user(self, container):
        """The user of a container."""
        return container.get("securityContext", {}).get("runAsUser", self.spec.get("securityContext", {}).get("runAsUser"))


def starts_and_becomes_ready(pod):
    """The sidecar starts first, and its probes cannot wait for each other."""
    if pod.native:
        # The schema has no list of values here, and a wrong one makes a container that must end.
        assert pod.sidecar["restartPolicy"] == "Always"
    else:
        assert "restartPolicy" not in pod.sidecar
    probes = {name: probe for container, name, probe in pod.probes() if container is pod.sidecar}
    assert probes["startupProbe"]["path"] == "/livez"
    assert probes["livenessProbe"]["path"] == "/livez"
    assert probes["readinessProbe"]["path"] == "/readyz"
    assert pod.sidecar["livenessProbe"]["timeoutSeconds"] >= 3, "/livez takes up to 2 s to say that a thread hangs"
    for container, name, probe in pod.probes():
        if container is pod.sidecar and name.endswith("Probe"):
            assert pod.resolve(container, probe["port"]) == pod.port("admin_listen")
        assert name == "readinessProbe" or probe["path"] != "/readyz", f"{name} waits for TF Serving"


def is_drained_before_tf_serving_stops(pod):
    """The preStop hook of TF Serving drains the sidecar, and there is time for it."""
    hook = pod.tf_serving["lifecycle"]["preStop"]["httpGet"]
    assert hook["path"] == "/drain"
    assert pod.resolve(pod.tf_serving, hook["port"]) == pod.port("drain_listen")
    assert "lifecycle" not in pod.sidecar, "kubelet stops a native sidecar when TF Serving is gone"
    drain = seconds(pod.settings["drain_delay"]) + seconds(pod.settings["drain_timeout"])
    assert pod.spec["terminationGracePeriodSeconds"] >= drain + 5
    assert pod.spec["shareProcessNamespace"] is True
    for setting in ("admin_listen", "drain_listen"):
        assert pod.settings[setting].startswith("0.0.0.0:"), "kubelet connects to the address of the pod"


def has_the_ports_that_it_uses(pod):
    """The sidecar's ports are declared as they are, and nothing else listens on them."""
    declared = {port["name"]: port["containerPort"] for container in pod.all for port in container.get("ports", [])}
    listeners = {"grpc": "listen", "rest": "rest_listen", "admin": "admin_listen", "drain": "drain_listen"}
    if pod.settings.get("rest_listen", "off") == "off":
        del listeners["rest"]
    own = {port["name"]: port["containerPort"] for port in pod.sidecar["ports"]}
    assert own.keys() <= listeners.keys()
    for name, setting in listeners.items():
        assert pod.port(setting) == own.get(name, declared[name])
    for container, _, probe in pod.probes():
        assert pod.resolve(container, probe["port"]) in declared.values()
    used = [pod.port(setting) for setting in listeners.values()] + tf_serving_ports(pod)
    assert len(used) == len(set(used)), f"{used}"


def tf_serving_ports(pod):
    """The TCP ports on which TF Serving listens."""
    given = flags(pod.tf_serving["args"])
    rest = "0" if "command" in pod.tf_serving else "8501"  # the image's entrypoint switches REST on
    ports = [int(given.get("port", "8500")), int(given.get("rest_api_port", rest))]
    return [port for port in ports if port]


def reaches_tf_serving(pod):
    """The sidecar's upstream is where TF Serving listens, and it may connect there."""
    given, upstream = flags(pod.tf_serving["args"]), pod.settings["upstream"]
    if not upstream.startswith("unix://"):
        assert upstream == f"127.0.0.1:{given.get('port', '8500')}"
        return
    assert upstream == f"unix://{given['grpc_socket_path']}"
    assert tf_serving_ports(pod) == []
    assert pod.user(pod.sidecar) == pod.user(pod.tf_serving) == 65532, "only its own user may connect to the socket"
    folder = given["grpc_socket_path"].rpartition("/")[0]
    volumes = [mount["name"] for c in (pod.sidecar, pod.tf_serving) for mount in c["volumeMounts"] if mount["mountPath"] == folder]
    assert len(volumes) == 2 and volumes[0] == volumes[1]
    assert {"name": volumes[0], "emptyDir": {}} in pod.spec["volumes"]


def is_restricted(pod):
    """The sidecar fulfils the Pod Security Standard `restricted`, on a read-only root."""
    assert pod.sidecar["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def tf_serving_is_restricted(pod):
    """So does TF Serving, apart from its root."""
    context = pod.spec.get("securityContext", {}) | pod.tf_serving["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def has_memory_for_its_limits(pod):
    """The container's memory is more than what requests may take, and there is no CPU limit."""
    limits = pod.sidecar["resources"]["limits"]
    assert size(limits["memory"]) >= size(pod.settings["limits"]["max_inflight_bytes"]) + 128 * 1024**2
    assert "cpu" not in limits, "throttling shows as latency"
    assert pod.settings["workers"] <= 4, "a worker for each core of the node"


def observes(pod):
    """Nothing is repaired or refused unless somebody asks for it."""
    assert pod.settings["defaults"]["mode"] == "observe"
    assert all(model.get("mode", "observe") == "observe" for model in pod.settings.get("models", {}).values())


def names_the_pod(pod):
    """The status page shows the name of the pod, and Prometheus finds it."""
    assert {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in pod.sidecar["env"]
    assert pod.labels["tfs-sidecar/inject"] == "true"


def waits_for_its_model(pod):
    """The pod is ready when the model of TF Serving is."""
    given = flags(pod.tf_serving["args"])
    variables = {variable["name"]: variable.get("value") for variable in pod.tf_serving.get("env", [])}
    assert given.get("model_name", variables.get("MODEL_NAME")) in pod.settings["models"]


def sets_the_flags_of_tf_serving(pod):
    """More threads than the default, no batching, and a health service."""
    given = flags(pod.tf_serving["args"])
    assert int(given["grpc_max_threads"]) >= 64
    assert "enable_batching" not in given
    assert given["enable_grpc_healthcheck_service"] == "true"
    assert pod.tf_serving["command"] == ["/usr/bin/tensorflow_model_server"], "a shell would get the signals"


# What holds for every pod with a sidecar, and what only for those that come with TF Serving.
ANY = [
    starts_and_becomes_ready,
    is_drained_before_tf_serving_stops,
    has_the_ports_that_it_uses,
    reaches_tf_serving,
    is_restricted,
    has_memory_for_its_limits,
    names_the_pod,
    waits_for_its_model,
]
OURS = [*ANY, tf_serving_is_restricted, sets_the_flags_of_tf_serving]


def check_pod(pod, checks):
    """Runs checks on a pod."""
    for check in checks:
        check(pod)


def check_network(pod):
    """The Service leads to the sidecar, and the policy to nothing but the sidecar."""
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
        for one in (one for one in pod.objects if one["kind"] == kind):
            selector = one["spec"].get("podSelector", one["spec"]["selector"] if "selector" in one["spec"] else None)
            selector = selector.get("matchLabels", selector)
            assert selector.items() <= pod.labels.items(), kind
    service = only(pod.objects, "Service")
    listeners = [(8500, pod.port("listen"))]
    if pod.settings.get("rest_listen", "off") != "off":
        listeners.append((8501, pod.port("rest_listen")))
    # Not names: before Kubernetes 1.33, a Service does not find named ports of native sidecars.
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == listeners
    rules = [one for one in pod.objects if one["kind"] == "NetworkPolicy"]
    for policy in rules:
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        clients, prometheus = policy["spec"]["ingress"]
        assert [port["port"] for port in clients["ports"]] == [own for _, own in listeners]
        assert [port["port"] for port in prometheus["ports"]] == [pod.port("admin_listen")]
        (peer,) = prometheus["from"]
        assert peer["namespaceSelector"]["matchLabels"] and peer["podSelector"]["matchLabels"]


def check_token(objects):
    """No container gets a token of the API of Kubernetes."""
    account = only(objects, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    spec = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == account["metadata"]["name"]


def changed(objects, change):
    """A copy of the objects in which `change` has changed the pod."""
    objects = copy.deepcopy(objects)
    change(only(objects, "Deployment")["spec"]["template"]["spec"])
    return objects
