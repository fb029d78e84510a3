# Everything runs in .venv, which is made once from pyproject.toml and constraints.txt.

PYTHON   ?= python3
PIP_ARGS ?=
VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
SETS     ?= --all --only-firm
RESULTS  := benchmarks/results
# One process a core and one more, as some tests wait; one thread each. A module's tests stay together: they share fixtures.
PYTEST   := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 ))) --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help venv postgresql demo browser test check audit fuzz format bench bench-sets bench-all bench-scaling bench-certificates bench-batch bench-load bench-pages openapi reference performance supported examples screenshots clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## make the environment (PYTHON=python3.12 and PIP_ARGS=… choose interpreter and pip options)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "netproof needs Python 3.11 or newer, but $(PYTHON) is %d.%d; name another: make PYTHON=python3.11 …" \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## start the service, verify two small networks over HTTP, print the evidence
	$(BIN)/python examples/demo.py

browser: $(READY) ## install a browser for the dashboard's tests, where there is none
	@$(BIN)/python -m tests.dashboard.chromium --quiet \
	|| { test "$$(id -u)" = 0 && apt-get -qq update \
	  && apt-get install -y -qq --no-install-recommends chromium libatomic1 >/dev/null; } \
	|| $(BIN)/python -m playwright install chromium || true
	@$(BIN)/python -m tests.dashboard.chromium || true

test: browser ## run the test suite
	$(PYTEST)

check: browser ## what CI runs: format, lint, types, known vulnerabilities, then the test suite
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py
	$(PYTEST) --hypothesis-profile=repeatable

audit: $(READY) ## ask an advisory service about the versions that constraints.txt names
	$(BIN)/python .ci/audit.py

fuzz: $(READY) ## generated requests at length, then 10,000 broken uploads (FUZZ_ARGS='--files 1000 --seed 2')
	$(BIN)/python -m pytest -q -m slow tests/service/test_schema.py
	$(BIN)/python -m benchmarks.fuzz_uploads $(FUZZ_ARGS)

postgresql: ## install PostgreSQL for the tests, where that takes no question: as root, on Debian, with a network
	@ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || command -v pg_ctl >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && mkdir -p /etc/postgresql-common \
	  && echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf \
	  && { timeout 60 apt-get install -y -qq --no-install-recommends postgresql >/dev/null 2>&1 \
	    || { timeout 60 apt-get update -qq && timeout 90 apt-get install -y -qq --no-install-recommends postgresql; } \
	    >/dev/null 2>&1; }; } \
	  || echo "PostgreSQL is not here and cannot be installed; its tests are skipped"

format: $(READY) ## format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## measure the ladder and the service path; results go to benchmarks/results
	$(BIN)/python -m benchmarks.first_slice

bench-sets: $(READY) ## run sets of instances with known answers (SETS='acasxu mnist_fc --limit-seconds 20' chooses)
	$(BIN)/python -m benchmarks.sets $(SETS)

bench-all: $(READY) ## the whole table: every instance with a firm answer, two at a time; goes on where it stopped
	$(BIN)/python -m benchmarks.sets --all --only-firm --jobs 2 --resume $(RESULTS)/all.csv $(BENCH_ARGS)

bench-scaling: $(READY) ## how cost grows: batch size, unstable ReLUs, cores, open cells
	$(BIN)/python -m benchmarks.scaling $(BENCH_ARGS)

bench-certificates: $(READY) ## what certificates cost to write and to check, and how many robust verdicts have one
	$(BIN)/python -m benchmarks.certificates $(BENCH_ARGS)

bench-batch: $(READY) ## a batch by HTTP against netproof audit, and the same killed, cancelled and resumed in the middle
	$(BIN)/python -m benchmarks.batch --kill $(BENCH_ARGS)

bench-load: $(READY) ## 200 clients for a minute: requests a second, milliseconds, CPU and memory (BENCH_ARGS='--minutes 10')
	$(BIN)/python -m benchmarks.load $(BENCH_ARGS)

bench-pages: browser ## the page of a batch of 10,000 items in a browser: first paint, scrolling, filtering (BENCH_ARGS)
	$(BIN)/python -m benchmarks.pages $(BENCH_ARGS)

openapi: $(READY) ## write openapi.yaml from the app
	$(BIN)/python -m service.openapi > $@.tmp && mv $@.tmp openapi.yaml

reference: $(READY) ## write docs/cli.md, docs/rest.md and docs/python-api.md from the program
	$(BIN)/python -m netproof.reference docs

performance: $(READY) ## write the tables and the picture of docs/performance.md from benchmarks/measured
	$(BIN)/python -m benchmarks.performance $(BENCH_ARGS)

supported: $(READY) ## write docs/supported.md from the table of operators
	$(BIN)/python -m networks.supported > $@.tmp && mv $@.tmp docs/supported.md

examples: $(READY) ## train the example networks anew
	$(BIN)/python examples/train.py

screenshots: browser ## take pictures of the dashboard into screenshots/ (SHOTS=--readme: those of the README)
	$(BIN)/python -m examples.screenshots $(SHOTS)

clean: ## remove the environment and everything that was generated
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
