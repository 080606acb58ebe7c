# Everything happens in .venv, which is made once and again only when a lock file changes:
# after the first run nothing here needs the network.
VENV := .venv
BIN := $(VENV)/bin
ROOMS = $(wildcard ledger streams producers consumers deploy)
# The first Python that is new enough. The system's own comes before others: distributions build
# theirs with profile-guided optimisation (DECISIONS.md, Speed).
FIND_PYTHON = for p in $(PYTHON) /usr/bin/python3 python3 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$p; exit 0; fi; done; \
	echo 'certledger needs Python 3.11 or newer with venv and pip; none was found' \
	'(looked for /usr/bin/python3, python3, python3.11 to python3.13, python). Name one: make PYTHON=/path/to/python3' >&2; exit 1
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

export ONLY JSON

.DEFAULT_GOAL := test
.PHONY: demo test lint type bench soak fault fuzz lock clean

demo: $(VENV)/.kafka
	@$(BIN)/certledger demo

# The whole suite waits more than it computes: two processes, a file in one of them, where there are
# two processors. In the order of the files, as the last ones are short.
test: $(VENV)/.dev $(VENV)/.archive
	@$(BIN)/pytest $(or $(ARGS),--numprocesses logical --maxprocesses 2 --dist loadfile --no-loadscope-reorder)

fault: $(VENV)/.dev $(VENV)/.archive
	@$(BIN)/pytest tests/fault $$($(BIN)/python -m tests.fault.table) $(ARGS)

soak: $(VENV)/.dev $(VENV)/.kafka
	@$(BIN)/pytest -m soak tests $(ARGS)

# atheris has wheels for Linux on x86-64 alone, so it is no part of the locks; it comes with hashes too.
fuzz: $(VENV)/.dev
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes \
		--only-binary :all: --target $(VENV)/fuzz --upgrade -r requirements-fuzz.lock
	@PYTHONPATH=$(VENV)/fuzz $(BIN)/python -m tests.fuzz $(or $(SECONDS),60)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: $(VENV)/.dev
	@$(BIN)/mypy --strict $(ROOMS)

bench: $(VENV)/.kafka
	@$(BIN)/python -m bench

# Only this target needs uv, which it installs in a folder of its own.
lock: $(VENV)/.python
	@echo 'locking'
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --quiet install uv
	@$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --upgrade requirements.in -o requirements.lock
	@$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --upgrade -c requirements.lock requirements-dev.in -o requirements-dev.lock

clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@python=$$($(FIND_PYTHON)) && echo "setting up $(VENV) with $$($$python --version)" \
		&& $$python -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: requirements.lock | $(VENV)/.python
	@echo 'installing what certledger runs on'
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

$(VENV)/.package: setup.cfg pyproject.toml $(VENV)/.runtime
	@echo 'installing certledger itself (in place)'
	@$(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.package
	@echo 'installing what the checks need'
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

$(VENV)/.kafka: deploy/embedded/kafka-jars.json $(VENV)/.package
	@$(BIN)/python -m deploy.embedded.kafka
	@touch $@

# For who starts many Kafkas: it takes as long to make as five starts save.
$(VENV)/.archive: deploy/embedded/kafka.py $(VENV)/.kafka
	@$(BIN)/python -m deploy.embedded.kafka --archive
	@touch $@
