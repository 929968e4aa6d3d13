"""The container image: built from a static binary, run without any right, and stopped without a lost request."""

import json
import sys
import threading
from pathlib import Path

import pytest
from containers import IMAGE, Containers, get, static_image_folder
from tools import DEPLOY, ROOT, program, run, until

sys.path.insert(0, str(ROOT / "tests" / "browser"))

from backend import DOUBLE, FLOAT, Backend, Client  # noqa: E402

DOCKERFILES = [DEPLOY / "docker" / "Dockerfile", DEPLOY / "docker" / "Dockerfile.prebuilt"]
LIMIT = 15_000_000
MODEL = {"churn": (1, {"x": (FLOAT, [-1, 4])})}
# As the manifests in deploy/ run it.
LOCKED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
SMALL = ["--memory", "128m", "--cpus", "0.5"]


@pytest.fixture(scope="module")
def containers():
    folder = static_image_folder()
    with Containers() as containers:
        containers.build(folder, "--tag", IMAGE, "--build-arg", "BUILD_COMMIT=0123456789ab")
        yield containers


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """A stand-in for TF Serving on a Unix socket, in a folder for containers to mount."""
    folder = tmp_path_factory.mktemp("tfs")
    folder.chmod(0o755)
    with Backend(MODEL, address=f"unix:{folder}/grpc.sock"):
        (folder / "grpc.sock").chmod(0o666)
        yield folder


@pytest.fixture
def sidecar(containers, upstream):
    name = "tfs-sidecar"
    containers.run(
        *("run", "--detach", "--name", name, *LOCKED, *SMALL, "--volume", f"{upstream}:/run/tfs:ro"),
        *("--publish", "127.0.0.1::8600", "--publish", "127.0.0.1::8602", IMAGE, "run"),
        *("--upstream", "unix:///run/tfs/grpc.sock", "--model", "churn", "--admin-listen", "0.0.0.0:8602"),
    )
    yield name
    containers.run("rm", "--force", "--time", "0", name)


def ready(containers, name):
    admin = containers.port(name, 8602)
    until(lambda: get(admin, "/readyz") and get(admin, "/readyz")[0] == 200, f"readiness\n{containers.logs(name)}")
    return admin


def process(containers, name):
    """What the kernel says of the process in a container."""
    pid = containers.run("inspect", "--format", "{{.State.Pid}}", name).strip()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return pid, dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_dockerfiles_have_no_findings(file):
    run(program("hadolint"), "--failure-threshold", "style", file)


def test_both_dockerfiles_make_the_same_image():
    def final_stage(file):
        text = file.read_text().split("FROM scratch\n")[1]
        return text.replace("--from=build /src/target/image/", "")

    assert final_stage(DOCKERFILES[0]) == final_stage(DOCKERFILES[1])


def test_scripts_have_no_findings():
    run(program("shellcheck"), *sorted((DEPLOY / "docker").glob("*.sh")))


def test_the_image_says_what_it_is_and_has_two_files(containers, tmp_path):
    image = json.loads(containers.run("image", "inspect", IMAGE))[0]
    assert image["Config"]["User"] == "65532:65532"
    assert image["Config"]["Entrypoint"] == ["/tfs-sidecar"]
    assert set(image["Config"]["ExposedPorts"]) == {"8600/tcp", "8601/tcp", "8602/tcp", "8603/tcp"}
    health = image["Config"].get("Healthcheck") or image["Healthcheck"]
    assert health["Test"] == ["CMD", "/tfs-sidecar", "healthcheck"]
    labels = image["Labels"]
    version = run(static_image_folder() / "tfs-sidecar", "--version")
    assert labels["org.opencontainers.image.version"] == version.split()[1]
    assert labels["org.opencontainers.image.revision"] == "0123456789ab"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"

    name = containers.run("create", IMAGE).strip()
    containers.run("export", "--output", tmp_path / "image.tar", name)
    listed = run("tar", "--list", "--file", tmp_path / "image.tar").split()
    files = {path for path in listed if not path.endswith("/")}
    # The others are made by the engine for every container.
    engine = {"dev/console", "etc/hosts", "etc/resolv.conf", "etc/hostname", "etc/mtab", "run/.containerenv", ".dockerenv"}
    assert files - engine == {"tfs-sidecar", "etc/ssl/certs/ca-certificates.crt"}


def test_the_image_is_small(containers):
    """15 MB for a release build. A debug build, which has more code, is only known to have no debug information."""
    size = int(containers.run("image", "inspect", "--format", "{{.Size}}", IMAGE))
    is_debug = "debug build" in run(static_image_folder() / "tfs-sidecar", "--version")
    print(f"the image has {size} bytes{' (debug build)' if is_debug else ''}")
    assert size <= (3 * LIMIT if is_debug else LIMIT)


