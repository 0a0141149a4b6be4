# Two commands on a fresh machine do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable

.PHONY: demo test soak lint audit release setup clean

demo: $(VENV)/.demo
	$(BIN)/vitalwire demo $(ARGS)

test: setup
	$(BIN)/pytest tests -m "not system and not soak" --numprocesses auto
	$(BIN)/pytest tests -m system --numprocesses 2 --dist loadfile --durations 12

soak: setup
	VITALWIRE_SOAK_ROUNDS=20 $(BIN)/pytest tests/system -k kill
	$(BIN)/pytest tests -m soak
	VITALWIRE_FUZZ_S=600 $(BIN)/pytest tests/soak
	$(BIN)/python -m bench faults --minutes 10 --seed 1 --json | $(BIN)/python -c \
	  'import json, sys; report = json.load(sys.stdin); print(report); sys.exit(report["lost"] + report["duplicates"] > 0)'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: setup
	$(BIN)/python docker/audit.py

release: setup
	sh docker/release.sh

setup: $(VENV)/.test

$(BIN)/uv: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	touch $@

$(VENV)/.demo: $(BIN)/uv pyproject.toml constraints.txt
	$(INSTALL) '.[demo]'
	touch $@

$(VENV)/.test: $(BIN)/uv pyproject.toml constraints.txt
	$(INSTALL) '.[bench]'
	sh docker/browser.sh
	sh docker/mosquitto.sh
	sh docker/postgres.sh
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist *.egg-info
