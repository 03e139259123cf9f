# Everything is installed into .venv and node_modules, from locks with hashes, and only
# when a lock or a pyproject.toml has changed since. `make` alone lists the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BUF    ?= node_modules/.bin/buf
GO     ?= go
MVN    ?= mvn
STUBS  := clients/python/src/keyfence/v1
TYPESCRIPT_STUBS := clients/typescript/src/v1/keyfence
# More arguments for pytest or the benchmark: make test ARGS="-k rotate"
ARGS   ?=
# How many processes run the tests. Of two cores each uses a half: tests wait as long as they compute.
WORKERS ?= 4
# The product of `make demo`.
SYSTEM ?= quantumsafe
SEEDS  ?= 2000
FIRST  ?= 0

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes: each would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

PIP_INSTALL := $(BIN)/python -m pip install --quiet --require-hashes
PIP_LOCAL   := $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation
COMPILE     := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
    --no-emit-package keyfence --custom-compile-command "make lock" $(ARGS)
PYTEST      := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
DISTRIBUTIONS := pyproject.toml clients/python/pyproject.toml
# Without npm there is no buf. A user's `make lint` then says so and goes on; CI's fails.
LINT_PROTOS := $(if $(CI)$(wildcard $(BUF))$(shell command -v npm),lint-protos,skip-protos)
TYPED       := service clients/python/src $(wildcard clients/python/tests tests testkit bench tools conformance examples)

## Using it

.PHONY: help
help: ## list the targets
	@awk -f tools/help.awk $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/.runtime ## start the server on 127.0.0.1:50051, its data in ./.keyfence
	@export KEYFENCE_LISTEN="$${KEYFENCE_LISTEN:-127.0.0.1:50051}"; \
	export KEYFENCE_DATA_DIR="$${KEYFENCE_DATA_DIR:-.keyfence}"; \
	export KEYFENCE_BOOTSTRAP_KEYSPACES="$${KEYFENCE_BOOTSTRAP_KEYSPACES-examples/keyspaces/demo.yaml}"; \
	exec $(BIN)/keyfence serve

.PHONY: demo
demo: $(VENV)/.dev ## start a product's application, and print its page's commands (SYSTEM=xquik)
	@exec $(BIN)/python -m examples.products.demo $(SYSTEM)

.PHONY: demo-polyglot
demo-polyglot: $(VENV)/.dev ## have services in three languages refuse a key that is revoked, and print when each did
	@exec $(BIN)/python -m examples.polyglot.demo

.PHONY: install
install: $(VENV)/.dev $(BUF) ## install all that the targets below need

## Testing it

.PHONY: test
test: $(VENV)/.dev ## run the tests, on SQLite and a real PostgreSQL
	$(PYTEST) -m "not slow" $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.dev ## run the slow tests alone
	$(PYTEST) -m slow $(ARGS)

.PHONY: test-all
test-all: $(VENV)/.dev ## run every test
	$(PYTEST) $(ARGS)

