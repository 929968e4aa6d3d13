"""Writes tests/fixtures/custom_ops.tsv: the operations of packages that bring their own, from their wheels.

`make op-packages` runs it (downloads 200 MB, one after the other). A unit test holds that each operation is
attributed to its package (src/doctor/ops/custom.rs)."""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from generate import PLATFORMS

OUT = Path(__file__).resolve().parent.parent.parent / "tests" / "fixtures" / "custom_ops.tsv"

# The package as `doctor` calls it, its wheel, a Python that it has one for, and which names in its libraries
# are operations where no generated wrapper says so: those of a prefix, or those that its Python code calls.
PACKAGES = (
    ("tensorflow_text", "tensorflow-text==2.15.0", "3.11", None),
    ("tensorflow_decision_forests", "tensorflow-decision-forests==1.8.1", "3.11", r"(SimpleML|Yggdrasil)\w*[a-z]$"),
    ("tensorflow_addons", "tensorflow-addons==0.23.0", "3.11", r"Addons>"),
    ("ScaNN (tensorflow_recommenders)", "scann==1.3.0", "3.11", r"Scann>"),
    ("tensorflow_io", "tensorflow-io==0.36.0", "3.11", r"IO>"),
    ("tensorflow_recommenders_addons", "tensorflow-recommenders-addons==0.6.0", "3.8", r"TFRA>"),
    ("struct2tensor", "struct2tensor==0.46.0", "3.9", r"(DecodeProto|EquiJoin|RunLengthBefore$|ParquetDataset$)"),
    ("tensorflow_quantum", "tensorflow-quantum==0.7.3", "3.10", r"Tfq"),
    ("tf.contrib", "tensorflow==1.15.5", "3.7", r"$^"),
)
NAME = re.compile(rb"(?<![\x20-\x7e])((?:[A-Za-z0-9]+>)?[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*)\x00")
WRAPPED = re.compile(r'_apply_op_helper\(\s*"(\w+)"')


def download(requirement, python, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", python, "--dest", str(folder)]
    for platform in (*PLATFORMS, "manylinux_2_12_x86_64", "manylinux1_x86_64"):
        command += ["--platform", platform]
    subprocess.run([*command, requirement], check=True)
    return next(folder.glob("*.whl"))


def flat(name):
    return re.sub("[^a-z0-9]", "", name.lower())


def operations(package, wheel, names):
    wrapped, found, called = set(), set(), set()
    with zipfile.ZipFile(wheel) as archive:
        for path in archive.namelist():
            if package == "tf.contrib" and "/contrib/" not in path:
                continue
            if re.search(r"\.so(\.|$)", path):
                found |= {name.decode() for name in NAME.findall(archive.read(path))}
            elif path.endswith(".py"):
                text = archive.read(path).decode(errors="replace")
                wrapped |= set(WRAPPED.findall(text)) if "/gen_" in path else set()
                called |= {flat(name) for name in re.findall(r"\.([a-z]\w{3,})", text)}
    if names:
        return wrapped | {name for name in found if re.match(names, name)}
    return wrapped | {name for name in found if flat(name) in called or ">" in name}


def main():
    lines = []
    for package, requirement, python, names in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            found = operations(package, download(requirement, python, Path(folder)), names)
        print(f"{requirement}: {len(found)} operations", flush=True)
        lines.append(f"{package}\t{requirement}\t{' '.join(sorted(found))}\n")
    OUT.write_text("".join(lines))


if __name__ == "__main__":
    main()
