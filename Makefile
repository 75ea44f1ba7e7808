# What a developer runs. `make` alone lists it; CI runs the same through .ci/run.
#
# Cargo honours CARGO_TARGET_DIR by itself, so programs are run through `cargo run`, not by their path; but for the one
# that is built together with others, which `cargo run` would build again with the features that it needs alone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Each target is one cargo run after another, and cargo is parallel by itself.
.NOTPARALLEL:

TRACE := google-2011-t0
# Traces that may not be redistributed, as the tests find them.
CELL_TRACES_DIR ?= ../shared/traces
OPENB := $(CELL_TRACES_DIR)/alibaba-openb-2023
HAS_OPENB := $(wildcard $(OPENB)/openb_node_list_all_node.csv.gz)
# Cases and recorded runs of the real kube-scheduler, which may not be at hand.
KUBE_REFERENCE ?= ../shared/reference
KUBE := $(addprefix --kube-cases ,cases/kubernetes $(wildcard $(KUBE_REFERENCE)/kube-scheduler-cases)) \
  $(addprefix --kube-decisions ,$(wildcard $(KUBE_REFERENCE)/kube-decisions/small $(KUBE_REFERENCE)/kube-decisions/preempt))
EXPERIMENTS := cargo run --quiet --release --locked -p experiments --bin experiments --
# One build for everything that the demo and a first look need.
BUILD := cargo build --release --locked -p experiments -p fauxmaster

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## check the tools that building needs
	@scripts/setup.sh

.PHONY: demo
demo: setup ## compare Borg's and Kubernetes' placement on a real cell: out/demo/index.html
	$(BUILD)
	$(EXPERIMENTS) compare --trace $(TRACE) \
	  --policies borg-hybrid,best-fit,kube-default \
	  --systems borg-hybrid,kube-default \
	  --trials 5 --seed 1 $(KUBE) --out out/demo

.PHONY: report
report: setup ## the same with every policy, a sweep, 11 trials, and the GPU experiment: out/report/index.html
	$(BUILD)
ifneq ($(HAS_OPENB),)
	$(EXPERIMENTS) gpu --seeds 10 --related ../report/index.html --out out/gpu \
	  --trace openb:$(OPENB)/openb_node_list_all_node.csv.gz,$(OPENB)/openb_pod_list_default.csv.gz
else
	@echo "skipped: the GPU experiment ($(OPENB) is not there; CELL_TRACES_DIR names another place)"
endif
	$(EXPERIMENTS) compare --trace $(TRACE) \
	  --policies borg-hybrid,best-fit,e-pvm,kube-default,kube-default-all-nodes,kube-most-allocated,nomad-binpack,nomad-spread \
	  --sweep --trials 11 --seed 1 $(KUBE) $(if $(HAS_OPENB),--gpu-report out/gpu) --out out/report

.PHONY: optimize
optimize: ## prove how few machines the bundled cell's workload needs, and come close to it
	@scripts/setup.sh optimizer
	cargo run --release --locked -p optimizer --bin optimizer -- pareto --trace $(TRACE) \
	  --pending-allowance 0 --trials 3 --seed 1 --certificate out/optimize/certificate.json

# `borgcfg` is where cargo puts it; a user of it has it in the PATH.
.PHONY: cell
cell: ## start a local cell of 3 masters and 4 borglets that runs real tasks; `borgcfg dev down` ends it
	@scripts/setup.sh master
	cargo build --release --locked -p borgmaster -p borgcfg -p borglet -p borglet-init
	USER=$${USER:-$$(id -un)} $${CARGO_TARGET_DIR:-target}/release/borgcfg dev up

# The suite goes last, so that its closing lines close the output. Without nextest `--tests` leaves out
# the doc tests, which have run by then.
.PHONY: test
test: ## run the whole test suite
	@scripts/setup.sh test
	cargo test --quiet --doc --workspace --locked
	@if cargo nextest --version >/dev/null 2>&1; then \
	  echo cargo nextest run --workspace --locked; \
	  cargo nextest run --workspace --locked; \
	else \
	  echo cargo test --workspace --locked --tests; \
	  cargo test --workspace --locked --tests; \
	fi

# In the build that tests use, where known bugs can be switched on.
SEEDS ?= 100
.PHONY: sim
sim: setup ## simulate whole cells under faults: make sim SEEDS=1000
	cargo run --locked -p sim -- --seeds $(SEEDS)

.PHONY: lint
lint: ## check format, clippy, docs, and (with cargo-deny) licences and advisories
	@scripts/setup.sh lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --locked
	@if cargo deny --version >/dev/null 2>&1; then \
	  echo cargo deny check; \
	  cargo deny check; \
	else \
	  echo "skipped: cargo deny check (cargo-deny is not installed)"; \
	fi

.PHONY: fmt
fmt: ## format all code
	cargo fmt --all

.PHONY: bench
bench: setup ## measure packing, scoring and reading the bundled trace
	cargo bench --locked -p benches
