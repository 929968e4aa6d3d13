# The one front door: `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help demo demo-tf test test-rust test-python bench fuzz bench-proxy bench-instructions soak lint ci image

CARGO ?= cargo
PYTHON := .venv/bin/python
# Cargo may be told to build elsewhere; the Python tests need to know where.
TARGET = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

demo: ## wrong requests repaired before your eyes; needs only Rust (ONCE=1 ends it after the table)
	$(CARGO) run --quiet --no-default-features --features demo --bin tfs-sidecar-demo

demo-tf: venv ## the same in front of real TensorFlow, from its Python wheel
	$(CARGO) run --quiet --no-default-features --features demo --bin tfs-sidecar-demo -- --tf $(PYTHON)

test: test-rust test-python ## all tests

test-rust: ## unit and integration tests
	$(CARGO) test --locked

test-python: venv ## the built program in front of TensorFlow, asked by Python clients
	$(CARGO) build --locked --bin tfs-sidecar
	TFS_SIDECAR_BIN="$(TARGET)/debug/tfs-sidecar" $(PYTHON) -m pytest -p no:cacheprovider tests/tfserving

.PHONY: venv
venv: # does nothing when it is up to date
	tests/tfserving/setup.sh

bench: ## scan, plan, repair and cast, beside memcpy: writes docs/benchmarks.md
	benches/run.sh

fuzz: ## each fuzz target for SECONDS_EACH (600), on stable Rust
	@for target in scan plan apply metadata; do fuzz/run.sh $$target $${SECONDS_EACH:-600}; done

bench-proxy: ## the sidecar beside Envoy, nginx and HAProxy: writes docs/performance.md (15 minutes)
	$(CARGO) build --locked --release --bin tfs-sidecar
	tests/bench/setup.sh
	cd tests/bench && TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" ./run.py && ./report.py .run/results.jsonl --write ../../docs/performance.md

bench-instructions: ## instructions a request (valgrind), against the committed figures
	$(CARGO) build --locked --release --bin tfs-sidecar
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" tests/bench/instructions.sh

soak: ## ten minutes of mixed traffic with cancellations and restarts, every request accounted for
	$(CARGO) build --locked --release --bin tfs-sidecar
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" tests/bench/soak.py --minutes $${MINUTES:-10}

lint: ## formatting and clippy; a tool that is not installed is named and left out
	@if $(CARGO) fmt --version >/dev/null 2>&1; \
	then $(CARGO) fmt --check && rustfmt --edition 2024 --check src/repair/rules/*.rs; \
	else echo "lint: rustfmt is not installed, formatting is not checked"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; \
	then $(CARGO) clippy --locked --all-targets --features demo -- -D warnings; \
	else echo "lint: clippy is not installed, lints are not checked"; fi

ci: lint ## what CI runs: lint, the demo once, instructions a request (where valgrind is), all tests
	ONCE=1 $(MAKE) --no-print-directory demo
	@if command -v valgrind >/dev/null; then $(MAKE) --no-print-directory bench-instructions; \
	else echo "ci: valgrind is not installed, instructions are not counted"; fi
	$(MAKE) --no-print-directory test

image: ## a container image (podman or docker)
	@engine=$$(command -v podman || command -v docker) || { echo "image: neither podman nor docker is installed"; exit 1; }; \
	"$$engine" build --file deploy/Dockerfile --tag tfs-sidecar .
