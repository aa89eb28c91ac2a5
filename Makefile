# Every verb sets up what it needs: a virtual environment in .venv, from hash-locked requirements.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo dev dev-app dev-user examples test test-node matrix test-quick test-browser test-servers test-deploy soak bench lint format lock clean

help:  ## print these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements/dev.txt pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e client -e .
	@touch $@

setup: $(READY)  ## install everything into .venv (the other verbs do it by themselves)

demo: $(READY)  ## run the main job end to end on real processes: Redis, Mosaic simulator, worker, beat
	@$(BIN)/python -m sandbox.demo

dev: $(READY)  ## keep such a stack running, and print what to paste into an app
	@$(BIN)/python -m sandbox.dev

dev-app: $(READY)  ## add an app to it: ID=bank (ARGS="--notice-url http://…")
	@$(BIN)/python -m sandbox.dev app "$(ID)" $(ARGS)

dev-user: $(READY)  ## add somebody who may sign in: ID=bob PASSWORD=builder
	@$(BIN)/python -m sandbox.dev user "$(ID)" "$(PASSWORD)"

examples: $(READY)  ## run shop, forum and bank (Flask, FastAPI, Django), to click through in a browser
	@$(BIN)/python -m sandbox.web_apps

test: $(READY)  ## run the whole suite on real Redis, SQLite and PostgreSQL, with branch coverage
	@$(BIN)/python -m sandbox.run_tests

matrix: $(READY)  ## the client beside the oldest, some and the newest of redis-py, cryptography, Celery, Flask, Starlette, Django, Python; the worker with the newest
	@$(BIN)/python -m tests.matrix

test-quick: $(READY)  ## what to run while editing: no process and no server is started
	@$(BIN)/python -m pytest -q -n 2 tests/unit

examples/node/node_modules: examples/node/package-lock.json
	cd examples/node && npm ci --silent --no-audit --no-fund
	@touch $@

test-node: $(READY) examples/node/node_modules  ## run the Node example against the real worker (needs Node 20)
	@$(BIN)/python -m pytest -q tests/node

$(READY)-browser: $(READY) requirements/browser.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/browser.txt
	@touch $@

test-browser: $(READY)-browser  ## people at a real browser (needs Debian's chromium); PICTURES=1 draws those of docs/ anew
	@$(BIN)/python -m pytest -q tests/browser

$(READY)-servers: $(READY) requirements/servers.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/servers.txt
	@touch $@

test-servers: $(READY)-servers  ## the example apps under gunicorn (threads, gevent), uWSGI and uvicorn
	@$(BIN)/python -m pytest -q tests/servers

$(READY)-deploy: $(READY) requirements/deploy.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/deploy.txt
	@touch $@

test-deploy: $(READY)-deploy  ## deploy/ by the linters of its formats: hadolint, compose, Kubernetes' schemas, systemd-analyze
	@$(BIN)/python -m pytest -q tests/deploy

soak: $(READY)  ## minutes of life with a bad network (SOAK_MINUTES=10): nothing lost, nothing leaked
	@$(BIN)/python -m pytest -q tests/soak

$(READY)-bench: $(READY) requirements/bench.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

bench: $(READY)-bench  ## measure cost, throughput and latency beside others (ARGS="--quick" for a look)
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(READY)  ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)  ## rewrite the code as ruff likes it
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock:  ## resolve the locked requirements anew (needs uv: UV=/path/to/uv)
	requirements/lock.sh
	@rm -f $(READY)

clean:  ## forget the virtual environment and what tests left behind
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* coverage.xml
