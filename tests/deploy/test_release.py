"""What `make release` packs: the same bytes each time, complete, checked, and enough to run on a machine without anything."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from containers import get, static_image_folder
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tools import ROOT, program, run, until

sys.path.insert(0, str(ROOT / "tests" / "browser"))

from backend import FLOAT, Backend, Client, predict_pb2  # noqa: E402

RELEASE = ROOT / "tools" / "release"
TARGET = "x86_64-unknown-linux-gnu"
VERSION = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
NAME = f"tfs-sidecar-{VERSION}-{TARGET}"
EPOCH = 1_700_000_000
MODEL = {"my_model": (1, {"x": (FLOAT, [-1, 4])})}
CONTENT = {
    "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "THIRD-PARTY-LICENSES.txt", "example.yaml", "tfs-sidecar",
    "tfs-sidecar.service",
}  # fmt: skip


def static_binary():
    """A static program: the one for the image, or TFS_SIDECAR_STATIC itself."""
    given = os.environ.get("TFS_SIDECAR_STATIC", "")
    return Path(given) if given.endswith("/tfs-sidecar") else static_image_folder() / "tfs-sidecar"


def package(out, **options):
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH), "BUILD_COMMIT": "0123456789ab"}
    run(RELEASE / "package.sh", static_binary(), TARGET, out, env=environment, **options)
    return out


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    program("cargo")
    return package(tmp_path_factory.mktemp("dist"))


def crates():
    """The crates that are compiled for the program, from `cargo tree`."""
    tree = run("cargo", "tree", "--locked", "--edges", "no-dev", "--target", TARGET, "--prefix", "none", cwd=ROOT)
    found = {tuple(line.split()[:2]) for line in tree.splitlines()}
    return {(name, version.removeprefix("v")) for name, version in found}


def test_the_archive_has_what_it_should_and_no_trace_of_who_made_it(dist):
    assert {path.name for path in dist.iterdir()} == {f"{NAME}.tar.gz", f"{NAME}.cdx.json", "SHA256SUMS"}
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        members = archive.getmembers()
    assert {member.name for member in members} == {NAME} | {f"{NAME}/{name}" for name in CONTENT}
    for member in members:
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", EPOCH), member.name
        is_program = member.isdir() or member.name.endswith("/tfs-sidecar")
        assert member.mode == (0o755 if is_program else 0o644), member.name


def test_the_checksums_are_those_of_the_files(dist):
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    sums = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir() if path.name != "SHA256SUMS"
    }


def test_packing_again_gives_the_same_bytes_and_a_difference_is_found(dist, tmp_path):
    # With another umask, time, language and folder.
    other = tmp_path / "elsewhere" / "dist"
    package(other, umask=0o077, cwd=tmp_path)
    assert "equal:" in run(RELEASE / "verify.sh", dist, other)

    archive = other / f"{NAME}.tar.gz"
    archive.write_bytes(archive.read_bytes() + b"\0")
    run(RELEASE / "verify.sh", dist, other, code=1)
    archive.unlink()
    run(RELEASE / "verify.sh", dist, other, code=1)


def test_the_sbom_is_valid_and_names_exactly_the_crates_of_the_program(dist):
    text = (dist / f"{NAME}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    sbom = json.loads(text)
    application = sbom["metadata"]["component"]
    parts = [application, *sbom["components"]]
    assert {(part["name"], part["version"]) for part in parts} == crates()
    assert (application["name"], application["version"]) == ("tfs-sidecar", VERSION)
    assert {"name": "commit", "value": "0123456789ab"} in application["properties"]
    # Of each crate the checksum that Cargo has compared, and a purl that databases of advisories know.
    lock = (ROOT / "Cargo.lock").read_text()
    for part in sbom["components"]:
        assert f'checksum = "{part["hashes"][0]["content"]}"' in lock, part
        assert part["purl"].startswith("pkg:cargo/"), part
    known = {part["bom-ref"] for part in parts}
    edges = {entry["ref"]: set(entry["dependsOn"]) for entry in sbom["dependencies"]}
    assert set(edges) == known and set().union(*edges.values()) == known - {application["bom-ref"]}


def test_every_crate_has_a_licence_and_its_text(dist):
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        text = archive.extractfile(f"{NAME}/THIRD-PARTY-LICENSES.txt").read().decode()
    head, *texts = re.split(rf"\n{'=' * 80}\n(.+)\n{'=' * 80}\n", text)
    holders = {name for names in texts[::2] for name in names.split(", ")}
    for name, version in crates() - {("tfs-sidecar", VERSION)}:
        assert re.search(rf"^{re.escape(f'{name} {version}')}: \S", head, re.MULTILINE), name
        assert f"{name} {version}" in holders, name
    assert "GNU C Library" in holders
    # C libraries that crates bring have their licences in folders below.
    for words in ("Microsoft Corporation, Daan Leijen", "OpenSSL", "GNU LESSER GENERAL PUBLIC LICENSE"):
        assert words in text, words


@contextlib.contextmanager
def running(command, **options):
    """The program and its addresses by server, as it logs them."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    log, found = [], {}
    reader = threading.Thread(target=lambda: log.extend(process.stderr))
    try:
        for line in process.stderr:
            log.append(line)
            if match := re.search(r'listening.*?server="?(\w+).*?(127\.0\.0\.1:\d+)', line):
                found[match[1]] = match[2]
            if len(found) == 2:
                break
        assert len(found) == 2, "".join(log)
        reader.start()
        yield found
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0, "".join(log)
        if reader.ident:
            reader.join()
        process.stderr.close()


