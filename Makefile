# make help lists the targets. Each one first installs what it needs and the machine lacks (.ci/setup).
SHELL := /bin/bash
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where setup puts tools, where rustup puts cargo, and where an ordinary user's PATH does not look.
export PATH := $(CARGO_TARGET_DIR)/tools/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH):/usr/sbin:/sbin

TRIPLE   := $(shell uname -m)-unknown-linux-musl
PLUGINS  := $(notdir $(patsubst %/Cargo.toml,%,$(wildcard plugins/*/Cargo.toml)))
RELEASE  := $(CARGO_TARGET_DIR)/$(TRIPLE)/release
# The binaries alone, for CNI_PATH; the release directory holds much else.
BIN      := $(CARGO_TARGET_DIR)/cni
SUITE    := $(CARGO_TARGET_DIR)/$(TRIPLE)/suite/podwire-conformance
# Where DESTDIR's programs go; container runtimes look there.
CNI_BIN  := /opt/cni/bin
# What make demo shows.
PLUGIN   ?= bridge
# For how long make fuzz runs each target, and which one; all of them if none is named.
MINUTES  ?= 5
TARGET   ?=

.PHONY: help setup build plugins suite demo test bench instructions fuzz miri lint install clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the plugins as static release binaries, into target/cni
	@.ci/setup build
	@$(MAKE) --no-print-directory plugins

demo: ## two pods on a bridge in a lab, step by step (PLUGIN=bridge, bond, ipvlan, macvlan, vlan, vxlan)
	@.ci/setup demo $(if $(filter-out bridge,$(PLUGIN)),guest)
	@$(MAKE) --no-print-directory plugins suite
	@.ci/lab $(SUITE) demo --cni-path $(BIN) $(PLUGIN)

test: ## everything: unit tests, the suite, its guest kernel, real runtimes, the control
	@.ci/setup test
	@$(MAKE) --no-print-directory plugins suite
	@.ci/test $(BIN) $(SUITE) $(TRIPLE)

bench: ## times, processor time and memory of calls, beside the kernel's own work and the reference plugins
	@.ci/setup bench
	@$(MAKE) --no-print-directory plugins suite
	@.ci/lab $(SUITE) bench --cni-path $(BIN) --json $(CARGO_TARGET_DIR)/bench.json \
	  --svg $(or $(SVG),$(CARGO_TARGET_DIR)/bench.svg) --assert

instructions: ## count the instructions of calls and write them down, for CI to compare with
	@.ci/setup instructions
	@$(MAKE) --no-print-directory plugins suite
	@.ci/lab $(SUITE) bench --cni-path $(BIN) --instructions --update --json $(CARGO_TARGET_DIR)/instructions.json

fuzz: ## every reader of input from outside, with made-up input (MINUTES=5 for each, TARGET=bridge for one)
	@.ci/setup fuzz
	@.ci/fuzz $(MINUTES) $(TARGET)

miri: ## the unit tests of what is pure, interpreted, to find undefined behaviour
	@.ci/setup miri
	@.ci/miri

lint: ## formatting, clippy, licences, shell scripts
	@.ci/setup lint
	@.ci/lint

install: build ## the plugins into $(DESTDIR)/opt/cni/bin
	install -d -m 755 "$(DESTDIR)$(CNI_BIN)"
	install -m 755 $(PLUGINS:%=$(BIN)/%) "$(DESTDIR)$(CNI_BIN)"

clean: ## everything that was built and fetched
	rm -rf $(CARGO_TARGET_DIR)

# The two below are for the targets above: they build and install nothing else.
plugins:
	cargo build --locked --release --target $(TRIPLE) $(PLUGINS:%=-p %)
	@mkdir -p $(BIN)
	@install -m 755 $(PLUGINS:%=$(RELEASE)/%) $(BIN)

suite:
	cargo build --locked --profile suite --target $(TRIPLE) -p conformance
