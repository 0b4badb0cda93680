# `make demo` and `make test` set everything up.

# The newest first; `python3` may be any of them. PYTHON=… on the command line overrides the list.
PYTHON ?= python3.14 python3.13 python3.12 python3.11 python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# An idle worker takes tests from a busy one, and a module's shared daemons and databases are rarely created twice.
WORKERS := -n auto --dist worksteal
PYTHON_BENCH ?= python3.12
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/.installed
NPM := cd clients/js && npm install --no-package-lock --no-audit --no-fund --loglevel=error --fetch-timeout=30000 --fetch-retries=1
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo eval-demo test test-unit test-properties test-long test-all chaos fuzz check format bench-queue bench-claim bench-bloat bench-legibility bench-images bench-first-reply docs lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { \
		line = sprintf("  make %-16s", $$1); count = split($$2, words, " "); \
		for (i = 1; i <= count; i++) { \
			if (length(line " " words[i]) > 80) { print line; line = sprintf("%23s", "") } \
			line = line " " words[i] } \
		print line }' $(MAKEFILE_LIST)

install: $(STAMP) ## Create the environment in .venv, from the hash-locked requirements

$(STAMP): requirements-dev.txt pyproject.toml $(wildcard clients/js/package.json)
	@if [ -x $(BIN)/python ]; then exit 0; fi; \
	for python in $(PYTHON); do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
			echo "making the environment in $(VENV) with $$python (a minute or two, once) …"; \
			exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "draftd needs Python 3.11 to 3.14, and found none of: $(PYTHON). Name one: make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@if command -v npm >/dev/null; then $(NPM) || echo "without clients/js/node_modules the tests of JavaScript are skipped"; fi
	@touch $@

demo: $(STAMP) ## Run the demo, from nothing to printed drafts: embedded PostgreSQL, a daemon, sample screenshots (MODEL=… for a real model)
	@$(BIN)/draftd demo

eval-demo: $(STAMP) ## Evaluate the committed cases with stand-ins for model and judge: shows that `draftd eval` works (ARGS="-o DIR")
	@$(BIN)/draftd eval evals/cases --model stand-in --judge stand-in-judge $(ARGS)

test-unit: $(STAMP) ## Run the unit tests alone: no port, no process, no waiting; ten seconds
	$(BIN)/python -m pytest $(or $(ARGS),tests/unit)

test: $(STAMP) ## Run every test but the long ones, on all cores (DRAFTD_TEST_DATABASE_URL takes another PostgreSQL than the one that comes along)
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-properties: $(STAMP) ## Run what `make test` leaves out but chaos and fuzz: properties with 1,000 examples, mutants of the queue, fresh installs, further forms of a case
	$(BIN)/python -m pytest $(WORKERS) -m "(long and not chaos) or hypothesis" --hypothesis-profile=long $(ARGS)

test-long: test-properties ## Run the long tests alone: properties and mutants in number, then chaos and fuzz (SEEDS, MUTANTS)
	$(MAKE) chaos ARGS="-n 2"
	$(MAKE) fuzz ARGS=

test-all: test test-long ## Run everything, an hour or more

chaos: $(STAMP) ## Run the chaos tests at length, an hour or more (SEEDS=1: a quarter of one; `make test` runs a short form of three)
	DRAFTD_TEST_CHAOS_SEEDS=$(or $(SEEDS),20) $(BIN)/python -m pytest tests/chaos -m chaos -v --capture=no -p no:randomly $(ARGS)

fuzz: $(STAMP) ## Decode 31,000 damaged pictures, some minutes (MUTANTS=200000: more; SEED=2: others; `make test` tries 520)
	DRAFTD_TEST_FUZZ_MUTANTS=$(or $(MUTANTS),24000) DRAFTD_TEST_FUZZ_SEED=$(or $(SEED),1) $(BIN)/python -m pytest tests/fuzz \
		-v --capture=no -p no:randomly $(ARGS)

check: $(STAMP) ## Format, lint, types, import contracts, migrations, stale documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_migrations.py
	$(BIN)/python scripts/generate_docs.py --check

format: $(STAMP) ## Format the code and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-queue: $(BENCH_STAMP) ## Compare the queue with other queues, half an hour (ARGS=--quick: 4 minutes; BENCH_DATABASE_URL uses another PostgreSQL)
	@$(BENCH)/bin/python -m benchmarks.queue $(ARGS)

bench-claim: $(STAMP) ## Compare a claim in a full table with one in an empty table, 3 minutes (BENCH_DATABASE_URL likewise)
	@$(BIN)/python -m benchmarks.claim $(ARGS)

bench-bloat: $(STAMP) ## Check whether the tables stay small, 7 minutes (ARGS="--requests 20000 --per-s 500": 1; BENCH_DATABASE_URL likewise)
	@$(BIN)/python -m benchmarks.bloat $(ARGS)

bench-legibility: $(STAMP) ## Measure how legible prepared screenshots are, 2 minutes (ARGS=--sweep: other constants, 12; needs Chromium, tesseract)
	@$(BIN)/python -m benchmarks.legibility $(ARGS)

bench-images: $(STAMP) ## Measure what a screenshot costs compared to plain Pillow, 3 minutes (ARGS=--quick: 1)
	@$(BIN)/python -m benchmarks.images $(ARGS)

bench-first-reply: $(STAMP) ## Compute when the first reply is readable and what a draft takes, a second (ARGS=DIR: from the files answer.txt in it)
	@$(BIN)/python -m benchmarks.first_reply $(ARGS)

$(BENCH_STAMP): requirements-bench.txt pyproject.toml
	@$(PYTHON_BENCH) -c 'import sys; sys.exit(sys.version_info < (3, 12))' \
		|| { echo "one of the compared queues needs Python 3.12 or newer; name one: make PYTHON_BENCH=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@echo "making the environment in $(BENCH) (a minute or two, once) …"
	@$(PYTHON_BENCH) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements-bench.txt
	@$(BENCH)/bin/python -m pip --quiet --disable-pip-version-check install --no-deps --no-build-isolation --editable .
	@touch $@

docs: $(STAMP) ## Update the generated parts of the documentation
	$(BIN)/python scripts/generate_docs.py
	PYTHONPATH=tests $(BIN)/python tests/provider_matrix.py

lock: ## Lock the dependencies again (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --output-file requirements.txt
	uv pip compile pyproject.toml --extra demo --extra eval --extra responses --extra vertex --group dev --constraint requirements.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements-dev.txt
	uv pip compile pyproject.toml --extra demo --group bench --constraint requirements.txt --universal --python-version 3.12 \
		--generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements-bench.txt

clean: ## Remove everything built, the environments included
	rm -rf $(VENV) $(BENCH) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
