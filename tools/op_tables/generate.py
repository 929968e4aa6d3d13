"""Writes src/doctor/ops/table.bin: the operations of TensorFlow 2.4 to 2.21 with their attributes.

Downloads one wheel after another from the package index that pip is configured for (4 GB in all),
asks each TensorFlow for its own registry, and deletes the wheel. `make op-tables` runs it."""

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent.parent / "src" / "doctor" / "ops" / "table.bin"

# The last patch release of every minor release, with a Python that it has a wheel for.
RELEASES = (
    ("2.4.4", "3.8"),
    ("2.5.3", "3.8"),
    ("2.6.5", "3.8"),
    ("2.7.4", "3.8"),
    ("2.8.4", "3.8"),
    ("2.9.3", "3.8"),
    ("2.10.1", "3.8"),
    ("2.11.1", "3.8"),
    ("2.12.1", "3.11"),
    ("2.13.1", "3.11"),
    ("2.14.1", "3.11"),
    ("2.15.1", "3.11"),
    ("2.16.2", "3.11"),
    ("2.17.1", "3.11"),
    ("2.18.1", "3.11"),
    ("2.19.1", "3.11"),
    ("2.20.0", "3.11"),
    ("2.21.0", "3.11"),
)
PLATFORMS = ("manylinux2010_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_27_x86_64")
# What of a wheel is unpacked.
WANTED = re.compile(r"tensorflow/(lib[^/]*\.so[^/]*|python/_pywrap_tensorflow_internal\.so|include/.*core/public/(version|release_version)\.h)$")
# node_def_util.cc: since some release, an attribute that an operation does not have is ignored.
IGNORES = b"Unknown attributes will be ignored"


def download(version, python, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", python, "--dest", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, f"tensorflow-cpu=={version}"], check=True)
    return next(folder.glob("*.whl"))


def unpacked(version, python, folder):
    """Downloads a wheel and unpacks its libraries and headers."""
    wheel = download(version, python, folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if WANTED.match(name)])
    wheel.unlink()
    return folder / "tensorflow"


def registry(version, python):
    """The serialized `OpList` of a release, its GraphDef version, and whether it ignores attributes that
    it does not know."""
    with tempfile.TemporaryDirectory() as folder:
        root = unpacked(version, python, Path(folder))
        ignores = any(IGNORES in path.read_bytes() for path in root.glob("**/*.so*"))
        headers = "".join(path.read_text() for path in root.glob("include/**/*version.h"))
        producer = int(re.search(r"#define TF_GRAPH_DEF_VERSION (\d+)", headers).group(1))
        ops = subprocess.run([sys.executable, HERE / "dump.py", root], check=True, stdout=subprocess.PIPE).stdout
        return ops, producer, ignores


def types_of(attr):
    """The dtypes that a type attribute may be, as a number with a bit for each; 0 if it may be any."""
    return sum(1 << number for number in attr.allowed_values.list.type if number < 64)


def is_zero(attr):
    """Whether an attribute's default is false, 0, or empty."""
    kind = attr.default_value.WhichOneof("value")
    if kind == "list":
        return not attr.default_value.list.ByteSize()
    return kind in ("b", "i", "f", "s") and not getattr(attr.default_value, kind)


def letter(index):
    return chr(ord("a") + index)


def render(registries):
    """The table as text: a line for each release, then one for each operation (src/doctor/ops/mod.rs has
    the grammar). `registries` are (version, OpList, GraphDef version, ignores) from old to new."""
    lines = [f"#{version} {producer} {int(ignores)}" for version, _, producer, ignores in registries]
    by_release = [{op.name: op for op in ops.op} for _, ops, _, _ in registries]
    for name in sorted(set().union(*by_release)):
        present = [index for index, ops in enumerate(by_release) if name in ops]
        span = letter(present[0]) + letter(present[-1])
        words = [name, span]
        attrs = {}
        for index in present:
            for attr in by_release[index][name].attr:
                attrs.setdefault(attr.name, []).append((index, attr))
        for attr, uses in sorted(attrs.items()):
            latest = uses[-1][1]
            word = attr + ("~" if is_zero(latest) else "" if latest.HasField("default_value") else "!")
            own = letter(uses[0][0]) + letter(uses[-1][0])
            if own != span:
                word += "@" + own
            masks, before = [], None
            for index, use in uses:
                mask = types_of(use)
                if mask != before:
                    masks.append(f"{letter(index)}{mask:x}")
                before = mask
            if masks != [f"{letter(uses[0][0])}0"]:
                word += "=" + ";".join(masks)
            words.append(word)
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="keep the registries here, and take those that are here")
    arguments = parser.parse_args()
    from tensorflow.core.framework import op_def_pb2

    registries = []
    for version, python in RELEASES:
        kept = arguments.cache / version if arguments.cache else None
        if kept and kept.exists():
            producer, ignores = kept.with_suffix(".txt").read_text().split()
            ops = kept.read_bytes()
        else:
            ops, producer, ignores = registry(version, python)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(ops)
                kept.with_suffix(".txt").write_text(f"{producer} {int(ignores)}")
        ops = op_def_pb2.OpList.FromString(ops)
        print(f"{version}: {len(ops.op)} operations", flush=True)
        registries.append((version, ops, int(producer), int(ignores)))
    text = render(registries).encode()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_bytes(zlib.compress(text, 9))
    print(f"{OUT.name}: {len(text)} bytes of text, {OUT.stat().st_size} compressed")


if __name__ == "__main__":
    main()
