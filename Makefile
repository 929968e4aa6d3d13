# Entry points for developers and CI. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help demo demo-tf demo-ops test test-rust test-python test-browser test-deploy attacks chaos bench bench-rest fuzz bench-proxy bench-footprint bench-batching bench-instructions soak sweep-limit sweep-batching lint deny ci static image release release-verify bench-gpu op-tables op-tables-verify op-packages test-doctor census-memory sweep-profiles

CARGO ?= cargo
PYTHON := .venv/bin/python
# A Python with PyTorch, for bench-gpu.
PYTHON_GPU ?= python3
# Cargo may be configured to build elsewhere, and the Python tests need to know where.
TARGET = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
# What the image contains and what is measured and attacked here is the same static binary. These flags are
# for its last step only, so that `cargo build` and this share the compiled dependencies.
STATIC = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs $(FOLD)
# Functions with the same code once only. The linker that Rust brings for x86-64 can do that.
FOLD = $(if $(filter x86_64-unknown-linux-gnu,$(shell rustc -vV | sed -n 's/^host: //p')),-C link-arg=-Wl$(COMMA)--icf=all)
COMMA := ,
RELEASE = $(CARGO) rustc --locked --release --bin tfs-sidecar -- $(STATIC)

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

demo: ## wrong requests with and without the sidecar; needs only Rust (ONCE=1 exits after the table)
	$(CARGO) run --quiet --no-default-features --features demo --bin tfs-sidecar-demo

demo-tf: venv ## the three usual mistakes on real TensorFlow, as one story (ONCE=1 exits after it)
	@$(CARGO) build --quiet --locked --bin tfs-sidecar
	@errors=$$(mktemp); code=0; TFS_SIDECAR_BIN="$(TARGET)/debug/tfs-sidecar" $(PYTHON) tests/demo/tour.py 2>"$$errors" || code=$$?; \
	[ $$code = 0 ] || cat "$$errors" >&2; rm -f "$$errors"; exit $$code

demo-ops: ## wrong traffic of five clients in Prometheus and Alertmanager: an alert fires and is resolved (ONCE=1 exits after the table)
	tests/demo/programs.sh
	$(CARGO) run --quiet --no-default-features --features demo --bin tfs-sidecar-demo -- --ops

test: test-rust attacks test-python test-browser test-deploy ## run all tests

test-rust: ## run unit and integration tests
	$(CARGO) test --locked --features image

test-python: venv ## test the built program between Python clients and TensorFlow
	$(CARGO) build --locked --bin tfs-sidecar
	TFS_SIDECAR_BIN="$(TARGET)/debug/tfs-sidecar" $(PYTHON) -m pytest -p no:cacheprovider tests/tfserving

test-doctor: venv ## break each export of each TensorFlow in every way, and read a SavedModel of 1 GB (6 minutes)
	$(RELEASE)
	DOCTOR_ALL=1 TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" $(PYTHON) -m pytest -p no:cacheprovider tests/tfserving/test_doctor.py
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" $(PYTHON) tests/tfserving/doctor_large.py

op-tables: venv ## read the operations of TensorFlow 2.4 to 2.21 from their wheels (downloads 4 GB, one after the other)
	$(PYTHON) tools/op_tables/generate.py

op-packages: venv ## read the operations of packages that bring their own from their wheels (downloads 200 MB)
	$(PYTHON) tools/op_tables/packages.py

op-tables-verify: venv ## compare doctor with each TensorFlow from 2.4 to 2.21 on each export (downloads 4 GB, one after the other)
	$(CARGO) build --locked --bin tfs-sidecar
	$(PYTHON) tools/op_tables/verify.py "$(TARGET)/debug/tfs-sidecar"

test-browser: ## test the status page in Chromium (UPDATE=1 writes the screenshots); skipped where there is none
	@code=0; tests/browser/setup.sh || code=$$?; \
	if [ $$code = 3 ]; then echo "test-browser: skipped (see above)"; exit 0; elif [ $$code != 0 ]; then exit $$code; fi; \
	$(CARGO) build --locked --bin tfs-sidecar; \
	TFS_SIDECAR_BIN="$(TARGET)/debug/tfs-sidecar" tests/browser/.venv/bin/python -m pytest -p no:cacheprovider tests/browser

test-deploy: ## test the files in deploy/ with the tools of their field; tests whose tool is missing are skipped
	@code=0; tests/deploy/setup.sh || code=$$?; \
	if [ $$code = 3 ]; then echo "test-deploy: skipped (see above)"; exit 0; elif [ $$code != 0 ]; then exit $$code; fi; \
	target="$(TARGET)"; static="$$target/image/tfs-sidecar"; \
	if [ ! -e "$$static" ] || [ -n "$$(find src proto build.rs Cargo.* .cargo -newer "$$static" -print -quit)" ]; then \
	$(CARGO) rustc --locked --bin tfs-sidecar -- $(STATIC); \
	static="$$target/debug/image/tfs-sidecar"; deploy/docker/context.sh "$$target/debug/tfs-sidecar" "$$target/debug/image"; fi; \
	$(CARGO) build --locked --bin tfs-sidecar; \
	TFS_SIDECAR_BIN="$$target/debug/tfs-sidecar" TFS_SIDECAR_STATIC="$$static" tests/deploy/.venv/bin/python -m pytest -p no:cacheprovider -rs tests/deploy

attacks: static ## attack the release build beside an honest client (5 minutes)
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" $(CARGO) test --locked --features image --test attacks -- --nocapture --test-threads 1

chaos: ## run with everything on, accidents and attackers for MINUTES (default 10; 30 before a release) and check every answer
	$(RELEASE)
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" $(CARGO) test --locked --test chaos -- $$(($${MINUTES:-10} * 60))

