# make run   sets up everything and goes from a dump to served answers
# make test  sets up everything and passes the tests

# The first Python that TensorFlow 2.21 has a wheel for (3.11 to 3.13); PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
PURE := cluster ingest serving trainers wordloom.py
# Where the tests look for real data; without it they say that they skip.
export WORDLOOM_DATA

.PHONY: install run test test-all bench lint lock clean

install: $(READY)

$(READY): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Wordloom needs Python 3.11, 3.12 or 3.13 (TensorFlow 2.21 has no wheel for others); install one or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "Wordloom needs Python 3.11, 3.12 or 3.13 (TensorFlow 2.21 has no wheel for others), not the $$($(PYTHON) -V 2>&1) of '$(PYTHON)'." >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) -V) (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

run: $(READY)
	@$(BIN)/wordloom run $(if $(SERVE),--serve) $(ARGS)

test: $(READY)
	@env -u WORDLOOM_DATA $(BIN)/python -m pytest -m "not real_data and not slow and not operate and not browser" --durations=8 $(ARGS)

test-all: $(READY)
	@$(BIN)/python -m pytest -m "real_data or slow or operate or browser" --durations=12 $(ARGS)

bench: $(READY)
	@$(BIN)/python -m tests.benchmarks.main_job $(ARGS)
	@$(BIN)/python -m tests.benchmarks.serving $(filter --json,$(ARGS))

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy --strict $(PURE)

# Pins with hashes, for every supported Python and, of the same versions, for the images of deploy/Dockerfile; no
# registry's address is written.
COMPILE := uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-emit-index-url --quiet \
	--custom-compile-command "make lock"
IMAGE := --constraint requirements.lock --python-platform x86_64-manylinux_2_28 --no-annotate
lock:
	$(COMPILE) --extra dev --universal --output-file requirements.lock
	$(COMPILE) $(IMAGE) --output-file deploy/cpu.lock
	$(COMPILE) $(IMAGE) --extra gpu --output-file deploy/gpu.lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
