# `make help` lists the verbs. The first call of any of them makes .venv and installs the locked requirements.
PLAN ?= techniques
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OPTIONS := $(if $(PROFILE),--profile $(PROFILE)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST_SEED),--first-seed $(FIRST_SEED)) $(if $(DEVICE),--device $(DEVICE)) \
	$(if $(WORKERS),--workers $(WORKERS)) $(if $(DATA),--data $(DATA)) $(foreach setting,$(SET),--set $(setting))

TUNING := $(if $(PROFILE),--profile $(PROFILE)) $(if $(TRIALS),--trials $(TRIALS)) $(if $(DEVICE),--device $(DEVICE)) \
	$(if $(WORKERS),--workers $(WORKERS)) $(if $(DATA),--data $(DATA)) $(foreach setting,$(SET),--set $(setting))
ADOPTING := $(if $(DATA),--data $(DATA))

.DEFAULT_GOAL := help
.PHONY: help ablate tune tune-ablate foundations plan report ui test test-all test-browser check pictures bench validate clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables of ablate and plan: PLAN=$(PLAN) PROFILE=smoke|quick|full SEEDS=n|adaptive|open"
	@echo "  FIRST_SEED=n DEVICE=cpu|cuda WORKERS=n"
	@echo "  TRIALS=n (of each study of tune)"
	@echo "  DATA=folder or archive (or ABLATE_DATA)  SET=\"dropout.p=0.3 ...\"  ABLATE_HOME=output folder (out)"

ablate: $(READY) ## run a plan's missing trainings and write its report
	@$(BIN)/ablate run $(PLAN) $(OPTIONS)

tune: $(READY) ## search learning rates, then regularisation at the best one, on validation images
	@$(BIN)/ablate tune learning-rate $(TUNING)
	@$(BIN)/ablate adopt learning-rate $(ADOPTING)
	@$(BIN)/ablate tune regularization --baseline learning-rate $(TUNING)
	@$(BIN)/ablate adopt regularization --as tuned $(ADOPTING)

tune-ablate: tune ## tune, then put the winner to the test on fresh seeds: against the notebook's, and without each part
	@$(BIN)/ablate tune retune --baseline tuned $(TUNING)
	@$(BIN)/ablate adopt retune --as tuned-retuned $(ADOPTING)
	@$(BIN)/ablate run tuned --baseline tuned-retuned $(OPTIONS)

foundations: $(READY) ## the small experiments behind the techniques, each checked against what is known
	@$(BIN)/ablate foundations

plan: $(READY) ## show what a plan would train, for how long, and what it could tell
	@$(BIN)/ablate plan $(PLAN) $(OPTIONS)

report: $(READY) ## write the reports again from what is in the store
	@$(BIN)/ablate report

ui: $(READY) ## browse every run in MLflow on 127.0.0.1
	@$(BIN)/ablate ui

test: $(READY) ## run the fast tests
	@$(BIN)/pytest -n 2 --dist worksteal

test-all: $(READY) ## run the slow tests too
	@$(BIN)/pytest -m "not gpu and not browser"

test-browser: $(READY) ## open every page in Chromium (CHROMIUM=path; AXE=axe.min.js, HTML_VALIDATE=command: checks more)
	@$(BIN)/pytest -m browser tests/browser

check: $(READY) ## lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

pictures: $(READY) ## take the README's pictures of the report that make ablate wrote (CHROMIUM=path)
	@$(BIN)/python docs/pictures.py

bench: $(READY) ## images per second beside the notebook's own loop
	@$(BIN)/python -m benchmarks.throughput $(if $(DEVICE),--device $(DEVICE)) $(if $(WORKERS),--workers $(WORKERS)) \
		$(if $(DATA),--data $(DATA))

validate: $(READY) ## simulate whether the statistics keep their promises; writes benchmarks/CALIBRATION.md
	@$(BIN)/python -m benchmarks.calibration

clean: ## remove the environment and caches; out/ with its runs stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv installs the lock in seconds; it lives inside the environment that it fills. Compiled here, once, torch and MLflow
# are imported in half the time by every process, also where nothing may be written later.
$(READY): requirements.lock pyproject.toml
	@echo "Installing the requirements into $(VENV) (once; about 6 GB on Linux, where torch brings CUDA) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@
