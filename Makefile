# Everything a newcomer needs: `make demo` runs a session, `make test` passes the tests. Each makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: pictures demo demo-train test test-cluster lint types imports unit wheel bench bench-research clean help

help:
	@echo "make demo        a simulated session of 8 h on 13 H100 and 3 H200, in seconds; needs no torch"
	@echo "make demo-train  a real training session on this machine (about 12 minutes on 2 cores)"
	@echo "make test        linters, types, import rules, all tests, and a session from the built wheel"
	@echo "make test-cluster  hold the Kubernetes cluster that KUBECONFIG names to what the executor relies on"
	@echo "make bench       measure speed and memory, and print the table of docs/benchmarks.md"
	@echo "make pictures    draw the pictures of the screen that README and docs show"
	@echo "make bench-research  compare the researchers (an hour and a half on one core; goes on where it was stopped)"

# The program alone is enough for the simulated session; training and development take much more.
$(VENV)/.plain: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.installed: $(VENV)/.plain
	$(BIN)/python -m pip install --quiet -e '.[train,dev]'
	@touch $@

demo: $(VENV)/.plain
	$(BIN)/autoresearch-tui run --executor sim --gpus 13xH100,3xH200 --hours 8 --seed 1 --speed max --plain

demo-train: $(VENV)/.installed
	$(BIN)/autoresearch-tui run --plain --hours 0.19 --seed 1

test: lint types imports unit wheel

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed
	$(BIN)/mypy

imports: $(VENV)/.installed
	$(BIN)/lint-imports

wheel: $(VENV)/.installed
	$(BIN)/python tests/wheel/check_wheel.py

unit: $(VENV)/.installed
	$(BIN)/pytest

test-cluster: $(VENV)/.installed
	@test -n "$$KUBECONFIG" || { echo "set KUBECONFIG to a cluster where deploy/base was applied"; exit 2; }
	AUTORESEARCH_TEST_CLUSTER=1 $(BIN)/pytest -v tests/cluster

bench: $(VENV)/.installed
	$(BIN)/python -m bench

pictures: $(VENV)/.installed
	$(BIN)/python -m bench.pictures

bench-research: $(VENV)/.installed
	$(BIN)/python -m bench.research --jobs 2 --resume build/bench-research

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
