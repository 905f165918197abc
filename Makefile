# SPDX-License-Identifier: Apache-2.0
# Every step a person or CI takes. `make help` lists them. Packages that a target needs are
# installed with apt when they are missing; the Rust toolchain is given by the machine.

CARGO ?= cargo
CLANG_FORMAT ?= clang-format-19
export CLANG ?= clang-19
# What a failed test says must not be hidden behind the frames that it was called from.
export RUST_BACKTRACE = 0

# The CNI plugin runs on hosts whose libc nobody chose: it is linked static.
ARCH := $(shell uname -m)
CNI_TARGET := $(ARCH)-unknown-linux-gnu
CNI_BUILD = RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --quiet \
	--target $(CNI_TARGET) --no-default-features --bin culvert-cni

LAB = target/debug/culvert-lab
PLACE ?= n1

C_SOURCES = $(wildcard bpf/*.c bpf/lib/*.h)
ROOT_ONLY = @test "$$(id -u)" -eq 0 || { \
	echo "error: \`make $@\` loads programs into the kernel and needs root; try \`sudo make $@\`" >&2; \
	exit 1; }

.DEFAULT_GOAL := help
.PHONY: help build cni check test test-kernel test-lab test-upgrade test-upgrade-vm test-vm bench \
	demo lab-up lab-shell lab-down helm-check fmt vmlinux docs deps-build deps-test deps-lab deps-vm deps-vmlinux

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps-build:
	@scripts/install-deps build

deps-test:
	@scripts/install-deps build test

deps-lab: deps-test
	@scripts/fetch-promtool

deps-vm:
	@scripts/install-deps build test vm

deps-vmlinux:
	@scripts/install-deps vmlinux

build: export CULVERT_REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
build: deps-build ## Build release binaries: the agent, and the CNI plugin static
	$(CARGO) build --locked --release --bin culvert
	$(CNI_BUILD) --release
	@echo "target/release/culvert"
	@echo "target/$(CNI_TARGET)/release/culvert-cni"

cni: deps-build
	$(CNI_BUILD)

check: deps-build ## Formats, lints, import directions, and the BPF objects for arm64
	$(CARGO) fmt --check
	$(CLANG_FORMAT) --dry-run --Werror $(C_SOURCES)
	$(CARGO) clippy --locked --quiet --all-targets -- -D warnings
	$(CARGO) clippy --locked --quiet --no-default-features --bin culvert-cni -- -D warnings
	scripts/check-arm64
	$(CARGO) test --locked --quiet --test imports

# The VM matrix runs before the other tests: cargo's own result lines close the run.
test: deps-vm deps-lab check cni helm-check ## Everything: check, unit, kernel, lab and VM tests (root)
	$(ROOT_ONLY)
	$(CARGO) test --locked --no-run
	$(MAKE) --no-print-directory test-vm
	$(CARGO) test --locked --no-fail-fast

test-kernel: deps-test ## One-packet and wire tests against this machine's kernel (root)
	$(ROOT_ONLY)
	$(CARGO) test --locked --test kernel

test-lab: deps-lab ## The two-node lab (root)
	$(ROOT_ONLY)
	$(CARGO) test --locked --test lab

test-upgrade: deps-test ## 100 upgrades and downgrades in each mode under load, between two map layouts (root)
	$(ROOT_ONLY)
	other=$$(scripts/other-layout) && CULVERT_OTHER=$$other CULVERT_RESTARTS=100 \
		$(CARGO) test --locked --test lab -- --nocapture restarts_under_load

test-upgrade-vm: deps-vm cni ## The same by Geneve, which this kernel may lack, on Linux 6.12 in QEMU
	other=$$(scripts/other-layout) && CULVERT_OTHER=$$other CULVERT_RESTARTS=100 \
		CULVERT_VM_SECONDS=7200 CULVERT_VM_ONLY="lab lose_no_connection_by_geneve" \
		$(CARGO) test --locked --test vm -- --nocapture linux_6_12
	@grep "restarts in" target/vm/6.12.log

test-vm: deps-vm cni ## Boot older and newer Debian kernels in QEMU and test there
	$(CARGO) test --locked --test vm -- --nocapture

bench: deps-test ## Measure; prints peers' numbers beside and writes target/bench.tsv (root)
	$(ROOT_ONLY)
	bench/run

demo: deps-test ## Raise a two-node cluster of namespaces and reach its services (root)
	$(ROOT_ONLY)
	$(CARGO) build --locked --quiet --bins
	$(LAB) demo

lab-up: deps-test ## Raise the lab and leave it running (root)
	$(ROOT_ONLY)
	$(CARGO) build --locked --quiet --bins
	$(LAB) up

lab-shell: ## A shell in a node or pod of the running lab, PLACE=n1 (root)
	$(ROOT_ONLY)
	$(LAB) shell $(PLACE)

lab-down: ## Take the lab down (root)
	$(ROOT_ONLY)
	$(LAB) down

helm-check: ## Lint and render the chart, once there is one
	@if test -e helm/culvert/Chart.yaml; then scripts/helm-check; \
	else echo "helm-check: there is no chart in helm/ yet"; fi

fmt: deps-build ## Format Rust and C
	$(CARGO) fmt
	$(CLANG_FORMAT) -i $(C_SOURCES)

vmlinux: deps-vmlinux ## Regenerate the pinned vmlinux.h of both architectures
	vmlinux/generate

docs: deps-build ## Write docs/reference from the program, and the API documentation
	$(CARGO) run --locked --quiet --bin culvert -- docs
	$(CARGO) doc --locked --no-deps --document-private-items
