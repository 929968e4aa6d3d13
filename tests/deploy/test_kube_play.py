"""The classic overlay, played by podman: a pod with both containers, with the arguments, rights and volumes of the manifest."""

import json
import sys
from pathlib import Path

import yaml
from containers import IMAGE, Containers, free_port, get, static_image_folder
from tools import DEPLOY, ROOT, program, run, until

sys.path.insert(0, str(ROOT / "tests" / "browser"))

from backend import FLOAT, Backend, Client  # noqa: E402

MODEL = "my_model"


def playable(folder, grpc, admin):
    """The overlay's pod as podman can play it: TF Serving is a relay (the sidecar in mode off) to a stand-in on this
    machine, its claim is a folder, and ports are published. podman has no HTTP probes and no hooks."""
    documents = list(yaml.safe_load_all(run(program("kubectl"), "kustomize", DEPLOY / "kubernetes" / "overlays" / "classic")))
    config = next(document for document in documents if document["kind"] == "ConfigMap")
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    deployment["spec"]["replicas"] = 1
    pod = deployment["spec"]["template"]["spec"]
    serving, sidecar = pod["containers"]
    assert (serving["name"], sidecar["name"]) == ("tensorflow-serving", "tfs-sidecar")
    serving["image"], sidecar["image"] = IMAGE, IMAGE
    serving["command"] = ["/tfs-sidecar"]
    serving["args"] = ["run", "--mode=off", "--listen=0.0.0.0:8500", "--upstream=unix:///models/grpc.sock"]
    # Both are the same program here, and would want the same port.
    serving["args"].append("--admin-listen=127.0.0.1:8702")
    for container in pod["containers"]:
        container["imagePullPolicy"] = "Never"
        for key in ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle"):
            container.pop(key, None)
    for volume in pod["volumes"]:
        if volume.pop("persistentVolumeClaim", None):
            volume["hostPath"] = {"path": str(folder), "type": "Directory"}
    published = {"grpc": grpc, "admin": admin}
    # Otherwise podman publishes each under its own number, on all addresses.
    sidecar["ports"] = [
        port | {"hostIP": "127.0.0.1", "hostPort": published[port["name"]]}
        for port in sidecar["ports"]
        if port["name"] in published
    ]
    return yaml.safe_dump_all([config, deployment])


def test_the_pod_of_the_classic_overlay_serves_with_the_rights_of_the_manifest(tmp_path):
    folder = static_image_folder()
    tmp_path.chmod(0o755)
    grpc, admin = free_port(), free_port()
    stand_in = Backend({MODEL: (1, {"x": (FLOAT, [-1, 4])})}, address=f"unix:{tmp_path}/grpc.sock")
    with Containers() as containers, stand_in:
        (tmp_path / "grpc.sock").chmod(0o666)
        containers.build(folder, "--tag", IMAGE)
        manifest = tmp_path / "pod.yaml"
        manifest.write_text(playable(tmp_path, grpc, admin))
        containers.run("kube", "play", manifest)
        running = json.loads(containers.run("ps", "--format", "json"))
        name = next(one["Names"][0] for one in running if one["Names"][0].endswith("-tfs-sidecar"))
        until(lambda: (get(f"127.0.0.1:{admin}", "/readyz") or (0,))[0] == 200, f"readiness\n{containers.logs(name)}")
        client = Client(f"127.0.0.1:{grpc}", "grpc-python/1.62.1")
        assert client.send(MODEL, x=(FLOAT, [2, 4])) == "OK"
        client.close()

        state = json.loads(containers.run("inspect", name))[0]
        status = Path(f"/proc/{state['State']['Pid']}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert lines["Uid"].split() == ["65532"] * 4
        assert int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0
        assert (lines["NoNewPrivs"].strip(), lines["Seccomp"].strip()) == ("1", "2")
        # shareProcessNamespace: the pause process is PID 1, so TF Serving is ended by a SIGTERM.
        assert int(lines["NSpid"].split()[-1]) > 1
        assert state["HostConfig"]["ReadonlyRootfs"] is True
        containers.run("kube", "down", manifest)
