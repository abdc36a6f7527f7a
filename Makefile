# One command each; every one works from a bare clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PEERS_VENV ?= .venv-peers
PEERS_READY := $(PEERS_VENV)/ready

.PHONY: demo test test-timm native-test native-aarch64 check bench bench-peers accuracy reproduce torture fuzz audit wheel clean

demo: $(READY)
	$(BIN)/python examples/demo.py

# Tracing lines makes the tests half as slow again, so coverage is measured where CI is set: .ci/run.
COVERAGE := $(if $(CI),--cov --cov-fail-under=90 --cov-report=term:skip-covered)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(COVERAGE)

# With a full build of torch, which torchvision fits; the wheels for processors alone have none.
TIMM_TESTS := tests/models/test_library_networks.py tests/models/test_libraries.py tests/api/test_timm.py
test-timm: $(PEERS_READY)
	OMP_NUM_THREADS=1 $(PEERS_VENV)/bin/python -m pytest $(TIMM_TESTS)

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

# The compiled engine under sanitizers, which end the process at the first wrong byte, race or
# overflow; FUZZ_SECONDS each.
FUZZ_SECONDS ?= 60
SANITIZERS ?= address undefined thread
native-test: $(READY)
	for one in $(SANITIZERS); do BIN=$(BIN) native/tests/sanitized.sh $$one $(FUZZ_SECONDS) || exit 1; done

# For 64-bit ARM, under qemu: g++-aarch64-linux-gnu and qemu-user.
native-aarch64: $(READY)
	native/tests/aarch64.sh

# One wheel for this Python; from Python 3.12 on, one for all that follow.
wheel: $(READY)
	$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .

# Ten minutes of kills, full disks and damaged files; flags such as TORTURE="--minutes 60 --seed 7".
torture: $(READY)
	$(BIN)/python benchmarks/torture.py --page docs/torture.md $(TORTURE)

# Inputs of strangers, by the thousand; flags such as FUZZ="--seconds 600 --only checkpoint".
fuzz: $(READY)
	$(BIN)/python -m pip install -qq --disable-pip-version-check 'atheris>=3.0,<4' || \
	  echo "atheris could not be installed: inputs are changed blindly" >&2
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py $(FUZZ)

# Known faults and licences of all that sartor depends on.
audit: $(READY)
	$(BIN)/python benchmarks/audit.py

clean:
	rm -rf build $(VENV) $(PEERS_VENV) .mypy_cache .ruff_cache .pytest_cache .coverage*

# The engine `native`, whose sources the environment builds; without a compiler it does without.
NATIVE := native/CMakeLists.txt $(wildcard native/*.cpp native/*/*.cpp native/*/*/*.cpp native/*/*.h)

# The environment: exact versions from the lock, then this package, editable.
$(READY): requirements.lock pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

# The tools that sartor is measured against, and sartor beside them: a full build of torch, 7 GB.
$(PEERS_READY): benchmarks/peers/requirements.txt pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r benchmarks/peers/requirements.txt
	$(PEERS_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(PEERS_READY)