def test_it_serves_without_rights_and_cannot_write(containers, upstream, sidecar):
    admin = ready(containers, sidecar)
    assert get(admin, "/livez") == (200, "ok\n")
    client = Client(containers.port(sidecar, 8600), "grpc-python/1.62.1")
    assert client.send("churn", x=(FLOAT, [2, 4])) == "OK"
    # Repaired, so this is the sidecar and not the stand-in.
    assert client.send("churn", x=(DOUBLE, [2, 4])) == "OK"
    assert "tfs_sidecar_repairs_total{" in get(admin, "/metrics")[1]
    client.close()

    pid, status = process(containers, sidecar)
    assert status["Uid"].split() == ["65532"] * 4 and status["Gid"].split() == ["65532"] * 4
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    root = next(line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(",")
    # Unix sockets are the only files that it makes: where it may not, it says so and ends.
    socket = containers.finish(*LOCKED, IMAGE, "run", "--upstream", "127.0.0.1:1", "--listen", "unix:///new.sock")
    assert socket[0] == 1 and "Read-only file system" in socket[1], socket


def test_the_health_check_follows_readiness(containers, upstream, sidecar):
    ready(containers, sidecar)
    containers.run("healthcheck", "run", sidecar)
    absent = "tfs-sidecar-without-upstream"
    containers.run("run", "--detach", "--name", absent, *LOCKED, *SMALL, IMAGE, "run", "--upstream", "127.0.0.1:1")
    until(lambda: "listening" in containers.logs(absent), "the start")
    checked = containers.try_run("healthcheck", "run", absent)
    assert checked.returncode == 1, checked
    containers.run("rm", "--force", "--time", "0", absent)


def test_stopping_finishes_requests_and_exits_with_zero(containers, upstream):
    name = "tfs-sidecar-stopped"
    containers.run(
        *("run", "--detach", "--name", name, *LOCKED, *SMALL, "--volume", f"{upstream}:/run/tfs:ro"),
        *("--publish", "127.0.0.1::8600", "--publish", "127.0.0.1::8602", IMAGE, "run"),
        *("--upstream", "unix:///run/tfs/grpc.sock", "--model", "churn", "--admin-listen", "0.0.0.0:8602"),
    )
    admin = ready(containers, name)
    client = Client(containers.port(name, 8600), "grpc-python/1.62.1")
    codes, done = [], threading.Event()

    def load():
        while not done.is_set():
            codes.append(client.send("churn", x=(FLOAT, [2, 4])))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        until(lambda: len(codes) > 20, "requests")
        stopping = threading.Thread(target=lambda: containers.run("stop", "--time", "45", name))
        stopping.start()
        # Unready at once, but it goes on serving until clients have left.
        until(lambda: (get(admin, "/readyz") or (0,))[0] == 503, "the drain")
        before = len(codes)
        until(lambda: len(codes) > before + 20, "requests during the drain")
        done.set()
        thread.join()
        client.close()
        stopping.join()
    finally:
        done.set()
    assert set(codes) == {"OK"}
    state = json.loads(containers.run("inspect", name))[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False), containers.logs(name)
    containers.run("rm", name)


def test_an_https_upstream_is_checked_with_the_authorities_of_the_image(containers):
    command = [IMAGE, "run", "--upstream", "https://127.0.0.1:1", "--listen", "unix:///new.sock"]
    # With the bundle it gets as far as to the socket, which it may not make.
    code, printed = containers.finish(*LOCKED, *command)
    assert code == 1 and "new.sock" in printed and "CA certificates" not in printed, printed
    code, printed = containers.finish(*LOCKED, "--env", "SSL_CERT_FILE=/absent.crt", *command)
    assert code == 1 and "no CA certificates found" in printed, printed


def test_the_context_of_the_source_build_has_what_cargo_needs_and_no_more(containers, tmp_path):
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch\nCOPY . /\n")
    containers.build(ROOT, "--tag", "localhost/context:test", "--ignorefile", ROOT / ".dockerignore", file=file)
    name = containers.run("create", "localhost/context:test", "/none").strip()
    containers.run("export", "--output", tmp_path / "context.tar", name)
    listed = set(run("tar", "--list", "--file", tmp_path / "context.tar").split())
    assert {"Cargo.toml", "Cargo.lock", "build.rs", "Makefile", "src/main.rs", "deploy/docker/context.sh"} <= listed
    protos = {str(path.relative_to(ROOT)) for path in (ROOT / "proto").rglob("*.proto")}
    assert protos and protos <= listed
    unwanted = {"target", ".git", ".venv", "node_modules"}
    assert not [path for path in listed if unwanted & set(path.rstrip("/").split("/"))]
    assert (tmp_path / "context.tar").stat().st_size < 20_000_000
