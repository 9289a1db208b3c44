# Every target sets up what it needs: from a clean clone, `make demo` or `make test` is enough.
#
#   PYTHON=python3.12 make setup     another interpreter than the first suitable one
#   make test ARGS='-k tour -x'      arguments for pytest
#   make test JOBS=0                 in one process, in order

PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
JOBS   ?= 2
ARGS   ?=
FUZZ_EXAMPLES ?= 5000
FUZZ_SECONDS ?= 600
FUZZ_GUESTS ?= 10000
FUZZ_INTERRUPTS ?= 100

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench guest traces screenshots fuzz gdbs tour clean

help: ## say what there is (this)
	@echo 'make ...'
	@sed -n 's/^\([a-z]*\):.*## /  \1 /p' $(MAKEFILE_LIST) | awk '{printf "  %-12s", $$1; $$1 = ""; print $$0}'

setup: $(READY) ## make .venv with lgreplay and its tools

demo: $(READY) ## record a guest that dies, replay it, look into the trace
	@$(BIN)/lgreplay demo $(ARGS)

test: $(READY) ## run the tests
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

check: $(READY) ## format, lint, types, layers and tests: all that CI asks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

bench: $(READY) ## measure: speed of running, recording, replaying, seeking
	@$(BIN)/python -m tests.bench $(ARGS)

guest: ## build the Switcher and the guest images (needs gcc and binutils)
	@$(MAKE) -C hostvm/guest

traces: $(READY) ## record the sample traces anew, each from its recipe
	@$(BIN)/python -m tests.samples $(ARGS)

screenshots: $(READY) ## take the pictures of the full screen anew: README, docs/tui.md, tests
	@$(BIN)/python -m tests.tui.goldens
	@$(BIN)/python -m tests.tui.documented
	@$(BIN)/python -m tests.tui.screenshots

fuzz: $(READY) ## damaged traces, hostile guests, rude debuggers, ^C anywhere, and the property tests with many more examples: an hour or more
	@$(BIN)/python -m tests.fuzz.trace --seconds $(FUZZ_SECONDS)
	@$(BIN)/python -m tests.fuzz.travel
	@$(BIN)/python -m tests.fuzz.hostile --runs $(FUZZ_GUESTS)
	@$(BIN)/python -m tests.fuzz.gdb --seconds $(FUZZ_SECONDS)
	@$(BIN)/python -m tests.fuzz.interrupt --runs $(FUZZ_INTERRUPTS)
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -n $(JOBS) -m hypothesis \
		--hypothesis-profile=fuzz --timeout=0 $(ARGS)

gdbs: $(READY) ## more versions of gdb for the tests, into .gdb
	@for version in 16.3.0.post6 17.2.0.post5 18.1.0.post1; do \
		test -d .gdb/$${version%.0.*} || $(BIN)/python -m pip install -q --no-deps \
			--target .gdb/$${version%.0.*} gdb-for-pwndbg==$$version; \
	done

tour: ## the order in which to read the source
	@cat docs/tour.txt

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The first interpreter that is new enough; one clear line if none is, or if it cannot make environments.
$(READY): pyproject.toml
	@set -e; \
	for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "lgreplay needs Python 3.11 or later$(if $(PYTHON),; $(PYTHON) is not): set PYTHON to one" >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python has no venv module: install it (Debian, Ubuntu: python3-venv)" >&2; exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)
