#!/usr/bin/env python3
"""What is in the program: its crates as a CycloneDX SBOM, and the texts of all licences in one file.

    inventory.py TARGET SBOM LICENCES

`cargo tree` says which crates are compiled for the target with the features of a release. The hashes are
those of Cargo.lock. Nothing depends on the time, the machine or the order of a hash table.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARGO = os.environ.get("CARGO", "cargo")
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
TEXT = re.compile(r"(un)?licen[sc]e|copying|notice|copyright", re.IGNORECASE)
# A folder of a crate that is not compiled into the program, and has licences of its own.
SKIPPED = {"tests", "test", "benches", "examples", "docs", "fuzz"}
RULE = "=" * 80


def cargo(*arguments):
    done = subprocess.run([CARGO, *arguments, "--locked"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"inventory.py: `cargo {arguments[0]}` failed:\n{done.stderr}")
    return done.stdout


def crates(target):
    """The crates of the program, sorted, each as it is in `cargo metadata`, and their edges.

    Build dependencies are part of it, since their output is; dependencies of tests are not.
    """
    known = {(p["name"], p["version"]): p for p in json.loads(cargo("metadata", "--format-version", "1"))["packages"]}
    tree = cargo("tree", "--edges", "no-dev", "--target", target, "--prefix", "depth", "--format", " {p}")
    found, edges, path = {}, {}, []
    for line in tree.splitlines():
        depth, name, version = re.match(r"(\d+) (\S+) v(\S+)", line).groups()
        key = (name, version)
        found[key] = known[key]
        del path[int(depth):]
        if path:
            edges.setdefault(path[-1], set()).add(key)
        path.append(key)
    return [found[key] for key in sorted(found)], edges


def checksums():
    """The SHA-256 of each crate's archive."""
    block = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = "(.+)"\nchecksum = "(.+)"')
    return {(name, version): sum for name, version, _, sum in block.findall((ROOT / "Cargo.lock").read_text())}


def purl(name, version):
    return f"pkg:cargo/{name}@{version.replace('+', '%2B')}"


def component(crate, sums):
    key = (crate["name"], crate["version"])
    part = {
        "type": "application" if crate["source"] is None else "library",
        "bom-ref": purl(*key),
        "name": crate["name"],
        "version": crate["version"],
        "description": " ".join((crate["description"] or "").split()),
        "licenses": [{"expression": crate["license"].replace("/", " OR ")}],
        "purl": purl(*key),
    }
    if key in sums:
        part["hashes"] = [{"alg": "SHA-256", "content": sums[key]}]
    if crate["repository"]:
        part["externalReferences"] = [{"type": "vcs", "url": crate["repository"]}]
    return part


def sbom(target, found, edges):
    """CycloneDX 1.5. It has no serial number and no time, so that it is the same for the same sources."""
    sums = checksums()
    missing = [c["name"] for c in found if c["source"] == REGISTRY and (c["name"], c["version"]) not in sums]
    if missing:
        sys.exit(f"inventory.py: Cargo.lock has no checksum of {missing}")
    own = next(crate for crate in found if crate["source"] is None)
    application = component(own, sums)
    application["properties"] = [
        {"name": "commit", "value": os.environ.get("BUILD_COMMIT", "unknown")},
        {"name": "target", "value": target},
    ]
    keys = [(crate["name"], crate["version"]) for crate in found]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": application},
        "components": [component(crate, sums) for crate in found if crate is not own],
        "dependencies": [
            {"ref": purl(*key), "dependsOn": [purl(*other) for other in sorted(edges.get(key, ()))]} for key in keys
        ],
    }


def texts(crate):
    """The texts of licences in a crate's archive, also those of C libraries that it brings."""
    folder = Path(crate["manifest_path"]).parent
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        for name in sorted(files):
            if TEXT.match(name) and Path(name).suffix.lower() in ("", ".txt", ".md", ".rst"):
                text = (Path(where) / name).read_text(encoding="utf-8", errors="replace")
                found.append("\n".join(line.rstrip() for line in text.strip().splitlines()))
    return found


def licences(found):
    """Every text once, with the crates that it belongs to."""
    apache = "\n".join(line.rstrip() for line in (ROOT / "LICENSE").read_text().strip().splitlines())
    own = {(crate["name"], crate["version"]): texts(crate) for crate in found if crate["source"] is not None}
    holders = {}
    for crate in found:
        if crate["source"] is None:
            continue
        name = f"{crate['name']} {crate['version']}"
        mine = own[crate["name"], crate["version"]]
        if not mine and "Apache-2.0" in crate["license"]:
            mine = [apache]
        if not mine:
            # Packages of one repository sometimes leave its licence out.
            same = [c for c in found if c["repository"] == crate["repository"] and c["license"] == crate["license"]]
            mine = next((own[c["name"], c["version"]] for c in same if own.get((c["name"], c["version"]))), [])
        if not mine:
            sys.exit(f"inventory.py: {name} ({crate['license']}) has no text of its licence")
        for text in mine:
            holders.setdefault(text, set()).add(name)
    lines = [
        "tfs-sidecar is licensed under Apache-2.0 (LICENSE). This file has the licences of everything else that is",
        "in the program.",
        "",
        "The program is linked statically with the GNU C Library, which is licensed under LGPL-2.1-or-later (last",
        "text below; sources: https://ftp.gnu.org/gnu/glibc/). To link it with another version of that library,",
        "build it from its sources with `make release`. The standard library of Rust is licensed under MIT or",
        "Apache-2.0 (https://github.com/rust-lang/rust).",
        "",
    ]
    for crate in found:
        if crate["source"] is not None:
            lines.append(f"{crate['name']} {crate['version']}: {crate['license']}")
    for text, names in sorted(holders.items(), key=lambda item: (sorted(item[1]), hashlib.sha256(item[0].encode()).digest())):
        lines += ["", RULE, ", ".join(sorted(names)), RULE, "", text]
    lgpl = (ROOT / "tools" / "release" / "LGPL-2.1.txt").read_text().rstrip()
    lines += ["", RULE, "GNU C Library", RULE, "", lgpl]
    return "\n".join(lines) + "\n"


def main():
    target, sbom_path, licences_path = sys.argv[1:]
    found, edges = crates(target)
    Path(sbom_path).write_text(json.dumps(sbom(target, found, edges), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Path(licences_path).write_text(licences(found), encoding="utf-8")


if __name__ == "__main__":
    main()
