# Needs only Python 3.11+, make and the package registry. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test check pytest fuzz bench soak docs clean

help: ## Show what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "batchrunner needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: $(STAMP) ## Set up, run the sample job on the simulator, export a CSV and show it
	$(BIN)/batchrunner run jobs/quickstart.jsonl --model claude-haiku-4-5 --simulate
	$(BIN)/batchrunner export jobs/quickstart.jsonl -o jobs/quickstart.csv --force
	@echo; head -n 6 jobs/quickstart.csv | cut -c 1-150

check: $(STAMP) ## Lint, format and type checks, and known vulnerabilities of what is pinned
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	VENV=$(VENV) .ci/audit

pytest: $(STAMP) ## The tests alone
	$(BIN)/pytest -q -n auto --dist worksteal

test: check pytest ## Set up and run every check

# Atheris has no wheel for every Python and system: where it cannot be installed this says so and does nothing.
FUZZ_S ?= 600
fuzz: $(STAMP) ## Fuzz the reading of job files for ten minutes (FUZZ_S=60: one)
	-@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3,<4'
	mkdir -p .fuzz && cd .fuzz && PYTHONPATH=../tests ../$(BIN)/python -m faults.fuzz_import $(FUZZ_S)

# Each prints a table beside its yardstick; without --short it does the long form (docs/performance.md).
BENCHMARKS := throughput import_lines full_store resume export_rows errors claims
bench: $(STAMP) ## Measure everything in the short form, each beside its yardstick
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --short || exit 1; done

soak: $(STAMP) ## Hours of kills, power cuts and a long run, for the table of docs/reliability.md (PARTS="kills --share 0.1")
	PYTHONPATH=tests $(BIN)/python -m faults.soak $(PARTS)
	$(if $(PARTS),,$(BIN)/pytest -q -m soak)
	$(if $(PARTS),,$(MAKE) fuzz)

docs: $(STAMP) ## Renew the parts of docs/errors.md that are generated from the data
	$(BIN)/python docs/errors_page.py

clean: ## Remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz build dist
