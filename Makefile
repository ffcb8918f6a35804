## make demo        the gate with a vendor and an app, offline; prints what to try
## make build       the gateway, target/release/portcullis
## make test        what a change must pass: format, lints, tests, docs, licences and sources
## make test-real   with programs beside us: a browser, an editor's language server, a suite for caches, a load under reloads and upgrades, an image builder, systemd's checker, Prometheus' own
## make test-long   the reloads under load, twenty times over, the cache against its model, thirty times over, and damaged files for ten minutes
## make bench       the numbers
#
# Each installs what it lacks (apt, as root or by sudo) and says how long it took. Rust itself it does not install.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: help demo build static test deny advisories test-real test-long bench

TARGET := $(or $(CARGO_TARGET_DIR),target)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
STATIC = $(abspath $(TARGET))/$(HOST)/release/portcullis
TOOLS := $(abspath $(TARGET))/tools
COMPILER := cc:gcc,libc6-dev cmake:cmake
DENY_VERSION := 0.20.2
# Recipes that several targets share are texts, not `$(MAKE)`: with one shell per recipe, `make -n` would run those for real.
define BUILD_STATIC
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target $(HOST)
endef
define CHECK_DENY
deny="$$(command -v cargo-deny || echo $(TOOLS)/bin/cargo-deny)"
if ! "$$deny" --version >/dev/null 2>&1; then
  CARGO_TARGET_DIR=$(TOOLS)/build cargo install --quiet --locked --root $(TOOLS) --version $(DENY_VERSION) cargo-deny
  deny=$(TOOLS)/bin/cargo-deny
  rm -rf $(TOOLS)/build
fi
cargo fetch --locked --quiet
"$$deny" --offline check licenses sources bans
endef
MINUTES = trap 'printf "make $@: %d min %02d s\n" $$((SECONDS / 60)) $$((SECONDS % 60)) >&2' EXIT

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

demo:
	@.ci/need $(COMPILER)
	cargo build --release --locked
	exec $(TARGET)/release/portcullis demo

build:
	@.ci/need $(COMPILER)
	cargo build --release --locked

# One binary without any library beside it: what the image holds, and what `test-real` runs. `--target` keeps the flag away
# from build scripts and macros, which cannot be static.
static:
	@.ci/need $(COMPILER)
	$(BUILD_STATIC)

test:
	@$(MINUTES)
	.ci/need $(COMPILER)
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	if cargo nextest --version >/dev/null 2>&1; then
	  cargo nextest run --locked
	else
	  cargo test --locked --lib --bins --tests
	fi
	cargo test --locked --doc
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	$(CHECK_DENY)

# Licences, sources and banned crates, as deny.toml says. Built once, beside the rest of what is built.
deny:
	@.ci/need $(COMPILER)
	$(CHECK_DENY)

advisories:
	cargo deny check advisories

test-real:
	@$(MINUTES)
	.ci/need $(COMPILER) curl:curl wrk:wrk chromium:chromium buildah:buildah systemd-analyze:systemd node:nodejs npm:npm
	$(BUILD_STATIC)
	tests/real/run $(STATIC)

# What takes longer than a change should wait: twenty times the reloads; the cache against its model, with sequences that nobody has seen; files
# of the shared memory damaged in ways that nobody has seen.
test-long:
	@$(MINUTES)
	.ci/need $(COMPILER) curl:curl wrk:wrk
	MODEL_SEQUENCES=3000 cargo test --locked --test model
	DAMAGE_SECONDS=600 cargo test --locked --test shm damage
	$(BUILD_STATIC)
	REWRITES=2000 ROTATIONS=400 tests/real/reload_under_load.sh $(STATIC)

bench:
	@$(MINUTES)
	.ci/need $(COMPILER)
	benches/run
