# Two commands for a fresh machine with Python 3.11 to 3.13: `make quickstart` and `make test`.
SHELL := /bin/bash

.PHONY: setup quickstart monitoring test test-unit lint clean

setup:
	@requirements/install.sh cpu

quickstart: setup
	@.venv/bin/leeway run recipes/quickstart.yaml

monitoring: setup
	@deploy/monitoring/beside.sh

# Whole runs want the machine for themselves; all else runs in two workers.
test: setup
	@.venv/bin/python -m pytest -n 2 --dist worksteal -m "not e2e"
	@.venv/bin/python -m pytest -m e2e tests/e2e

test-unit: setup
	@.venv/bin/python -m pytest -n 2 --dist worksteal tests/unit

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy actors learner sandbox deploy grafana

clean:
	@rm -rf .venv build runs models *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
