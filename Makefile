# Targets, in the order in which they are likely to be wanted. `make help` lists them.

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=

# Where engines look for the monitor when nothing is configured: Podman has a
# list, of which this is the first, and CRI-O searches its PATH. Neither belongs
# to a distribution's package.
PODMAN_DIR ?= /usr/libexec/podman
CRIO_DIR   ?= /usr/local/bin

# Debian keeps these two elsewhere: tools/deb says where.
DOCDIR ?= $(PREFIX)/share/doc/conmon
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions

COMMIT  := $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
LDFLAGS := -s -w -buildid= -X conmon/internal/version.Commit=$(COMMIT) -X conmon/internal/handoff.pile=,sbrk=1

# The monitor's own packages run with the race detector. The tests of the
# whole start real processes and gain nothing from it.
UNIT := ./cmd/... ./internal/...
E2E  := ./tests ./tests/bench

FUZZTIME ?= 20s

# The order of a target's prerequisites counts.
.NOTPARALLEL:

.PHONY: help build build-race helpers test test-long deps unit e2e test-cgroup2 test-cgroup1 test-podman test-crio check fmt fuzz bench demo \
	plot pages cross repro install uninstall podman crio deb clean

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# -- building ---------------------------------------------------------------

# Static, without paths and build ids: the same commit gives the same bytes. The
# commit comes from above, so that a source archive can be built like a clone.
BUILD = CGO_ENABLED=0 GOEXPERIMENT=norandomizedheapbase64 $(GO) build -trimpath -buildvcs=false -overlay "$$(tools/overlay .build)" -ldflags '$(LDFLAGS)'

build: ## bin/conmon
	@mkdir -p bin
	$(BUILD) -o bin/conmon ./cmd/conmon

cross: ## bin/conmon-ARCH for each architecture that is cared for
	@mkdir -p bin
	GOARCH=amd64 $(BUILD) -o bin/conmon-amd64 ./cmd/conmon
	GOARCH=arm64 $(BUILD) -o bin/conmon-arm64 ./cmd/conmon
	GOARCH=riscv64 $(BUILD) -o bin/conmon-riscv64 ./cmd/conmon

repro: build ## build once more elsewhere, with nothing cached, and compare
	@tools/repro $(COMMIT)

# Written by the program itself, so that they cannot say anything else than it.
pages: build ## bin/conmon.1 and the completions of bash, zsh and fish
	@bin/conmon man >bin/conmon.1
	@for shell in bash zsh fish; do bin/conmon completion $$shell >bin/conmon.$$shell || exit 1; done

build-race: ## bin/conmon with the race detector, to run the other tests with
	@mkdir -p bin
	CGO_ENABLED=1 $(GO) build -race -overlay "$$(tools/overlay .build)" -o bin/conmon ./cmd/conmon

# What the tests run beside the monitor; built ahead, since user-mode Linux and
# the namespaces of some tests have no Go toolchain.
helpers:
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/fakeruntime ./tests/fakeruntime

# -- testing ----------------------------------------------------------------

test: deps build unit e2e test-cgroup2 test-cgroup1 test-podman test-crio ## everything, with real runtimes (below 20 minutes on 2 cores)

test-long: export CONMON_TEST_LONG=1
test-long: test ## the same with the full counts

deps: ## install what the tests need, where apt and root are there
	@tests/lib/install-deps

unit: ## tests of the packages alone, with the race detector
	CGO_ENABLED=1 $(GO) test -race $(UNIT)

e2e: helpers ## tests with real runtimes, of bin/conmon as it is
	$(GO) test -count=1 -timeout 60m -p 1 $(E2E)

test-podman: helpers ## tests with Podman, under a systemd of their own
	$(GO) test -count=1 -timeout 60m ./tests/podman

test-crio: helpers ## tests with CRI-O, in user-mode Linux
	$(GO) test -count=1 -timeout 60m ./tests/crio

# -exec hands the test binaries to a script that finds a place where the memory
# controller works: here, or a user-mode Linux.
test-cgroup2: helpers ## tests that need a cgroup v2 memory controller
	$(GO) test -count=1 -p 1 -exec '$(CURDIR)/tests/lib/in-cgroup 2' ./internal/oom
	$(GO) test -count=1 -p 1 -exec '$(CURDIR)/tests/lib/in-cgroup 2' -run Cgroup2 ./tests

test-cgroup1: helpers ## tests that need a cgroup v1 memory controller
	$(GO) test -count=1 -p 1 -exec '$(CURDIR)/tests/lib/in-cgroup 1' ./internal/oom
	$(GO) test -count=1 -p 1 -exec '$(CURDIR)/tests/lib/in-cgroup 1' -run Cgroup1 ./tests

check: ## formatting, vet, staticcheck
	@out=$$(gofmt -l cmd internal tests); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	@out=$$($(GO) tool -modfile=tools/go.mod gofumpt -l cmd internal tests); [ -z "$$out" ] || { echo "gofumpt: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

fmt: ## format the sources
	$(GO) tool -modfile=tools/go.mod gofumpt -w cmd internal tests

fuzz: ## every fuzz target for FUZZTIME (20s)
	@tests/lib/fuzz-all $(FUZZTIME)

bench: deps build ## side by side with Debian's conmon
	$(GO) run ./tests/bench

plot: ## docs/bench.svg from what make bench has measured
	$(GO) run ./tests/bench plot bench.json docs/bench.svg

demo: ## one container by hand, with a word on each step
	@tests/demo.sh

# -- installing -------------------------------------------------------------

install: pages ## binary, manual page, completions and documents, below PREFIX
	install -D -m 755 bin/conmon $(DESTDIR)$(PREFIX)/bin/conmon
	install -D -m 644 bin/conmon.1 $(DESTDIR)$(PREFIX)/share/man/man1/conmon.1
	install -D -m 644 bin/conmon.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/conmon
	install -D -m 644 bin/conmon.zsh $(DESTDIR)$(ZSHDIR)/_conmon
	install -D -m 644 bin/conmon.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/conmon.fish
	install -d $(DESTDIR)$(DOCDIR)/docs
	install -m 644 LICENSE README.md COMPAT.md SECURITY.md CHANGELOG.md $(DESTDIR)$(DOCDIR)
	install -m 644 docs/* $(DESTDIR)$(DOCDIR)/docs

uninstall: ## what install has put there
	rm -f $(DESTDIR)$(PREFIX)/bin/conmon $(DESTDIR)$(PREFIX)/share/man/man1/conmon.1 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/conmon $(DESTDIR)$(ZSHDIR)/_conmon \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/conmon.fish
	rm -rf $(DESTDIR)$(DOCDIR)

podman: build ## where Podman looks first
	install -D -m 755 bin/conmon $(DESTDIR)$(PODMAN_DIR)/conmon

crio: build ## where CRI-O looks first
	install -D -m 755 bin/conmon $(DESTDIR)$(CRIO_DIR)/conmon

deb: ## bin/conmon-go_VERSION_ARCH.deb, in place of Debian's conmon
	@tools/deb '$(MAKE)' bin

clean: ## remove what was built
	rm -rf bin
