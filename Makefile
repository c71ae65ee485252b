# Headrace's commands. Each installs first what is missing: `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
STACK := $(PYTHON) -m deploy.local
WORKERS := 2
PLAN := --workers $(WORKERS) $(if $(SERVERS_ONLY),--servers-only)
CODE := schemas producers streams workers runtime deploy scripts examples tests benchmarks
# Tests mostly wait, so two processes share the cores, each with servers of its own: not those that the environment names.
PARALLEL := $(if $(HEADRACE_KAFKA),,--numprocesses 2 --no-loadscope-reorder)
# MEASURE=1 has coverage.py watch a stage's processes; `make quality` looks at what all stages left.
PYTEST := $(if $(MEASURE),COVERAGE_FILE=$(CURDIR)/var/coverage/data )$(PYTHON) -m $(if $(MEASURE),coverage run -m )pytest
QUALITY := $(PYTHON) scripts/test_coverage.py --json var/quality.json $(if $(MUTANTS),--mutants $(MUTANTS))
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
LOCK := var/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header

.PHONY: help setup demo up down test unit integration e2e load faults zoo coverage quality bench bench-gate lint check
.PHONY: tools security workflow image simulate lock clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: system packages, .venv, Kafka.
	@scripts/setup

demo: setup ## Fine-tune, generate and evaluate on a stack of its own; KEEP=1 leaves it up.
	@$(if $(KEEP),$(STACK) up $(PLAN))
	@$(STACK) run $(PLAN) -- $(PYTHON) -m examples.demo

up: setup ## Start the stack in the background: SERVERS_ONLY=1, WORKERS=2. Writes var/stack.env.
	@$(STACK) up $(PLAN)

down: ## Stop the stack; its data stay.
	@[ ! -x $(PYTHON) ] || $(STACK) down

test: setup ## Run every test, unit to acceptance: ARGS="-k admission".
	@$(PYTHON) -m pytest tests $(PARALLEL) $(ARGS)

# The stages of the pipeline: together they are `make test`.
unit: setup ## Run the tests that need no server.
	@$(PYTEST) tests/unit tests/simulation $(ARGS)

integration: setup ## Run the tests of parts with real servers.
	@$(PYTEST) tests/integration $(PARALLEL) $(ARGS)

e2e: setup ## Run the tests of the whole stack, with its processes, signals and faults.
	@$(PYTEST) tests/acceptance $(PARALLEL) $(ARGS)

load: setup ## Run the tests under load.
	@$(PYTEST) tests/load $(ARGS)

faults: setup ## Run schedules of faults, a JSON line each: SEEDS=0..99.
	@$(PYTHON) -m tests.acceptance.faults --seeds $(or $(SEEDS),0..9)

zoo: setup ## Plant bugs, one after the other, and see whether the fault schedules catch them.
	@$(PYTHON) -m tests.acceptance.faults --zoo

coverage: setup $(if $(MUTANTS),var/tools/made) ## Run every test under coverage, and tell what the tests hold: MUTANTS=200.
	@$(QUALITY) --run -- tests $(PARALLEL) $(ARGS)

quality: setup $(if $(MUTANTS),var/tools/made) ## Tell what the stages run with MEASURE=1 hold; fails below the goals: MUTANTS=200.
	@$(QUALITY) --data var/coverage --gate

# Servers, Headrace and peers share two cores, on every machine: so the figures of two machines can be compared.
bench: setup var/peers/made ## Measure every figure beside its peer's, or one: BENCH=e2e.noop.
	@taskset --cpu-list 0,1 $(STACK) run --servers-only --dir var/bench -- $(PYTHON) -m benchmarks $(BENCH)

bench-gate: setup var/peers/made ## Fail where what `make bench` measured has lost against benchmarks/baseline.json.
	@taskset --cpu-list 0,1 $(STACK) run --servers-only --dir var/bench -- $(PYTHON) -m benchmarks.gate

var/peers/made: benchmarks/peers/requirements.txt
	@var/uv/bin/uv venv --quiet --clear --no-python-downloads --python $(PYTHON) var/peers
	@var/uv/bin/uv pip sync --quiet --python var/peers/bin/python --require-hashes $<
	@touch $@

lint: setup ## Lint, format, types, import contracts, drift of the contract.
	@$(PYTHON) -m ruff check $(CODE)
	@$(PYTHON) -m ruff format --check $(CODE)
	@$(PYTHON) -m mypy $(CODE)
	@.venv/bin/lint-imports
	@$(PYTHON) scripts/contract.py --check

check: lint ## `make lint`, and the unit tests.
	@$(PYTHON) -m pytest tests/unit $(ARGS)

tools: setup var/tools/made ## Install what `make security`, `make workflow` and mutants need, into var/tools.

var/tools/made: requirements/tools.txt
	@var/uv/bin/uv venv --quiet --clear --no-python-downloads --python $(PYTHON) var/tools
	@var/uv/bin/uv pip sync --quiet --python var/tools/bin/python --require-hashes $<
	@touch $@

security: setup var/tools/made ## Look for known holes in the code and in what is locked: ONLINE=1 needs a database.
	@$(PYTHON) scripts/security.py $(if $(ONLINE),--online)

workflow: setup var/tools/made ## Check the pipeline by zizmor, its schemas, and actionlint where Go is.
	@var/tools/bin/zizmor --offline --quiet --pedantic .github
	@.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@.venv/bin/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	@.venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@if command -v go >/dev/null; then go run $(ACTIONLINT); else echo "actionlint did not run: there is no Go" >&2; fi

image: ## Build the images of the dispatcher and the worker: needs Docker.
	@docker compose build

simulate: setup ## Run the delivery of jobs under drawn faults: SEEDS=100000, or SEEDS=A..B.
	@$(PYTHON) -m tests.simulation --seeds $(or $(SEEDS),2000)

lock: setup ## Resolve the requirements and Kafka's jars again, and write their hashes.
	@$(LOCK) requirements/uv.in -o requirements/uv.txt
	@$(LOCK) requirements/dev.in -o requirements/dev.txt
	@$(LOCK) requirements/tools.in -o requirements/tools.txt
	@$(LOCK) benchmarks/peers/requirements.in -o benchmarks/peers/requirements.txt
	@$(LOCK) requirements/runtime.in -c requirements/dev.txt -o requirements/runtime.txt
	@scripts/lock-kafka

clean: ## Stop the stack and remove its data; .venv and Kafka stay.
	@[ ! -x $(PYTHON) ] || $(STACK) clean
