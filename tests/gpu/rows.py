#!/usr/bin/env python3
"""Measures what a run costs by its rows, and by how much a row differs when others share its run.
Prints one JSON line for each model and number of rows."""

import argparse
import importlib.metadata
import json
import statistics
import time

import torch
from models import MODELS, make, rows, use_tf32

PACKAGES = ("torch", "torchvision", "transformers", "grpcio")
# What the sidecar allows for float32.
RELATIVE, ABSOLUTE = 1e-3, 1e-5
# Rows that are compared with those of a run of the same row only.
REPEATED = 16


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda")
    options.add_argument("--models", default=",".join(MODELS))
    options.add_argument("--most", type=int, default=64)
    options.add_argument("--repeat", type=int, default=20)
    options.add_argument("--no-tf32", action="store_true")
    options = options.parse_args()
    use_tf32(not options.no_tf32)
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(json.dumps({"record": "packages", **packages}), flush=True)
    with torch.inference_mode():
        for name in options.models.split(","):
            model = make(name, options.device)
            x = rows(name, options.most)

            def run(x, model=model):
                return model(x.to(options.device)).cpu()

            for row in range(3):
                run(x[row : row + 1])
            alone = torch.cat([run(x[row : row + 1]) for row in range(options.most)])
            for power in range(options.most.bit_length()):
                count = 2**power
                shared = torch.cat([run(part) for part in x.split(count)])
                # A run of the same size in which no other rows take part
                few = min(REPEATED, options.most)
                repeated = torch.cat([run(x[at : at + 1].repeat_interleave(count, 0))[at % count : at % count + 1] for at in range(few)])
                print(json.dumps({"record": "rows", "model": name, "tf32": not options.no_tf32, "rows": count,
                                  "us": cost(run, x[:count], options.repeat), **compare(alone, shared),
                                  "repeated": compare(repeated, shared[:few])}), flush=True)  # fmt: skip


def cost(run, x, repeat):
    """The median in microseconds, with the copies to and from the device."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1e6)


def compare(alone, shared):
    apart = (alone - shared).abs()
    larger = torch.maximum(alone.abs(), shared.abs())
    beyond = apart > ABSOLUTE + RELATIVE * larger
    size = larger.amax(1, keepdim=True)
    return {
        "largest_value": float(larger.max()),
        "largest_difference": float(apart.max()),
        # relative to the largest value of the row
        "largest_of_row": float((apart / size).max()),
        "elements_beyond": float(beyond.double().mean()),
        "rows_beyond": float(beyond.any(1).double().mean()),
        # of two neighbouring rows, as `largest_of_row`
        "other_rows": float(((alone - alone.roll(1, 0)).abs() / size).amax(1).median()),
    }


if __name__ == "__main__":
    main()
