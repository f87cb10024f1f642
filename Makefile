# Acme's commands. PYTHON=python3.13 takes another Python for a new .venv.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: help run test install requirements lint types check docs screenshots bench flood clean
.PHONY: db-upgrade backup restore export import

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' Makefile | expand -t 20

run: .venv/run  ## serve on 127.0.0.1:5000 (PORT= HOST= WORKERS= CERT= KEY=)
	@exec $(BIN)/python serve.py

test: .venv/dev  ## all tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 test.py tests

install: .venv/dev  ## .venv with everything that development needs

requirements: .venv/dev  ## pin what the .in files ask for, with hashes (UPGRADE=all, UPGRADE="flask jinja2")
	$(PIN) requirements.in --output-file requirements.txt
	$(PIN) requirements-dev.in --output-file requirements-dev.txt
	$(PIN) bench/requirements.in --output-file bench/requirements.txt

# for all Pythons from 3.11 and all platforms at once; versions stay as they are unless UPGRADE names them
PIN = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-strip-extras --custom-compile-command "make requirements" \
	$(if $(filter all,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package ,$(UPGRADE)))

lint: .venv/dev  ## style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev  ## types (mypy, strict)
	$(BIN)/mypy

check: lint types test  ## lint, types and tests: what a commit must pass

docs: .venv/dev  ## generate docs/routes.md from the declarations of the routes
	@$(BIN)/python -m docs.routes

screenshots: .venv/dev  ## pictures of the front end, in screenshots/ and docs/screenshot.png
	$(BIN)/python -m pytest tests/test_browser.py -k appearance
	cp screenshots/stuff-light-1000.png docs/screenshot.png

bench: .venv/dev .venv-bench/bench  ## how fast it is beside its peers (QUICK=1: a first look)
	.venv-bench/bin/python bench/bench.py

flood: .venv/dev  ## what clients with a token feel while others sign in as fast as they can
	$(BIN)/python bench/flood.py

# the database of make run, unless ACME_DATABASE names another
DB = ACME_DATABASE=$${ACME_DATABASE:-sqlite:///acme.db} $(BIN)/flask --app ./app.py db
FILE = acme-$(shell date -u +%Y%m%dT%H%M%SZ).backup

db-upgrade: .venv/run  ## bring the database to the schema of this Acme
	@$(DB) upgrade

backup: .venv/run  ## copy the database to FILE=, while servers run
	@$(DB) backup "$(FILE)"

restore: .venv/run  ## bring the copy FILE= back, into an empty database
	@$(DB) restore "$(FILE)"

export: .venv/run  ## write users and stuff to FILE=, to move to another engine
	@$(DB) export "$(FILE)"

import: .venv/run  ## read what make export wrote to FILE=, into an empty database
	@$(DB) import "$(FILE)"

clean:  ## remove what was installed and cached, but neither secrets nor data
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# the virtual environments, for running, for development and for benchmarks
PIP_INSTALL = pip install --quiet --disable-pip-version-check --require-hashes

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Acme needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP_INSTALL) -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

.venv-bench/bench: bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/$(PIP_INSTALL) -r bench/requirements.txt
	@touch $@
