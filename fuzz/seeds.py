#!/usr/bin/env python3
"""Writes seeds for the fuzz targets out of the golden requests: seeds.py FOLDER."""
import base64
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
MODELS = re.findall(r'^ *\(\s*"(\w+)",', (HERE / "src/world.rs").read_text(), re.M)
MOST = 700
# The request of a record as a seed: the bytes that the target wants in front.
HEADS = {
    "scan": lambda model: b"\x07",
    "plan": lambda model: bytes([0, model, 1, 7]),
    "apply": lambda model: bytes([0, model, 1, 7]),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    written = 0
    for number, line in enumerate((HERE / "../tests/fixtures/golden/tfs_golden.jsonl").read_text().splitlines()):
        record = json.loads(line)
        request = base64.b64decode(record["request_b64"])
        answer = base64.b64decode(record["response_b64"] or "")
        model = next((at for at, name in enumerate(MODELS) if record["id"].startswith(name + ".")), 0)
        seeds = {target: head(model) + request for target, head in HEADS.items()}
        if record["method"].endswith("GetModelMetadata"):
            seeds = {"metadata": b"\x00" + answer}
        elif answer:
            seeds["scan.answer"] = b"\x07" + answer
        for target, seed in seeds.items():
            if len(seed) <= MOST:
                path = folder / target.split(".")[0]
                path.mkdir(parents=True, exist_ok=True)
                (path / f"{target}-{number:03}").write_bytes(seed)
                written += 1
    print(f"{written} seeds in {folder}")


if __name__ == "__main__":
    main()