# The Go client needs Go alone. Tests that start a server take the command from .venv, if it is there.
.PHONY: test-go
test-go: ## format, vet, lint and test the Go client, with the race detector
ifneq ($(shell command -v $(GO)),)
	@unformatted=$$(gofmt -l clients/go examples/polyglot/go/*.go); [ -z "$$unformatted" ] || { \
	    echo "These files are not formatted. Run gofmt -w on them."; echo "$$unformatted"; exit 1; }
	cd clients/go && $(GO) vet ./... && "$$($(GO) tool -C tools -n staticcheck)" ./...
	cd clients/go && KEYFENCE_COMMAND="$${KEYFENCE_COMMAND-$(wildcard $(CURDIR)/$(BIN)/keyfence)}" $(GO) test -race $(ARGS) ./...
else ifdef CI
	$(error the Go client needs $(GO), which CI must have)
else
	@echo "SKIPPED: the Go client was not tested, since there is no $(GO)."
endif

# The TypeScript client needs Node and npm alone.
.PHONY: test-typescript
test-typescript: ## format, lint, type-check and test the TypeScript client
ifneq ($(and $(shell command -v node),$(shell command -v npm)),)
	KEYFENCE_COMMAND="$${KEYFENCE_COMMAND-$(wildcard $(CURDIR)/$(BIN)/keyfence)}" $(MAKE) -C clients/typescript test
	cd clients/typescript && node_modules/.bin/biome ci ../../examples/polyglot/typescript/deliveries.ts
else ifdef CI
	$(error the TypeScript client needs node and npm, which CI must have)
else
	@echo "SKIPPED: the TypeScript client was not tested, since there is no node or no npm."
endif

# helm comes from Go's module proxy, and stays in .tools. A test that needs it is skipped without Go.
HELM := .tools/helm
.PHONY: test-helm
test-helm: $(VENV)/.dev ## render the Helm chart and check what it makes
ifneq ($(shell command -v $(GO)),)
	@[ -x $(HELM) ] || GOBIN=$(CURDIR)/.tools $(GO) install -ldflags='-s -w' helm.sh/helm/v3/cmd/helm@v3.19.0
	KEYFENCE_HELM=$(CURDIR)/$(HELM) $(BIN)/python -m pytest -q tests/deploy/test_helm.py $(ARGS)
else ifdef CI
	$(error helm needs $(GO), which CI must have)
else
	@echo "SKIPPED: the Helm chart was not rendered, since there is no $(GO) to build helm with."
endif

# It needs Java 17 and Maven alone, and installs the artefacts into Maven's local repository, from
# where the README's project takes them.
.PHONY: test-java
test-java: ## format, compile with every lint, test and install the Java client
ifneq ($(and $(shell command -v java),$(shell command -v $(MVN))),)
	cd clients/java && KEYFENCE_COMMAND="$${KEYFENCE_COMMAND-$(wildcard $(CURDIR)/$(BIN)/keyfence)}" \
	    $(MVN) --batch-mode --no-transfer-progress -Dkeyfence.readme=true $(ARGS) install
else ifdef CI
	$(error the Java client needs java and $(MVN), which CI must have)
else
	@echo "SKIPPED: the Java client was not tested, since there is no java or no $(MVN)."
endif

# The Rust client needs cargo alone.
.PHONY: test-rust
test-rust: ## format, lint and test the Rust client
ifneq ($(shell command -v cargo),)
	KEYFENCE_COMMAND="$${KEYFENCE_COMMAND-$(wildcard $(CURDIR)/$(BIN)/keyfence)}" $(MAKE) -C clients/rust test
else ifdef CI
	$(error the Rust client needs cargo, which CI must have)
else
	@echo "SKIPPED: the Rust client was not tested, since there is no cargo."
endif

.PHONY: simulate
simulate: $(VENV)/.dev ## run many scenarios of trouble on the coherence code (SEEDS=100000, FIRST=0)
	PYTHONPATH=tests $(BIN)/python -m simulation --seeds $(SEEDS) --first $(FIRST) $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## send random requests of every kind of caller to a server (ARGS="--messages 1000000")
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## measure checks against an empty echo, and the fence against its floor
	$(BIN)/python -m bench $(ARGS)

.PHONY: torture
torture: $(VENV)/.dev ## torture real servers, sidecars and clients, for a million probes (half an hour)
	PYTHONPATH=tests:. $(BIN)/python -m fence.torture --probes 1000000 --seconds 120 $(ARGS)

## Checking it

.PHONY: lint
lint: lint-style lint-types lint-imports $(LINT_PROTOS) lint-docker lint-house ## run every linter and type check

.PHONY: lint-style
lint-style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: lint-types
lint-types: $(VENV)/.dev
	$(BIN)/mypy $(TYPED)

.PHONY: lint-imports
lint-imports: $(VENV)/.dev
	$(BIN)/lint-imports

.PHONY: lint-protos
lint-protos: $(BUF)
	$(BUF) lint
	$(BUF) format --diff --exit-code --exclude-path protos/google protos

.PHONY: skip-protos
skip-protos:
	@echo "SKIPPED: the protos were not checked, since buf comes with npm, and there is none."

# NO_MKDOCS_2_WARNING: a notice about other software, which is no warning of the build.
.PHONY: docs
docs: $(VENV)/.dev ## build the documentation as a site in build/site, and fail on any warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: lint-docker
lint-docker: $(VENV)/.dev
	$(BIN)/hadolint Dockerfile

.PHONY: lint-house
lint-house: $(VENV)/.dev
	$(BIN)/python tools/check_house.py

# The model checker is a Java program. Where there is no Java or Maven to fetch and run it,
# it is skipped, and in CI that is an error.
.PHONY: model
model: ## have the model checker judge the fence (ARGS=--long: at larger bounds)
ifneq ($(and $(shell command -v java),$(shell command -v mvn)),)
	$(PYTHON) spec/check.py $(ARGS)
else ifdef CI
	$(error the model needs java and mvn, which CI must have)
else
	@echo "SKIPPED: the model was not checked, since there is no java or no mvn."
endif

.PHONY: format
format: $(VENV)/.dev $(BUF) ## format Python and protos
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BUF) format --write --exclude-path protos/google protos

.PHONY: breaking
breaking: $(BUF) ## fail if the protos break with those of the last release
	@release=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null) || { \
	    echo "NOT COMPARED: this clone has no release tag to compare the protos with."; exit 0; }; \
	rm -rf build/released && mkdir -p build/released; \
	git archive "$$release" protos buf.yaml | tar -x -C build/released; \
	echo "Comparing with $$release"; \
	$(BUF) breaking --against build/released

.PHONY: audit
audit: $(VENV)/.dev ## look for known vulnerabilities in what the server runs on
	$(BIN)/python tools/audit.py requirements/image.txt

## Generating

.PHONY: generate
generate: build/stubs build/stubs-go build/stubs-typescript build/stubs-rust ## generate stubs and REST from the protos, and the sync client from the async one
	rm -f $(STUBS)/*_pb2*.py $(STUBS)/*_pb2*.pyi
	cp build/stubs/keyfence/v1/* $(STUBS)/
	rm -rf clients/go/keyfence/v1 && cp -R build/stubs-go/keyfence/v1 clients/go/keyfence/v1
	rm -rf $(TYPESCRIPT_STUBS) && cp -R build/stubs-typescript/keyfence $(TYPESCRIPT_STUBS)
	rm -rf clients/rust/src/v1 && cp -R build/stubs-rust clients/rust/src/v1
	$(BIN)/python clients/python/tools/generate_sync.py
	$(BIN)/python -m tools.generate_rest

.PHONY: descriptors
descriptors: $(BUF) ## write build/keyfence.v1.binpb, the API as a descriptor set, for clients without stubs
	@mkdir -p build
	$(BUF) build protos --output build/keyfence.v1.binpb

.PHONY: check-generated
check-generated: build/stubs build/stubs-go build/stubs-typescript build/stubs-rust ## fail if what is generated differs from what it is generated from
	@diff --recursive --brief --exclude=__init__.py --exclude=__pycache__ build/stubs/keyfence/v1 $(STUBS) \
	&& diff --recursive --brief build/stubs-go/keyfence/v1 clients/go/keyfence/v1 \
	&& diff --recursive --brief build/stubs-typescript/keyfence $(TYPESCRIPT_STUBS) \
	&& diff --recursive --brief build/stubs-rust clients/rust/src/v1 \
	|| { echo "The stubs differ from the protos. Run: make generate"; exit 1; }
	$(BIN)/python clients/python/tools/generate_sync.py --check
	$(BIN)/python -m tools.generate_rest --check

.PHONY: build/stubs
build/stubs: $(VENV)/.dev $(BUF)
	rm -rf $@
	$(BUF) generate --output $@

# Without Go its stubs are neither generated nor compared, which in CI is an error.
.PHONY: build/stubs-go
build/stubs-go: $(BUF)
	rm -rf $@
ifneq ($(shell command -v $(GO)),)
	$(BUF) generate --template clients/go/buf.gen.yaml --output $@
else ifdef CI
	$(error the stubs of the Go client need $(GO), which CI must have)
else
	mkdir -p $@/keyfence && cp -R clients/go/keyfence/v1 $@/keyfence/v1
	@echo "SKIPPED: the stubs of the Go client, since there is no $(GO)."
endif

# buf comes with npm, so npm is there.
.PHONY: build/stubs-typescript
build/stubs-typescript: $(BUF)
	rm -rf $@
	$(MAKE) -C clients/typescript installed
	$(BUF) generate --template clients/typescript/buf.gen.yaml --output $@

# As for Go.
.PHONY: build/stubs-rust
build/stubs-rust: descriptors
	rm -rf $@
ifneq ($(shell command -v cargo),)
	$(MAKE) -C clients/rust stubs DESCRIPTORS=$(CURDIR)/build/keyfence.v1.binpb OUTPUT=$(CURDIR)/$@
else ifdef CI
	$(error the stubs of the Rust client need cargo, which CI must have)
else
	cp -R clients/rust/src/v1 $@
	@echo "SKIPPED: the stubs of the Rust client, since there is no cargo."
endif

.PHONY: lock
lock: $(VENV)/.dev ## refresh the locks after a change to a pyproject.toml (ARGS=--upgrade: newer versions)
	$(COMPILE) --group build --output-file requirements/build.txt
	$(COMPILE) pyproject.toml --constraint requirements/build.txt --output-file requirements/runtime.txt
	$(COMPILE) pyproject.toml --all-extras --constraint requirements/runtime.txt --output-file requirements/image.txt
	$(COMPILE) pyproject.toml --all-extras --group dev --constraint requirements/image.txt --output-file requirements/dev.txt

.PHONY: check-lock
check-lock: lock
	@git diff --exit-code --stat -- requirements \
	|| { echo "The locks differ from the pyproject.toml files. Run: make lock"; exit 1; }
	@# `make lock` wrote the same locks again, so nothing has to be installed anew.
	@touch $(VENV)/.runtime $(VENV)/.dev

.PHONY: dist
dist: $(VENV)/.dev ## build the wheels of both distributions into dist/
	@rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./clients/python .

.PHONY: sdist
sdist: $(VENV)/.dev ## add the source distributions to dist/
	$(BIN)/python -c "import hatchling.build as b; b.build_sdist('dist')"
	cd clients/python && $(CURDIR)/$(BIN)/python -c "import hatchling.build as b; b.build_sdist('$(CURDIR)/dist')"

# What the container will have: the wheels, and nothing that the tests brought along.
.PHONY: check-dist
check-dist: dist ## install the wheels as the Dockerfile does, and make and check a key with them alone
	@rm -rf build/installed
	@$(PYTHON) -m venv build/installed
	build/installed/bin/python -m pip install --quiet --no-compile --require-hashes -r requirements/image.txt
	build/installed/bin/python -m pip install --quiet --no-deps dist/*.whl
	build/installed/bin/python -m pip check
	cd build && installed/bin/keyfence --version
	$(PYTHON) tools/try_wheels.py build/installed/bin/keyfence

.PHONY: sbom
sbom: check-dist ## write build/sbom.cdx.json, what the container runs on (CycloneDX)
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	    --output-format JSON --output-file build/sbom.cdx.json build/installed/bin/python

.PHONY: clean
clean: ## remove all that was installed, built or cached, but not ./.keyfence
	rm -rf $(VENV) node_modules .tools build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -rf $(addprefix clients/typescript/,node_modules build dist) clients/java/*/target
	rm -rf $(addprefix examples/polyglot/,go/stubs typescript/built typescript/node_modules)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the targets stand on.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Keyfence needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	    echo "Say which one to use, for example: make run PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created requirements/build.txt requirements/runtime.txt $(DISTRIBUTIONS)
	@echo "Installing into $(VENV) what the server runs on. This happens once."
	@$(PIP_INSTALL) -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP_LOCAL) --editable clients/python --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "Installing into $(VENV) what tests and checks need. This happens once."
	@# Python compiles the few modules of these that are used.
	@$(PIP_INSTALL) --no-compile -r requirements/dev.txt
	@touch $@

# Not `npm ci`: it wants a hash for the binary of every platform, and the lock has those of Linux.
node_modules/.bin/buf: package.json package-lock.json
	@command -v npm >/dev/null || { \
	    echo "The protos are checked with buf, which needs npm (or say where a buf 1.75 is: BUF=...)."; exit 1; }
	npm install --no-save --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@
