# One command each; every one works from a bare clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PEERS_VENV ?= .venv-peers
PEERS_READY := $(PEERS_VENV)/ready

.PHONY: demo test check bench bench-peers accuracy reproduce clean

demo: $(READY)
	$(BIN)/python examples/demo.py

# Tracing lines makes the tests half as slow again, so coverage is measured where CI is set: .ci/run.
COVERAGE := $(if $(CI),--cov --cov-fail-under=90 --cov-report=term:skip-covered)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(COVERAGE)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/bench.py

# Flags such as PEERS="--only fashion-cnn" or PEERS="--rounds 1 --append".
bench-peers: $(PEERS_READY)
	$(PEERS_VENV)/bin/python benchmarks/bench_peers.py $(PEERS)

accuracy: $(READY)
	$(BIN)/python benchmarks/accuracy.py

reproduce: $(READY)
	$(BIN)/python benchmarks/reproduce.py

clean:
	rm -rf $(VENV) $(PEERS_VENV) .mypy_cache .ruff_cache .pytest_cache .coverage*

# The environment: exact versions from the lock, then this package, editable.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

# The tools that sartor is measured against, and sartor beside them: a full build of torch, 7 GB.
$(PEERS_READY): benchmarks/peers/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r benchmarks/peers/requirements.txt
	$(PEERS_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(PEERS_READY)
