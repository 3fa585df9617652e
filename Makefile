# What a newcomer needs: `make run`, `make demo`, `make test`. `make help` says what else there is.

VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

# `compat` puts this folder itself on the path, so that `twist` finds the plugin in it.
# Pure Python, since what is compiled would not follow the sources.
INSTALL = PEERPROTO_PURE=1 $(BIN)/pip install --quiet --disable-pip-version-check \
	--config-settings editable_mode=compat --editable

# Whatever it warns of is an error.
APIDOC = $(BIN)/pydoctor --config=doc/pydoctor.ini --quiet

.PHONY: help run demo test lint unit compiled e2e programs bench soak pictures long simulate \
	apidoc coverage wheels tox clean

help:
	@echo "make run    start a peer with doc/examples/peers.ini"
	@echo "make demo   pair it with a HAProxy and watch a request arrive"
	@echo "make test   everything that CI runs"
	@echo "make lint unit compiled e2e parts of it"
	@echo "make programs               get the HAProxies of the end-to-end tests: one of Debian's"
	@echo "                            is installed, others are put into .haproxy"
	@echo "make bench                  how fast it is"
	@echo "make long                   30 reloads of each HAProxy and of peerproto, answers of a million"
	@echo "                            entries, 50 kills of a node with storage, 1,000 power cuts, 2,000"
	@echo "                            cases of HTTP: \`make test\` has 3, and a tenth"
	@echo "make coverage               which lines and branches all tests run"
	@echo "make simulate               a mesh in which everything goes wrong, for ever (or SIMULATE='--seed 7')"
	@echo "make pictures               the pictures in doc/: the dashboard, and the screen of \`peerproto top\`"
	@echo "make apidoc                 the API reference, into build/apidoc"
	@echo "make wheels                 the sdist and a compiled wheel, into dist; both are tried"
	@echo "make tox                    the unit tests with each Python, and with the oldest Twisted"
	@echo "make soak                   whether it holds: 10 minutes, or SOAK_SECONDS=…"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python setup.cfg pyproject.toml
	$(INSTALL) .
	@touch $@

$(VENV)/test.stamp: $(BIN)/python setup.cfg pyproject.toml
	$(INSTALL) '.[tls,http,postgres,terminal,parquet,test,lint]'
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
	$(BIN)/lint-imports
	$(BIN)/python doc/draw_states.py --check
	$(APIDOC)

# At least so many percent of the lines and branches must have been run. Then more runs of the
# simulations than a developer waits for: not watched, which takes three times as long.
COVERED = 97
# What talks to a PostgreSQL server is run with one: by the end-to-end tests alone.
SERVED = peerproto/storage/postgres/*
unit: $(VENV)/test.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m twisted.trial -j2 tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERED) --omit='$(SERVED)'
	PEERPROTO_SIMULATIONS=120 $(BIN)/python -m twisted.trial -j2 tests.simulation

# What the unit tests and the end-to-end tests run together.
coverage: $(VENV)/test.stamp programs
	$(BIN)/coverage erase
	$(BIN)/coverage run -m twisted.trial tests
	$(BIN)/coverage run -m pytest -n 2 --dist loadgroup
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERED)

# One seed after the other, until one fails; that one's shortest steps are shown.
simulate: $(VENV)/test.stamp
	$(BIN)/python -m tests.simulation $(SIMULATE)

# The package with its hot modules compiled by mypyc.
build/compiled: $(VENV)/test.stamp $(shell find peerproto -name '*.py') setup.py
	rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--target build/compiled .
	cd build/compiled && $(abspath $(BIN))/python -c \
		'from peerproto.updates.compiled import COMPILED; assert COMPILED, "nothing was compiled"'
	@touch $@

# The same tests against that, but for the terminal's: of what is compiled, only decode uses anything.
COMPILED_TESTS = $(addprefix tests.,$(filter-out __pycache__ terminal,$(notdir \
	$(patsubst %/,%,$(wildcard tests/*/))))) tests.terminal.test_decode_captures \
	tests.terminal.test_decode_messages $(addprefix tests.,$(basename $(notdir $(wildcard tests/test_*.py))))
compiled: build/compiled
	rm -rf build/compiled/tests
	cp -r README.md doc tests setup.cfg build/compiled
	cd build/compiled && $(abspath $(BIN))/python -m twisted.trial -j2 $(filter-out \
		tests.captures,$(COMPILED_TESTS))

programs: $(VENV)/test.stamp
	@.ci/install-programs
	@PIP="$(abspath $(BIN))/pip" .ci/fetch-haproxies

# Three at a time on two cores: they wait for each other's processes more than for a core.
e2e: $(VENV)/test.stamp programs
	$(BIN)/python -m pytest -n 3 --dist loadgroup

bench: $(VENV)/bench.stamp programs build/compiled
	$(BIN)/python -m bench

soak: $(VENV)/test.stamp programs
	$(BIN)/python -m pytest -s e2e/soak.py

long: $(VENV)/test.stamp programs
	RELOADS=30 CHAOS=20 SAMPLES=500 ENTRIES=1000000 CASES=2000 CUTS=1000 KILLS=50 KEPT=100000 \
		EVERY_HAPROXY=1 \
		$(BIN)/python -m pytest -n 2 e2e/test_pair.py e2e/test_levels.py e2e/test_held_back.py \
		e2e/test_reloads.py e2e/test_old_process.py e2e/test_sum_chaos.py \
		e2e/test_sum_rates.py e2e/test_limits.py \
		e2e/test_http.py::test_schemathesis e2e/test_http.py::test_large_table \
		e2e/test_power_cuts.py e2e/test_dashboard.py::test_large_table \
		e2e/test_storage.py::test_fleet e2e/test_storage.py::test_killed \
		e2e/test_postgres.py::test_killed \
		e2e/test_handover.py::test_soft_finish e2e/test_runtime.py::test_whole_answers \
		e2e/test_export.py::test_bounded_memory
	PEERPROTO_SIMULATIONS=1000 $(BIN)/python -m twisted.trial -j2 tests.simulation.test_sums \
		tests.simulation.test_hub
	DAMAGES=200 $(BIN)/python -m twisted.trial tests.storage.test_damage

# What the README shows of a terminal and of a browser. The end-to-end test of a small mesh takes the
# latter; here they get fewer colours.
pictures: $(VENV)/bench.stamp programs
	$(BIN)/python -m pytest e2e/pictures.py
	PICTURES=build/dashboard $(BIN)/python -m pytest -k test_fleet e2e/test_dashboard.py
	for view in light dark phone; do $(BIN)/python -c 'import sys; from PIL import Image; \
		Image.open(sys.argv[1]).convert("RGB").quantize(128).save(sys.argv[2], optimize=True)' \
		build/dashboard/small-$$view-top.png doc/dashboard-$$view.png; done

apidoc: $(VENV)/test.stamp
	$(APIDOC)

# Each is installed into an empty environment and starts there.
wheels: $(VENV)/test.stamp
	VENV=$(VENV) PYTHON=$(PYTHON) .ci/try-wheels

# No part of `make test`: it is for before a release.
tox: $(VENV)/test.stamp
	VENV=$(VENV) .ci/run-tox $(TOX)

clean:
	rm -rf $(VENV) .haproxy build dist .tox *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis _trial_temp*
