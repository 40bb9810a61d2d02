# make demo    a bundle of the sample checkpoint: exported, verified, answering, measured
# make test    everything that must pass: format, lint, types, tests, documentation
# make test-android  the app and its core on the JVM, where Maven Central answers
# make test-ios      the Swift package, where a Debian root can be made
# make fast    the tests that take a second or two
# make golden  rewrite the committed answers; read the diff
# make test-real   the real Gemma 3 270M against transformers and its peers (not part of CI)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SAMPLE := tests/sample/checkpoint
BUNDLE := build/sample.bundle

.DEFAULT_GOAL := help
.PHONY: help demo test check golden-sets test-android test-ios fast format golden test-real clean

help:
	@sed -n 's/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST)) | head -8

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old; install Python 3.11 or later, or name one with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv; install it (on Debian: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: $(READY)
	@mkdir -p build
	$(BIN)/gemma-edge export $(SAMPLE) --to onnx,executorch,coreml -o $(BUNDLE) --force
	$(BIN)/gemma-edge verify $(BUNDLE)
	$(BIN)/gemma-edge run $(BUNDLE) "What is the capital of Norway?" --temperature 0
	$(BIN)/gemma-edge bench $(BUNDLE) --prompt-tokens 256
	@echo "The bundle is in $(BUNDLE)"

test: check test-android test-ios

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q

golden-sets: $(READY)
	@sh tests/mobile/golden_sets.sh $(abspath $(BIN))

test-android: golden-sets
	@sh android_demo/ci/test.sh $(BIN)

test-ios: golden-sets
	@ios_demo/ci/test.sh $(abspath $(BIN))

fast: $(READY)
	$(BIN)/pytest -q -m "not slow"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(READY)
	$(BIN)/python tests/rewrite_golden.py

test-real: $(READY)
	@$(MAKE) --no-print-directory -f tests/real/Makefile BIN=$(BIN)
	$(BIN)/pytest -q -s -m real tests/real

clean:
	rm -rf build
