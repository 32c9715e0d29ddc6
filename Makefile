# Two commands do everything: `make demo` and `make test`. Neither needs anything but Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.installed-bench
DEMO := demo
# More tests at a time than processors: some wait for other processes, and most but the core's do.
CORE_JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(8, os.cpu_count() + 1))')
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(8, os.cpu_count() + 3))')
FAULT_PAYOUTS ?= 2000
SOAK_MINUTES ?= 15
# Tests start hundreds of processes; each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
CORE := tests/workers/record $(filter-out %_pairs.py,$(wildcard tests/workers/test_*.py))

.PHONY: demo test check crash faults soak clean bench bench-files docs

# The simulator only, in a folder of its own, whatever is set up here besides.
demo: $(STAMP)
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@PAYBATCH_DATABASE_URL=sqlite:///$(DEMO)/paybatch.db $(BIN)/paybatch run examples/payroll.csv \
	    --account sandbox --yes -o $(DEMO)/payroll.results.csv; \
	code=$$?; echo "Exit code $$code."; \
	echo "5 is right here: the example has lines that are made to fail, and two for a person."; \
	test $$code -eq 5

# The core under branch coverage first; the rest without, because measuring takes its time.
test: $(STAMP) check
	$(BIN)/pytest -n $(CORE_JOBS) $(CORE) --cov --cov-report=term:skip-covered
	$(BIN)/pytest -n $(JOBS) tests $(addprefix --ignore ,$(CORE))

# Pairs of every kind of fault at the crash points, not of one of each class: about an hour.
crash: $(STAMP)
	$(BIN)/pytest -n $(JOBS) tests/workers/test_crash_pairs.py --all-kinds --timeout 0

# A cluster of real processes under every kind of fault, 2,000 payouts each: about an hour.
faults: $(STAMP)
	$(BIN)/pytest tests/faults -s --fault-payouts $(FAULT_PAYOUTS)

# All faults at once, batch after batch.
soak: $(STAMP)
	$(BIN)/pytest tests/faults -s -k for_long --fault-minutes $(SOAK_MINUTES)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tables that are made from the code.
docs: $(STAMP)
	$(BIN)/python docs/write.py

# Payouts a second beside other ways to do the same work, with what each costs: half an hour, in which
# the machine should have nothing else to do. Needs the programs of PostgreSQL and Redis, not servers.
bench: $(STAMP) $(BENCH_STAMP)
	$(BIN)/python -m benchmarks.throughput

# Every command with files of up to a million rows, beside bare pandas and COPY. Needs the programs of
# PostgreSQL; a server of its own is started.
bench-files: $(STAMP)
	$(BIN)/python -m benchmarks.files

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $(STAMP)

$(BENCH_STAMP): benchmarks/requirements.lock $(STAMP)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r benchmarks/requirements.lock
	@touch $@

clean:
	rm -rf .venv $(DEMO) .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
