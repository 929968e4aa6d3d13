#!/usr/bin/env python3
"""Makes inputs for the fuzz targets from the golden requests, and packs and unpacks the committed files.

seeds.py golden FOLDER        writes a folder for each target, with seeds from the golden requests
seeds.py unpack FILE FOLDER   writes each base64 line to a file
seeds.py pack FOLDER FILE     the reverse
"""
import base64
import gzip
import hashlib
import json
import pathlib
import re
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
MODELS = re.findall(r'^ *\(\s*"(\w+)",', (HERE / "src/world.rs").read_text(), re.M)
MAX_SIZE = 700
# The bytes that each target expects before the request.
PREFIXES = {
    "scan": lambda model: b"\x07",
    "plan": lambda model: bytes([0, model, 1, 7]),
    "apply": lambda model: bytes([0, model, 1, 7]),
    # Three cuts, then an input of `plan`.
    "scan_cuts": lambda model: bytes([3, 2, 1, 7, 0, model, 1, 7]),
}


def write(folder, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def golden(folder):
    for line in (HERE / "../tests/fixtures/golden/tfs_golden.jsonl").read_text().splitlines():
        record = json.loads(line)
        request = base64.b64decode(record["request_b64"])
        answer = base64.b64decode(record["response_b64"] or "")
        words = record["id"].split(".")
        names = (words[0], "_".join(words[:2]))
        model = next((at for at, name in enumerate(MODELS) if name in names), 0)
        seeds = [(target, prefix(model) + request) for target, prefix in PREFIXES.items()]
        if record["method"].endswith("GetModelMetadata"):
            seeds = [("metadata", b"\x00" + answer)]
        elif answer:
            seeds.append(("scan", b"\x07" + answer))
        # Two cuts, the body once.
        seeds.append(("framing", b"\x02\x00\x01\xc8\x00" + len(request).to_bytes(4) + request))
        for target, seed in seeds:
            if len(seed) <= MAX_SIZE:
                write(folder / target, seed)
    for line in (HERE / "../tests/fixtures/golden/tfs_rest_golden.jsonl").read_text().splitlines():
        record = json.loads(line)
        body = record["body"].encode() if "body" in record else base64.b64decode(record.get("body_b64", ""))
        name = re.split("[/:]", (record.get("path") or "").removeprefix("/v1/models/"))[0]
        model = MODELS.index(name) if name in MODELS else 0
        if body and len(body) <= MAX_SIZE:
            write(folder / "rest_request", bytes([model, 0]) + body)
    images(folder)


def images(folder):
    """Image files, whole, cut, and with a byte changed."""
    files = [json.loads(line) for line in (HERE / "../tests/fixtures/transforms/images.jsonl").read_text().splitlines()]
    files = [base64.b64decode(record["file"]) for record in files if record["shape"][0] == 16]
    for at, file in enumerate(files):
        write(folder / "image_door", bytes([at * 29 % 96]) + file)
        write(folder / "image_door", bytes([32 + at]) + base64.b64encode(file))
        for part in (3, 5, 8):
            write(folder / "image_door", bytes([at * 7 % 32]) + file[: len(file) * part // 9])
        changed = bytearray(file)
        changed[len(file) * (at % 5 + 1) // 7] ^= 0x55
        write(folder / "image_door", bytes([at * 11 % 96]) + bytes(changed))


    profiles(folder)


def profiles(folder):
    """Seeds for the targets that read profiles and training data, from their fixtures."""
    fixtures = HERE / "../tests/fixtures/profile"
    for name, how in [("tf_serving_warmup_requests", 0), ("stats_tfrecord", 2), ("FeatureStats.pb", 2), ("x.csv", 4), ("x.jsonl", 5)]:
        data = (fixtures / name).read_bytes()
        write(folder / "tfrecord", bytes([how]) + data[:MAX_SIZE])
    # The single records, without their length and checksums.
    for name, how in [("tf_serving_warmup_requests", 1), ("stats_tfrecord", 3), ("examples.tfrecord.gz", 1)]:
        data = (fixtures / name).read_bytes()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        for _ in range(4):
            size = int.from_bytes(data[:8], "little")
            if len(data) >= size + 16:
                write(folder / "tfrecord", bytes([how]) + data[12 : 12 + size])
            data = data[size + 16 :]
    with zipfile.ZipFile(fixtures / "dtypes.npz") as archive:
        for name in archive.namelist():
            data = archive.read(name)
            write(folder / "npy", b"\x00" + data[:MAX_SIZE])
            write(folder / "npy", b"\x01" + data[10 : MAX_SIZE])
    for name in ["x.npy", "fortran.npy"]:
        write(folder / "npy", b"\x00" + (fixtures / name).read_bytes()[:MAX_SIZE])
    write(folder / "profile_file", (fixtures / "schema.pbtxt").read_bytes())
    page = (HERE / "../docs/preprocessing.md").read_text()
    for block in re.findall(r"```yaml[^\n]*\n(.*?)```", page, re.DOTALL):
        write(folder / "profile_file", block.encode())
    for scaler in ['{"kind": "standard", "mean": [1, 2], "scale": [3, null]}', '{"kind": "min_max", "min": [0], "max": [2], "to": [-1, 1]}']:
        write(folder / "profile_file", scaler.encode())


def unpack(file, folder):
    for line in file.read_text().splitlines() if file.exists() else []:
        write(folder, base64.b64decode(line))


def pack(folder, file):
    seeds = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda seed: (len(seed), seed))
    file.write_text("".join(base64.b64encode(seed).decode() + "\n" for seed in seeds))
    print(f"{file.name}: {len(seeds)} inputs, {file.stat().st_size} bytes")


if __name__ == "__main__":
    way, *paths = sys.argv[1:]
    {"golden": golden, "unpack": unpack, "pack": pack}[way](*map(pathlib.Path, paths))
