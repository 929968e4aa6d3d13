"""Compares what `doctor` says of each export in tests/fixtures/saved_models, for each release of
TensorFlow, with what that TensorFlow does: `verify.py PROGRAM [RELEASE ...]`. Downloads the wheels.

`fail` must be an error of the load or of the run, anything else must load and run. The C API imports
a graph once more after it was loaded, and up to TensorFlow 2.9 that fails for operations in functions
which a server never touches: such an export counts as loaded, and cannot be run here."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import generate
from tensorflow.core.protobuf import saved_model_pb2

# What the loader logs once for each load (cc/saved_model/loader.cc).
LOADED = re.compile(r"SavedModel load for tags \{ serve \}; Status: (\w+)")
MODELS = generate.HERE.parent.parent / "tests" / "fixtures" / "saved_models"


def request(path):
    """What load.py needs to know of an export: inputs with their shapes, and outputs."""
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    shape = lambda info: [max(dim.size, 1) for dim in info.tensor_shape.dim]
    return {
        "path": str(path),
        "inputs": [(info.name, shape(info)) for info in signature.inputs.values()],
        "outputs": [info.name for info in signature.outputs.values()],
    }


def says(program, path, release):
    command = [program, "doctor", "--saved-model", str(path), "--tf-version", release, "--json"]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    found = [finding for finding in answer["findings"] if finding["level"] == "fail"]
    stage = "load" if any("does not load" in finding["why"] for finding in found) else "run" if found else "ok"
    return stage, [finding["what"] for finding in found]


# What TensorFlow does, if doctor is right.
RIGHT = {"load": ("load",), "run": ("run", "loaded"), "ok": ("ok", "loaded")}


def main(program, wanted):
    exports = sorted(path.parent for path in MODELS.glob("*/*/saved_model.pb"))
    lines = "".join(json.dumps(request(path)) + "\n" for path in exports)
    wrong = 0
    for version, python in generate.RELEASES:
        release = ".".join(version.split(".")[:2])
        if wanted and release not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            root = generate.unpacked(version, python, Path(folder))
            run = subprocess.run(
                [sys.executable, str(generate.HERE / "load.py"), str(root)],
                input=lines.encode(), capture_output=True, check=False, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},
            )
        results = [json.loads(line) for line in run.stdout.decode().splitlines() if line.startswith("{")]
        assert len(results) == len(exports), f"TensorFlow {version} ended after {len(results)} of {len(exports)} exports"
        loads = LOADED.findall(run.stderr.decode("utf-8", "replace"))
        assert len(loads) == len(exports), f"TensorFlow {version} logged {len(loads)} loads of {len(exports)} exports"
        for result, load in zip(results, loads, strict=True):
            if result["stage"] == "load" and load == "success":
                result["stage"] = "loaded"
        failed = 0
        for path, result in zip(exports, results, strict=True):
            stage, findings = says(program, path, release)
            failed += stage != "ok"
            if result["stage"] not in RIGHT[stage]:
                wrong += 1
                print(f"DIFFERS {path.relative_to(MODELS)} on {release}: doctor {stage} {findings}, TensorFlow {result}")
        ran = sum(result["stage"] == "ok" for result in results)
        print(f"TensorFlow {version}: {len(exports)} exports, {ran} ran, doctor says that {failed} fail", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
