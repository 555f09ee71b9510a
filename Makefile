# Sidewall: build, test, show. `make help` lists what there is.

CARGO        ?= cargo
TOOLS        := $(CURDIR)/.tools
TARGET_DIR   := $(or $(CARGO_TARGET_DIR),target)
WASM_TARGET  := wasm32-unknown-unknown

# Of the cargo commands that are installed into .tools when a target needs them.
VERSION_deny     := 0.20.2
VERSION_llvm-cov := 0.9.1
VERSION_fuzz     := 0.13.2
VERSION_mutants  := 27.1.0

# How long `make fuzz` takes a target, and `make fuzz-long` in all.
FUZZ_SECONDS ?= 20
FUZZ_MINUTES ?= 60

# More arguments for cargo-mutants, such as `--shard 0/4` or `--re eval/search`.
MUTANTS ?=

.DEFAULT_GOAL := help
.PHONY: help setup system-packages kernel-modules wasm-target envoy helm build filter test test-apiserver test-cluster lint fmt fmt-check clippy \
        clippy-wasm docs deny coverage mutants fuzz fuzz-long demo conformance bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: system-packages kernel-modules wasm-target envoy helm ## Install what building and running needs

system-packages:
	@scripts/system-packages.sh

kernel-modules:
	@scripts/kernel-modules.sh

wasm-target:
	@scripts/wasm-target.sh $(WASM_TARGET)

envoy: ## Fetch the pinned Envoy into .tools
	@envoy/fetch-envoy.sh

helm: ## Fetch the helm that the chart is tested with into .tools
	@scripts/fetch-helm.sh

build: ## Build the sidewall command and the lab
	$(CARGO) build --workspace --exclude sidewall-filter --bins

filter: wasm-target ## Build the filter for Envoy
	$(CARGO) build -p sidewall-filter --profile wasm --target $(WASM_TARGET)
	@python3 filter/trim-exports.py $(TARGET_DIR)/$(WASM_TARGET)/wasm/sidewall_filter.wasm
	@ls -l $(TARGET_DIR)/$(WASM_TARGET)/wasm/sidewall_filter.wasm

test: setup filter build ## Set up and run every test
	SIDEWALL_REQUIRE_NETNS=1 $(CARGO) test --workspace
	$(MAKE) fuzz

# What speaks to an API server.
APISERVER_TESTS := kube_apiserver kube_objects kube_faults kube_facts xds_identity lab_kube lab_replicas

test-apiserver: export KUBEBUILDER_ASSETS ?= $(TOOLS)/programs
test-apiserver: setup filter build ## The tests of --kube, with the real API server; Go builds it, or KUBEBUILDER_ASSETS has it
	@scripts/apiserver-assets.sh
	SIDEWALL_REQUIRE_NETNS=1 $(CARGO) test --workspace $(addprefix --test ,$(APISERVER_TESTS))

# What runs other programs of Kubernetes as well.
CLUSTER_TESTS := cluster_kube_proxy cluster_nri

test-cluster: export KUBEBUILDER_ASSETS ?= $(TOOLS)/programs
test-cluster: setup filter build ## The node plane with Kubernetes' own API server, kube-proxy and containerd, which Go builds
	@scripts/apiserver-assets.sh
	@scripts/system-packages.sh runc
	@scripts/cluster-programs.sh kube-proxy containerd containerd-shim-runc-v2 ctr ptp host-local loopback
	SIDEWALL_REQUIRE_NETNS=1 SIDEWALL_REQUIRE_PROGRAMS=1 $(CARGO) test --workspace \
	  $(addprefix --test ,$(CLUSTER_TESTS)) -- --test-threads=1

lint: fmt-check clippy clippy-wasm docs deny ## Formatting, clippy for both targets, docs, licences

fmt: ## Format all code
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

fmt-check:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --target-dir $(TARGET_DIR) -- -D warnings

clippy-wasm: wasm-target
	$(CARGO) clippy -p sidewall-filter --target $(WASM_TARGET) -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --all-features check bans licenses sources

$(TOOLS)/bin/cargo-%:
	$(CARGO) install cargo-$* --version $(VERSION_$*) --locked --root $(TOOLS)

coverage: $(TOOLS)/bin/cargo-llvm-cov ## How much of the engine its tests run; fails below 95 % of lines
	PATH="$(TOOLS)/bin:$$PATH" scripts/coverage.sh 95

mutants: $(TOOLS)/bin/cargo-mutants ## Break the engine on purpose; fails where its tests do not notice
	scripts/mutants.sh $(TOOLS)/bin/cargo-mutants $(MUTANTS)

fuzz: $(TOOLS)/bin/cargo-fuzz ## Fuzz each target for FUZZ_SECONDS, 20 by default
	PATH="$(TOOLS)/bin:$$PATH" scripts/fuzz.sh $(FUZZ_SECONDS)

fuzz-long: $(TOOLS)/bin/cargo-fuzz ## Random tests and fuzzing for FUZZ_MINUTES, 60 by default
	PATH="$(TOOLS)/bin:$$PATH" scripts/fuzz-long.sh $(FUZZ_MINUTES)

demo: setup filter build ## Set up and watch policies decide connections; SOURCE=kube for an API server
	$(CARGO) run -q -p sidewall-host-tests --bin demo -- $(if $(SOURCE),--source $(SOURCE))

conformance: setup filter build ## Run every case with real packets; PLANE=node for one plane
	$(CARGO) run -q -p sidewall-host-tests --bin conformance -- $(if $(PLANE),--plane $(PLANE))

bench: setup filter ## Measure; prints ratios and medians
	scripts/bench.sh

clean: ## Remove build output and fetched tools
	$(CARGO) clean
	rm -rf $(TOOLS)
