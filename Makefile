# What a newcomer needs: `make run`, `make demo`, `make test`.

VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

# `compat` puts this folder itself on the path, so that `twist` finds the plugin in it.
# Pure Python, since what is compiled would not follow the sources.
INSTALL = PEERPROTO_PURE=1 $(BIN)/pip install --quiet --disable-pip-version-check \
	--config-settings editable_mode=compat --editable

.PHONY: help run demo test lint unit compiled e2e programs bench soak clean

help:
	@echo "make run    start a peer with doc/examples/peers.ini"
	@echo "make demo   pair it with a HAProxy and watch a request arrive"
	@echo "make test   everything that CI runs"
	@echo "make lint unit compiled e2e parts of it"
	@echo "make bench                  how fast it is"
	@echo "make soak                   whether it holds: 10 minutes, or SOAK_SECONDS=…"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python setup.cfg pyproject.toml
	$(INSTALL) .
	@touch $@

$(VENV)/test.stamp: $(BIN)/python setup.cfg pyproject.toml
	$(INSTALL) '.[tls,test,lint]'
	$(BIN)/pip install --quiet --disable-pip-version-check 'setuptools >= 65' wheel
	@touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp
	$(INSTALL) '.[bench]'
	@touch $@

run: $(VENV)/run.stamp
	$(BIN)/twist --log-format=text peers --config doc/examples/peers.ini

demo: $(VENV)/run.stamp
	PATH="$(abspath $(BIN)):$$PATH" doc/examples/demo.sh

test: lint unit compiled e2e

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python doc/draw_states.py --check

unit: $(VENV)/test.stamp
	$(BIN)/python -m twisted.trial tests

# The package with its hot modules compiled by mypyc.
build/compiled: $(VENV)/test.stamp $(shell find peerproto -name '*.py') setup.py
	rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--target build/compiled .
	cd build/compiled && $(abspath $(BIN))/python -c \
		'from peerproto.compiled import COMPILED; assert COMPILED, "nothing was compiled"'
	@touch $@

# The same tests against that.
compiled: build/compiled
	rm -rf build/compiled/tests
	cp -r tests setup.cfg build/compiled
	cd build/compiled && $(abspath $(BIN))/python -m twisted.trial tests

programs:
	@.ci/install-programs

e2e: $(VENV)/test.stamp programs
	$(BIN)/python -m pytest

bench: $(VENV)/bench.stamp programs build/compiled
	$(BIN)/python -m bench

soak: $(VENV)/test.stamp programs
	$(BIN)/python -m pytest -s e2e/soak.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis _trial_temp*
