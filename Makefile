# No logic here: after the build, everything is an `ashlar` subcommand or `cargo xtask`.
.PHONY: cluster test test-ha test-pool test-upgrade test-day-two down build toolchain

# A real Kubernetes cluster in a lab on this machine: system packages, build, node image, lab, cluster, smoke test.
cluster: build
	target/release/ashlar setup
	target/release/ashlar demo up

# Everything that can be checked; `cargo xtask ci --list` shows the stages.
test: toolchain
	cargo xtask ci

# A highly available cluster on three lab hosts, whose API's holder is killed: half an hour, so not part of `make test`.
test-ha: build
	target/release/ashlar setup --tests
	target/release/ashlar image build
	cargo xtask test-ha

# Two clusters of two Kubernetes versions on three lab hosts; one is lost and deleted while the other is written to.
test-pool: build
	target/release/ashlar setup --tests
	target/release/ashlar image build
	target/release/ashlar image build --kubernetes v1.36.3
	cargo xtask test-pool

# A cluster goes from one minor version to the next while its API is written to.
test-upgrade: build
	target/release/ashlar setup --tests
	target/release/ashlar image build
	target/release/ashlar image build --kubernetes v1.36.3
	cargo xtask test-upgrade

# What breaks under a running cluster is mended: a killed QEMU, a hung host, a spoiled disk, a host without power; a host is emptied alive.
test-day-two: build
	target/release/ashlar setup --tests
	target/release/ashlar image build
	cargo xtask test-day-two

# Takes the lab of `make cluster` away with all that is in it; images stay in the cache.
down: build
	target/release/ashlar demo down

build: toolchain
	cargo build --release --package ashlar-app

# What apt cannot give is checked; the C compiler that Rust needs, before there is an `ashlar`, it can.
toolchain:
	@command -v cargo >/dev/null || { echo "error: there is no Rust toolchain: install rustup (https://rustup.rs), then run the same command"; exit 1; }
	@command -v cc >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev; }