def enter(root):
    """The command that makes `root` the root of all files, where this machine allows it."""
    command = [shutil.which("unshare") or "unshare", "--map-root-user", "--root", str(root)]
    try:
        allowed = subprocess.run([*command, f"/{NAME}/tfs-sidecar", "--version"], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if b"Operation not permitted" in allowed.stderr:
        pytest.skip("this machine does not allow another root")
    return command


def test_the_quick_start_works_on_a_root_with_nothing_else(dist, tmp_path):
    """No shell, no libraries, no /proc, no /etc, no environment."""
    run("tar", "--extract", "--gzip", "--file", dist / f"{NAME}.tar.gz", "--directory", tmp_path)
    inside, binary = enter(tmp_path), f"/{NAME}/tfs-sidecar"

    def call(*arguments):
        return run(*inside, binary, *arguments, env={})

    assert re.fullmatch(rf"tfs-sidecar {re.escape(VERSION)} \((debug build|[0-9a-f]{{12}}(-dirty)?)(, \w+)+\)\n", call("--version"))
    call("check", "--config", f"/{NAME}/example.yaml")
    with Backend(MODEL) as upstream:
        arguments = ["run", "--upstream", upstream.address, "--model", "my_model"]
        arguments += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        with running([*inside, binary, *arguments], env={}) as addresses:
            until(lambda: (get(addresses["admin"], "/readyz") or [0])[0] == 200, "readiness")
            call("healthcheck", "--admin", addresses["admin"])
            assert "x" in call("signature", "--upstream", upstream.address, "--model", "my_model", "--example")
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "my_model"
            request.inputs["x"].dtype = FLOAT
            request.inputs["x"].tensor_shape.dim.add().size = 4
            request.inputs["x"].float_val.extend([1, 2, 3, 4])
            client = Client(addresses["grpc"], "packaging/1.0")
            try:
                answer, made = client.call.with_call(request, timeout=20)
            finally:
                client.close()
            assert list(answer.outputs["score"].float_val) == [0.5]
            metadata = dict([*made.initial_metadata(), *made.trailing_metadata()])
            assert metadata["tfs-sidecar-repair"] == "x;add_batch_dim;[4]->[1,4]"


def test_the_scripts_are_clean():
    run(program("shellcheck"), *sorted(RELEASE.glob("*.sh")))
