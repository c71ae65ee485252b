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
LOCK := var/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header

.PHONY: help setup demo up down test faults zoo bench check simulate lock clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

faults: setup ## Run schedules of faults, a JSON line each: SEEDS=0..99.
	@$(PYTHON) -m tests.acceptance.faults --seeds $(or $(SEEDS),0..9)

zoo: setup ## Plant bugs, one after the other, and see whether the fault schedules catch them.
	@$(PYTHON) -m tests.acceptance.faults --zoo

# Servers, Headrace and peers share two cores, on every machine: so the figures of two machines can be compared.
bench: setup var/peers/made ## Measure every figure beside its peer's, or one: BENCH=e2e.noop.
	@taskset --cpu-list 0,1 $(STACK) run --servers-only --dir var/bench -- $(PYTHON) -m benchmarks $(BENCH)

var/peers/made: benchmarks/peers/requirements.txt
	@var/uv/bin/uv venv --quiet --clear --no-python-downloads --python $(PYTHON) var/peers
	@var/uv/bin/uv pip sync --quiet --python var/peers/bin/python --require-hashes $<
	@touch $@

check: setup ## Lint, format, types, import contracts, drift of the contract, unit tests.
	@$(PYTHON) -m ruff check $(CODE)
	@$(PYTHON) -m ruff format --check $(CODE)
	@$(PYTHON) -m mypy $(CODE)
	@.venv/bin/lint-imports
	@$(PYTHON) scripts/contract.py --check
	@$(PYTHON) -m pytest tests/unit $(ARGS)

simulate: setup ## Run the delivery of jobs under drawn faults: SEEDS=100000, or SEEDS=A..B.
	@$(PYTHON) -m tests.simulation --seeds $(or $(SEEDS),2000)

lock: setup ## Resolve the requirements and Kafka's jars again, and write their hashes.
	@$(LOCK) requirements/uv.in -o requirements/uv.txt
	@$(LOCK) requirements/dev.in -o requirements/dev.txt
	@$(LOCK) benchmarks/peers/requirements.in -o benchmarks/peers/requirements.txt
	@$(LOCK) requirements/runtime.in -c requirements/dev.txt -o requirements/runtime.txt
	@scripts/lock-kafka

clean: ## Stop the stack and remove its data; .venv and Kafka stay.
	@[ ! -x $(PYTHON) ] || $(STACK) clean
