# Acme's commands. PYTHON=python3.13 creates .venv with another Python.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: help run reload test install requirements lint types check docs client screenshots bench bench-check ha worst flood mutants mutants-sql clean
.PHONY: db-upgrade backup drill restore export import doctor

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' Makefile | expand -t 20

run: .venv/run  ## serve on 127.0.0.1:5000 (PORT= HOST= WORKERS= CERT= KEY=)
	@exec $(BIN)/python serve.py

reload: .venv/run  ## let servers of this folder take new code, configuration and certificates, without a pause
	@$(BIN)/python reload.py

test: .venv/dev  ## run all tests
	$(BIN)/python -m pytest --numprocesses auto test.py tests

install: .venv/dev  ## create .venv with all packages for development

requirements: .venv/dev  ## pin what the .in files ask for, with hashes (UPGRADE=all, UPGRADE="flask jinja2")
	$(PIN) requirements.in --output-file requirements.txt
	$(PIN) requirements-dev.in --output-file requirements-dev.txt
	$(PIN) bench/requirements.in --output-file bench/requirements.txt
	$(PIN) deploy/ha/requirements.in --output-file deploy/ha/requirements.txt

# for all Pythons from 3.11 and all platforms at once; versions stay as they are unless UPGRADE names them
PIN = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-strip-extras --custom-compile-command "make requirements" \
	$(if $(filter all,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package ,$(UPGRADE)))

lint: .venv/dev  ## check style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev  ## check types (mypy, strict)
	$(BIN)/mypy

check: lint types test  ## lint, types and tests: a commit must pass

docs: .venv/dev  ## generate docs/routes.md from the declarations of the routes
	@$(BIN)/python -m docs.routes

client: node_modules/.package-lock.json  ## generate acme.d.ts, the types of www/acme.js (takes Node.js with npm)
	node_modules/.bin/tsc

screenshots: .venv/dev  ## take screenshots of the front end, in screenshots/ and docs/screenshot.png
	SCREENSHOTS=all $(BIN)/python -m pytest tests/browser -k fit_the_screen
	cp screenshots/stuff-light-1280.png docs/screenshot.png

bench: .venv/dev .venv-bench/bench  ## measure speed beside the peers (QUICK=1: a first look)
	.venv-bench/bin/python bench/bench.py

bench-check: .venv/dev  ## count the instructions of requests; fails if one takes 3 % more (UPDATE=1: commit to that; METRICS=1: what metrics take)
	$(BIN)/python bench/instructions.py

ha: .venv/run  ## let machines of a cluster die under load, as root; fails if anything is lost (QUICK=1: one round, ROUNDS=2)
	@$(BIN)/python -m bench.ha.missing
	@$(MAKE) --no-print-directory .venv-ha/ha
	@$(BIN)/python -m bench.ha

worst: .venv/dev  ## measure the worst requests; fails over 0.5 s of CPU or 50 MiB
	$(BIN)/python bench/worst.py

flood: .venv/dev  ## measure requests with a token during floods of expensive ones
	$(BIN)/python bench/flood.py

mutants: .venv/dev  ## change the code in one place at a time, and list what the tests do not notice (MODULE=security/totp.py)
	$(BIN)/mutmut run $(if $(MODULE),"$(subst /,.,$(MODULE:.py=)).*") | tail -n 1
	$(BIN)/mutmut results

mutants-sql: .venv/dev  ## the same for the SQL of the stores (QUERY=rotate_session)
	$(BIN)/python bench/mutants_sql.py $(QUERY)

# on the database of make run
DB = $(BIN)/flask --app ./app.py db
FILE = acme-$(shell date -u +%Y%m%dT%H%M%SZ).backup

db-upgrade: .venv/run  ## apply missing migrations to the database
	@$(DB) upgrade

backup: .venv/run  ## back up the database to FILE=, while servers run (KEEP=14: delete older ones, named by date)
	@$(DB) backup $(if $(KEEP),--keep "$(KEEP)") "$(FILE)"

drill: .venv/run  ## restore the newest backup, or FILE=, beside the database, and check it
	@$(DB) drill "$(if $(filter file,$(origin FILE)),.,$(FILE))"

doctor: .venv/run  ## check settings, database and backups (FILE=, their folder); status 1: warnings, 2: errors
	@$(BIN)/flask --app ./app.py doctor --backups "$(if $(filter file,$(origin FILE)),.,$(FILE))"

restore: .venv/run  ## restore the backup FILE= into an empty database
	@$(DB) restore "$(FILE)"

export: .venv/run  ## export users and stuff to FILE=, to move to another engine
	@$(DB) export "$(FILE)"

import: .venv/run  ## import the export FILE= into an empty database
	@$(DB) import "$(FILE)"

clean:  ## remove installed and cached files, but neither secrets nor data
	rm -rf .venv .venv-bench .venv-ha node_modules mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
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

.venv-ha/ha: deploy/ha/requirements.txt
	$(PYTHON) -m venv .venv-ha
	.venv-ha/bin/$(PIP_INSTALL) -r deploy/ha/requirements.txt
	@touch $@

# the tools for the JavaScript client, as package-lock.json pins them
node_modules/.package-lock.json: package.json package-lock.json
	@command -v npm >/dev/null || { echo "This needs npm: sudo apt-get install npm" >&2; exit 1; }
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
