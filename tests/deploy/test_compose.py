"""The compose file: valid, as locked as the manifests, and started with podman-compose in front of a stand-in."""

import subprocess
import sys

import pytest
import yaml
from containers import IMAGE, Containers, free_port, get, static_image_folder
from tools import DEPLOY, ROOT, program, run, sidecar_binary, until

sys.path.insert(0, str(ROOT / "tests" / "browser"))

from backend import DOUBLE, FLOAT, Backend, Client  # noqa: E402

FILE = DEPLOY / "compose" / "compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]
OBSERVABILITY = {"prometheus", "alertmanager", "grafana"}


def test_the_file_is_valid():
    run(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILE)
    run(program("yamllint"), "--strict", "-d", "{extends: default, rules: {line-length: {max: 110}, document-start: disable}}", FILE)


def test_the_program_accepts_the_arguments():
    arguments = [str(part).replace("${MODEL_NAME:-my_model}", "my_model") for part in SERVICES["tfs-sidecar"]["command"]]
    # With this address for clients, it ends as soon as the arguments are read.
    done = subprocess.run(
        [sidecar_binary(), *arguments, "--listen=unix:///absent/socket"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1 and "cannot listen on unix:///absent/socket" in done.stderr, done


def test_the_sidecar_observes_and_has_the_port_of_tf_serving():
    sidecar = SERVICES["tfs-sidecar"]
    assert "--mode=observe" in sidecar["command"]
    assert sidecar["ports"][0] == "${CLIENT_PORT:-8500}:8600"
    assert "ports" not in SERVICES["tf-serving"], "clients must not get past the sidecar"
    assert {"--grpc_max_threads=64", "--port=8500"} <= set(SERVICES["tf-serving"]["command"])
    assert not [flag for flag in SERVICES["tf-serving"]["command"] if flag.startswith("--enable_batching")]
    assert sidecar["depends_on"] == ["tf-serving"], "it is stopped first, and does not wait for TF Serving"


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_capabilities_or_a_public_admin_port(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert (name in OBSERVABILITY) == (service.get("profiles") == ["observability"])
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:") or port in ("${CLIENT_PORT:-8500}:8600", "${REST_PORT:-8501}:8601")


def test_every_mounted_file_is_in_the_repository():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("../"):
                assert (FILE.parent / source).exists(), source


@pytest.fixture
def compose(tmp_path):
    """Runs podman-compose on free ports. The place of TF Serving is taken by a relay (the sidecar in mode off) to
    a stand-in on this machine: it has the name and the port that the compose file gives to TF Serving."""
    folder = static_image_folder()
    (tmp_path / "models").mkdir()
    tmp_path.chmod(0o755)
    override = tmp_path / "override.yaml"
    override.write_text(
        f"""
services:
  tf-serving:
    volumes:
      - {tmp_path}:/run/tfs:ro
    image: {IMAGE}
    entrypoint: [/tfs-sidecar]
    command: [run, --mode=off, "--listen=0.0.0.0:8500", "--upstream=unix:///run/tfs/grpc.sock"]
    init: false
"""
    )
    with Containers() as containers, Backend({"churn": (1, {"x": (FLOAT, [-1, 4])})}, address=f"unix:{tmp_path}/grpc.sock"):
        (tmp_path / "grpc.sock").chmod(0o666)
        containers.build(folder, "--tag", IMAGE)
        environment = containers.environment | {
            "MODEL_NAME": "churn",
            "MODELS": str(tmp_path / "models"),
            "TFS_SIDECAR_IMAGE": IMAGE,
            "CLIENT_PORT": f"127.0.0.1:{free_port()}",
            "ADMIN_PORT": str(free_port()),
        }

        def command(*arguments):
            return run(program("podman-compose"), "-f", FILE, "-f", override, *arguments, env=environment)

        yield containers, command


def test_up_serves_under_the_name_of_tf_serving_and_down_leaves_nothing(compose):
    containers, command = compose
    rendered = yaml.safe_load(command("config"))
    assert rendered["services"]["tfs-sidecar"]["read_only"] is True
    command("up", "--detach")
    name = "tfs-sidecar_tfs-sidecar_1"
    admin = containers.port(name, 8602)
    until(lambda: (get(admin, "/readyz") or (0,))[0] == 200, f"readiness\n{containers.logs(name)}")
    containers.run("healthcheck", "run", name)
    client = Client(containers.port(name, 8600), "grpc-python/1.62.1")
    assert client.send("churn", x=(FLOAT, [2, 4])) == "OK"
    # Observed, and forwarded as it is.
    client.send("churn", x=(DOUBLE, [2, 4]))
    client.close()
    assert "tfs_sidecar_would_repair_total{" in get(admin, "/metrics")[1]
    command("down", "--timeout", "45")
    assert containers.run("ps", "--all", "--quiet") == ""
