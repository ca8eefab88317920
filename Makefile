# MetIA: the two commands are `make up` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMPS := .cache/stamps
PYTEST := $(BIN)/python -m pytest

RUNTIME_PACKAGES := python3 python3-venv nginx-light orthanc orthanc-dicomweb ca-certificates
TEST_PACKAGES := dcmtk dicom3tools chromium postgresql redis-server rabbitmq-server fonts-dejavu-core poppler-utils

.PHONY: help setup setup-dev up test lint test-docker bench clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: setup ## Set up everything and run the whole system (viewer, API, worker, Orthanc)
	./metia up

setup: $(STAMPS)/packages $(STAMPS)/python $(STAMPS)/viewer ## Install what running needs

setup-dev: setup $(STAMPS)/packages-dev $(STAMPS)/python-dev ## Install what testing needs

test: setup-dev lint ## Set up everything and run all tests
	cd ohif-extension && npm test
	$(PYTEST) -n 2 -m "not docker and not browser"
	$(PYTEST) -m browser

lint: setup-dev ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	cd ohif-extension && npm run check

test-docker: setup-dev ## Build and run the containers, and test them (needs a Docker engine)
	$(PYTEST) -m docker --timeout 3600

bench: setup-dev ## Measure what the documentation states
	$(BIN)/python -m benchmarks.run

clean: ## Remove everything that set-up and tests made, but no data
	rm -rf .venv .cache ohif-extension/node_modules ohif-extension/dist test-artefacts

$(STAMPS):
	mkdir -p $@

# Debian starts a server as it installs it; ours run on ports of their own, so the
# system-wide ones are switched off where they were not there before.
$(STAMPS)/packages: | $(STAMPS)
	PACKAGES="$(RUNTIME_PACKAGES) $$(command -v npm >/dev/null || echo 'nodejs npm')" \
	  SERVERS="orthanc nginx" bash install-packages.sh
	touch $@

$(STAMPS)/packages-dev: $(STAMPS)/packages
	PACKAGES="$(TEST_PACKAGES)" SERVERS="postgresql redis-server rabbitmq-server" bash install-packages.sh
	touch $@

# Torch first: any other package that wants it must find the pinned one.
$(STAMPS)/python: requirements.txt $(STAMPS)/packages
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(STAMPS)/python-dev: requirements-dev.txt requirements-postgresql.txt $(STAMPS)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

VIEWER_SOURCES := $(shell find ohif-extension -type f -not -path '*/node_modules/*' -not -path '*/dist/*')
$(STAMPS)/viewer: $(VIEWER_SOURCES) | $(STAMPS) $(STAMPS)/packages
	cd ohif-extension && npm ci --no-audit --no-fund --loglevel=error && npm run build
	touch $@