.PHONY: venv
venv: # does nothing if it is up to date
	tests/tfserving/setup.sh

bench: ## measure scan, plan, repair and cast against memcpy, and what a profile costs; writes docs/benchmarks.md
	benches/run.sh

bench-rest: ## compare reading and writing JSON with sonic-rs and serde_json; writes a part of docs/benchmarks.md
	benches/run.sh rest

fuzz: ## run each fuzz target for SECONDS_EACH (default 600), on stable Rust
	@for target in scan plan apply metadata framing scan_cuts rest_request image_door profile_file tfrecord npy; do fuzz/run.sh $$target $${SECONDS_EACH:-600}; done

bench-proxy: ## compare with Envoy, nginx and HAProxy; writes docs/performance.md (15 minutes)
	$(RELEASE)
	tests/bench/setup.sh
	cd tests/bench && TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" ./run.py && ./report.py .run/results.jsonl --write ../../docs/performance.md

bench-footprint: ## measure start, memory and sizes beside the same peers; writes docs/performance.md (5 minutes)
	$(RELEASE)
	tests/bench/setup.sh
	cd tests/bench && TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" ./footprint.py && ./report.py .run/results.jsonl --write ../../docs/performance.md

bench-batching: ## measure what batching gains and costs; writes the tables of docs/batching.md (15 minutes)
	$(RELEASE)
	cd tests/bench && TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" ./batching.py && ./batching_report.py .run/batching.jsonl --write ../../docs/batching.md

bench-gpu: ## measure batching before models on a GPU; writes their tables of docs/batching.md (needs PyTorch, 7 minutes)
	$(CARGO) build --locked --release --bin tfs-sidecar
	cd tests/gpu && TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" $(PYTHON_GPU) bench.py && $(PYTHON_GPU) report.py .run/gpu.jsonl --write ../../docs/batching.md

bench-instructions: ## compare instructions per request with the committed figures (needs valgrind)
	$(RELEASE)
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" tests/bench/instructions.sh

soak: ## send MINUTES (default 10) of mixed traffic with cancellations and restarts, and account for every request
	$(RELEASE)
	TFS_SIDECAR_BIN="$(TARGET)/release/tfs-sidecar" tests/bench/soak.py --minutes $${MINUTES:-10}

sweep-limit: ## simulate the adaptive limit before LIMIT_SEEDS (default 200) random servers
	LIMIT_SEEDS=$${LIMIT_SEEDS:-200} $(CARGO) test --locked --lib -- --nocapture concurrency::tests::throughput

census-memory: ## send the traffic census a million ever new forms, and measure its memory
	CENSUS_THOUSANDS=1000 $(CARGO) test --locked --lib -- --nocapture census::tests::store::ever_new

sweep-batching: ## simulate batching for all curves and loads; WRITE_TABLE=path writes the table
	BATCHING_SWEEP=1 $(CARGO) test --locked --lib -- --nocapture batch::tests::simulation::sweep

sweep-profiles: ## try PROFILE_CLIENTS (default 20) clients for each mistake and PROFILE_ROWS (default 1000000) honest rows
	PROFILE_CLIENTS=$${PROFILE_CLIENTS:-20} PROFILE_ROWS=$${PROFILE_ROWS:-1000000} $(CARGO) test --locked --lib -- --nocapture profile::tests

lint: ## check formatting, run clippy and build the documentation of the code; reports and skips a tool that is not installed
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --check; \
	else echo "lint: rustfmt is not installed, formatting is not checked"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; \
	then $(CARGO) clippy --locked --all-targets --features demo,image -- -D warnings && \
	$(CARGO) clippy --locked --no-default-features --features demo -- -D warnings && \
	$(CARGO) clippy --locked --test attacks --test chaos -- -D warnings; \
	else echo "lint: clippy is not installed, lints are not checked"; fi
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --locked --no-deps --document-private-items --features demo,image

deny: ## check licences, sources and duplicates of the dependencies (deny.toml), and advisories if their database can be reached
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources && \
	if $(CARGO) deny --locked fetch db >/dev/null 2>&1; then $(CARGO) deny --locked check --disable-fetch advisories; \
	else echo "deny: the database of advisories cannot be reached, advisories are not checked"; fi; \
	else echo "deny: cargo-deny is not installed, dependencies are not checked (cargo install cargo-deny --locked)"; fi

ci: lint deny ## what CI runs: lint, deny, the demos, instructions per request (if valgrind is installed), all tests
	ONCE=1 $(MAKE) --no-print-directory demo
	@if tests/demo/programs.sh; then ONCE=1 $(MAKE) --no-print-directory demo-ops; else echo "ci: demo-ops is skipped (see above)"; fi
	@if command -v valgrind >/dev/null; then $(MAKE) --no-print-directory bench-instructions; \
	else echo "ci: valgrind is not installed, instructions are not counted"; fi
	$(MAKE) --no-print-directory test

static: ## build the static binary, and what else the image needs, in target/image
	$(RELEASE)
	deploy/docker/context.sh "$(TARGET)/release/tfs-sidecar" "$(TARGET)/image"

image: ## build the container image tfs-sidecar:1.0.0 (podman or docker)
	@if command -v "$(CARGO)" >/dev/null; then $(MAKE) --no-print-directory static && deploy/docker/build.sh "$(TARGET)/image"; \
	else deploy/docker/build.sh; fi

release: ## build what is released in target/dist: static programs, SBOM, licences, checksums (x86-64, and aarch64 where it can be built)
	tools/release/release.sh

release-verify: ## build the last commit twice in two folders, and compare every byte of the results
	tools/release/verify.sh
