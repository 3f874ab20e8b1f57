# The ways into this tree. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo playground playground-down test lint bench tools build build-release rust go

REMOTES ?= 2
PLAYGROUND_FLAGS ?=

help: ## Says what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## The walk of the 2019 blog on real clusters, to be read in a terminal
	@target/debug/demo

playground: build ## Central and REMOTES=2 remotes with hub and agents; stays until interrupted (JOINED=1 applies the blog's RemoteIstio)
	@target/debug/playground --remotes $(REMOTES) $(if $(JOINED),--joined) $(PLAYGROUND_FLAGS)

playground-down: build ## Ends a playground that was left behind
	@target/debug/playground down

test: tools build ## Unit, property, pair and cluster tests
	cargo test --workspace

lint: rust ## Format, clippy pedantic, documentation; a warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench: tools build-release ## From a pod's readiness on central to the remote slice, beside two others (QUICK=1 to try)
	@target/release/bench $(if $(QUICK),--quick)

tools: rust go ## Builds etcd, Kubernetes, kwok and grpcurl from Go modules into the tool cache, once
	@cargo run --quiet --package remote-istio-tests --bin tools

build: rust go
	@echo "building hub, agent and tests (minutes the first time, seconds afterwards)"
	cargo build --workspace

build-release: rust go
	@echo "building hub, agent and the bench for release (about ten minutes the first time on two cores)"
	cargo build --release --package remote-istio-hub --package remote-istio-agent --package remote-istio-tests \
		--bin remote-istio-hub --bin remote-istio-agent --bin bench

rust:
	@command -v cargo >/dev/null || { \
		echo "cargo is not on the PATH: install Rust 1.95 or newer, see https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { \
		echo "there is no C compiler: install Debian's build-essential" >&2; exit 1; }
	@version="$$(rustc --version | cut -d ' ' -f 2)"; \
	 [ "$$(printf '%s\n' 1.95.0 "$$version" | sort -V | head -n 1)" = 1.95.0 ] || { \
		echo "rustc $$version is too old: install 1.95 or newer, as with \`rustup update stable\`" >&2; exit 1; }

go:
	@command -v go >/dev/null || { \
		echo "go is not on the PATH: install Go 1.26 or newer from https://go.dev/dl" >&2; exit 1; }
