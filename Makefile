# Every target installs what it needs: uv into .tools, locked dependencies into .venv, the lab's
# binaries into the user's cache folder. CI calls the same targets.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
export UV_PYTHON_DOWNLOADS := never
RUN := $(UV) run --locked --quiet
STAMP := .venv/.synced

.DEFAULT_GOAL := help
.PHONY: help setup binaries fmt check test demo crds dashboards soak faults budgets plots conformance mutations wheel sbom audit clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV): requirements/uv.txt
	@echo "installing uv $(UV_VERSION) into .tools"
	@$(PYTHON) -m venv .tools/uv
	@.tools/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(STAMP): $(UV) pyproject.toml uv.lock
	@echo "installing the locked dependencies into .venv"
	@$(UV) sync --locked --quiet --python $(PYTHON)
	@touch $@

setup: $(STAMP) ## install uv and the locked dependencies

binaries: setup ## find or build the lab's programs (once; cached)
	@$(RUN) fleet-rollout lab binaries

fmt: setup ## format and mend what ruff can
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

check: setup ## format, lint, types, layers, generated files, workflows
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) python -m fleet_rollout_api.crd --check config/crd
	$(RUN) python -m fleet_rollout.faces.dashboards --check config/grafana
	$(RUN) zizmor --offline --quiet --no-progress .github
	$(UV) lock --check

test: binaries ## pass the tests on real parts
	$(RUN) pytest -n 2 -q tests/decide --cov=fleet_rollout.decide --cov-branch --cov-report=term:skip-covered --cov-fail-under=100
	$(RUN) pytest -n 2 --dist worksteal -m "not conformance and not budget" --ignore tests/decide $(ARGS)

demo: binaries ## three clusters, three commits, a canary in each
	@$(RUN) fleet-rollout lab demo $(ARGS)

crds: setup ## write config/crd from the models
	$(RUN) python -m fleet_rollout_api.crd config/crd

dashboards: setup ## write config/grafana from the queries
	$(RUN) python -m fleet_rollout.faces.dashboards config/grafana

soak: binaries ## random commits, faults and restarts for 20 minutes (SECONDS=, SEED=), then every oracle
	$(RUN) python -m tests.soak --seconds=$(or $(SECONDS),1200) $(if $(SEED),--seed=$(SEED)) $(ARGS)

faults: binaries ## spoil every write of every story: kills, lost answers, refusals, stale views, two leaders
	$(RUN) pytest -n 2 -q --dist worksteal tests/stories/test_faults.py --faults-all --faults-seed=$${SEED:-$$RANDOM} $(ARGS)

budgets: binaries ## measure speed and memory against their limits
	$(RUN) python -m tests.budgets $(ARGS)

plots: setup ## write docs/performance.md from what budgets has measured
	$(RUN) python -m tests.budgets.plots

conformance: binaries ## compare our engine with real Flagger, and run whole analyses
	$(RUN) pytest -n 2 --dist loadfile -m conformance $(ARGS)

mutations: binaries ## drop safeguards from a copy of the source: a test fails for each
	$(RUN) python -m tests.mutations $(ARGS)

wheel: setup ## build the wheel twice from the last commit: equal bytes, in build/wheel
	@scripts/wheel.sh $(UV)

sbom: setup ## write what the service is made of (CycloneDX), with hashes, to build/sbom.json
	@mkdir -p build
	$(UV) export --locked --quiet --no-dev --no-emit-project --format cyclonedx1.5 --output-file build/sbom.json > /dev/null
	@$(RUN) python scripts/sbom.py build/sbom.json

audit: setup ## ask osv.dev for known vulnerabilities of what is locked (needs the internet)
	$(UV) audit --locked --preview-features audit-command $(ARGS)

clean: ## remove what the targets above made here (not the cache)
	rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
