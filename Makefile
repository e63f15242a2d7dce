# `make help` lists the verbs. The first call of any of them makes .venv and installs the locked requirements.
PLAN ?= techniques
PYTHON ?= python3
VENV := .venv
TORCH :=
VERSIONS := locked
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools-ready
WRITERS := $(VENV)/.docs-ready
AUDITORS := $(VENV)/.audit-ready
INSTALL := requirements/install.py
# What a person gives reaches the shell through the environment, as it is: no space, quote, dollar or newline ends it.
GIVEN := PLAN PROFILE SEEDS MINUTES FIRST_SEED DEVICE WORKERS BACKEND TRIALS DATA IMAGE_SIZE TO OUTPUT STYLE SPREAD WIDTH \
	KEEP_WEIGHTS SHARD EXECUTOR ADDRESS ONLY SEED ABLATE_HOME ABLATE_DATA
$(if $(filter-out 1,$(words $(VENV))),$(error VENV=$(VENV): make cannot take a path with spaces here; name another))
$(foreach name,$(GIVEN),$(if $(value $(name)),$(eval override $(name) := $$(value $(name)))$(eval export $(name))))
settings = $(foreach setting,$(SET),--set '$(subst ','\'',$(setting))')

IMAGES := $(if $(DATA),--data "$$DATA") $(if $(IMAGE_SIZE),--image-size "$$IMAGE_SIZE")
COMPUTING := $(if $(PROFILE),--profile "$$PROFILE") $(if $(DEVICE),--device "$$DEVICE") $(if $(WORKERS),--workers "$$WORKERS") \
	$(if $(BACKEND),--backend "$$BACKEND") $(if $(EXECUTOR),--executor "$$EXECUTOR") $(if $(ADDRESS),--address "$$ADDRESS") \
	$(IMAGES) $(settings)
OPTIONS := $(if $(SEEDS),--seeds "$$SEEDS") $(if $(MINUTES),--minutes "$$MINUTES") $(if $(FIRST_SEED),--first-seed "$$FIRST_SEED") $(if $(KEEP_WEIGHTS),--keep-weights "$$KEEP_WEIGHTS") $(if $(SHARD),--shard "$$SHARD") $(COMPUTING)
TUNING := $(if $(TRIALS),--trials "$$TRIALS") $(COMPUTING)
RETUNING := $(if $(RETUNE),--retune $(if $(TRIALS),--trials "$$TRIALS"))
ADOPTING := $(IMAGES)

.DEFAULT_GOAL := help
.PHONY: help ablate tune tune-ablate foundations plan report export ui services test test-slow test-all test-gpu test-browser check pictures \
	bench gpu-proof validate torture results docs test-wheel audit lock clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables of ablate and plan: PLAN=$(PLAN) PROFILE=smoke|quick|full SEEDS=n|adaptive|open"
	@echo "  MINUTES=n (in place of SEEDS: as many as fit)"
	@echo "  FIRST_SEED=n DEVICE=cpu|cuda WORKERS=n BACKEND=auto|kernels|torch"
	@echo "  KEEP_WEIGHTS=best|all (files of weights: of each arm's best seed on validation images, or of every run)"
	@echo "  EXECUTOR=ray ADDRESS=auto|host:port (a Ray cluster; without ADDRESS one is started here)"
	@echo "  SHARD=2/4 (the second of four shares of the seeds; ablate merge brings output folders together)"
	@echo "  RETUNE=1 (of PLAN=techniques: also a learning rate found for each arm, and both verdicts side by side)"
	@echo "  TRIALS=n (of each study of tune and of RETUNE)"
	@echo "  DATA=folder or archive, cifar10, cifar100 or synthetic (or ABLATE_DATA)  IMAGE_SIZE=32 (resizes)  SET=\"dropout.p=0.3 ...\"  ABLATE_HOME=output folder (out)"
	@echo "Of export: PLAN=$(PLAN) TO=latex|markdown|csv|pdf|svg STYLE=rows|matrix|statements SPREAD=std|interval WIDTH=inches OUTPUT=file"
	@echo "Of the installation: TORCH=auto|cpu|cuda (auto: CUDA where there is an NVIDIA driver)  PYTHON=python3.12  VENV=.venv"

ablate: $(READY) ## run a plan's missing trainings and write its report
	@$(BIN)/ablate run "$$PLAN" $(RETUNING) $(OPTIONS)

tune: $(READY) ## search learning rates, then regularisation at the best one, on validation images
	@$(BIN)/ablate tune learning-rate $(TUNING)
	@$(BIN)/ablate adopt learning-rate --replace $(ADOPTING)
	@$(BIN)/ablate tune regularization --baseline learning-rate $(TUNING)
	@$(BIN)/ablate adopt regularization --as tuned --replace $(ADOPTING)

tune-ablate: tune ## tune, then put the winner to the test on fresh seeds: against the notebook's, and without each part
	@$(BIN)/ablate tune retune --baseline tuned $(TUNING)
	@$(BIN)/ablate adopt retune --as tuned-retuned --replace $(ADOPTING)
	@$(BIN)/ablate run tuned --baseline tuned-retuned $(OPTIONS)

foundations: $(READY) ## the small experiments behind the techniques, each checked against what is known
	@$(BIN)/ablate foundations

plan: $(READY) ## show what a plan would train, for how long, and what it could tell
	@$(BIN)/ablate plan "$$PLAN" $(RETUNING) $(OPTIONS)

report: $(READY) ## write the reports again from what is in the store
	@$(BIN)/ablate report

export: $(READY) ## a plan's table or figure for a paper (TO=latex, or see below)
	@$(BIN)/ablate export "$$PLAN" $(if $(TO),--to "$$TO") $(if $(OUTPUT),--output "$$OUTPUT") $(if $(STYLE),--style "$$STYLE") \
		$(if $(SPREAD),--spread "$$SPREAD") $(if $(WIDTH),--width "$$WIDTH")

ui: $(READY) ## browse every run in MLflow on 127.0.0.1
	@$(BIN)/ablate ui

services: $(READY) ## PostgreSQL and an MLflow server on 127.0.0.1, to try what several machines share (Ctrl-C stops both)
	@$(BIN)/ablate services

test: $(TOOLS) ## run the fast tests, on all cores
	@$(BIN)/pytest -n auto --dist worksteal

test-slow: $(TOOLS) ## run the slow tests too
	@$(BIN)/pytest -n auto --dist worksteal -m "not exhaustive and not gpu and not browser"

test-all: $(TOOLS) ## run the exhaustive tests too, one after the other
	@$(BIN)/pytest -m "not gpu and not browser"

test-gpu: $(TOOLS) ## prove the CUDA path, on a GPU
	@$(BIN)/pytest -m gpu tests/gpu

test-browser: $(TOOLS) ## open every page in Chromium (CHROMIUM=path; AXE=axe.min.js, HTML_VALIDATE=command: checks more)
	@$(BIN)/pytest -m browser tests/browser

check: $(TOOLS) ## lint, formatting, types, and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports

docs: $(WRITERS) ## build the documentation, as a site in out/site that needs no network
	@PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir "$(abspath $(or $(ABLATE_HOME),out))/site"
	@echo "Written to $(or $(ABLATE_HOME),out)/site/index.html"

pictures: $(TOOLS) ## take the README's pictures of the report that make ablate wrote (CHROMIUM=path)
	@$(BIN)/python docs/pictures.py

# Needs torch, torchvision, NumPy and Pillow alone: where Python has them already, as on a borrowed GPU machine without a
# network, nothing is installed.
bench: ## images per second beside the notebook's own loop (MINUTES=n; on a GPU it ends by itself in nine)
	@python=$(BIN)/python; \
	if [ ! -e $(READY) ]; then \
		if $(PYTHON) -c "import torch, torchvision" 2> /dev/null; then python=$(PYTHON); \
		else $(MAKE) --no-print-directory $(READY); fi; \
	fi; \
	$$python -m benchmarks.throughput $(if $(DEVICE),--device "$$DEVICE") $(if $(WORKERS),--workers "$$WORKERS") \
		$(if $(DATA),--data "$$DATA") $(if $(MINUTES),--minutes "$$MINUTES")

gpu-proof: $(TOOLS) ## prove the way to a GPU on one that a CPU plays: captured and replayed, bit for bit, without a race
	@$(BIN)/python -m benchmarks.gpu_proof

validate: $(READY) ## simulate whether the statistics keep their promises; writes benchmarks/CALIBRATION.md
	@$(BIN)/python -m benchmarks.calibration

torture: $(READY) ## inject faults and bad input by the hundred; writes benchmarks/RELIABILITY.md (MINUTES=9 SEED=n ONLY=kind|memory)
	@$(BIN)/python -m benchmarks.torture $(if $(MINUTES),--minutes "$$MINUTES") $(if $(SEED),--seed "$$SEED") \
		$(if $(ONLY),--only "$$ONLY")

results: $(READY) ## the reference study on real images, as small files in results/, for the documentation
	@$(BIN)/python -m benchmarks.reference $(if $(DATA),--data "$$DATA")
	@$(BIN)/python -m benchmarks.step_cost $(if $(DATA),--data "$$DATA")

# Tests that need no file of this folder's but their own, and files that a wheel could lack: sources of kernels, templates.
# test_origin makes sure that it is the wheel they test.
WHEEL_TESTS := $(addprefix tests/,test_origin.py test_frozen_names.py study/training/kernels study/store reports/wording)

# The wheel's files come before those of this folder, and nothing is installed twice.
test-wheel: $(TOOLS) ## build the wheel; from it, in another folder, run fast tests and a small ablation
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; uv=$(abspath $(BIN))/uv; python=$(abspath $(BIN))/python; \
	"$$uv" build --quiet --python "$$python" --no-build-isolation --wheel --out-dir "$$folder" .; rm -rf build *.egg-info; \
	"$$uv" pip install --quiet --no-deps --target "$$folder/site" "$$folder"/*.whl; \
	cp -R tests pyproject.toml "$$folder"; \
	cd "$$folder"; export PYTHONPATH="$$folder/site" ABLATE_HOME="$$folder/out" TESTED_FOLDER="$$folder/site"; \
	"$$python" -m pytest -p no:cacheprovider -n auto --dist worksteal $(WHEEL_TESTS); \
	"$$python" site/bin/ablate --version; \
	"$$python" site/bin/ablate run levels/dropout --profile smoke --seeds 1 --data synthetic; \
	"$$python" site/bin/ablate report

audit: $(AUDITORS) ## look up known weaknesses of everything that is installed (needs a network)
	@$(BIN)/python requirements/audit.py

lock: $(TOOLS) ## write the lock files anew (UPGRADE=1: with newer versions)
	@$(BIN)/python requirements/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove caches; the environment and out/ with its runs stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the environment too; out/ with its runs stays
	rm -rf $(VENV)

# TORCH chooses a build once; later calls keep it, unless another one is named.
ifneq ($(filter-out $(shell cat $(VENV)/.torch 2>/dev/null),$(TORCH)),)
.PHONY: $(READY)
endif
$(READY): requirements/base.lock requirements/torch.lock requirements/installer.lock $(INSTALL) pyproject.toml
	@chosen=$(or $(TORCH),$(shell cat $(VENV)/.torch 2>/dev/null),auto); \
	$(PYTHON) $(INSTALL) $(VENV) --torch "$$chosen" --versions $(VERSIONS) && echo "$$chosen" > $(VENV)/.torch
	@touch $@

$(TOOLS): $(READY) requirements/developers.lock
	@$(PYTHON) $(INSTALL) $(VENV) --developers --versions $(VERSIONS)
	@touch $@

$(WRITERS): $(TOOLS) requirements/docs.lock
	@$(PYTHON) $(INSTALL) $(VENV) --docs
	@touch $@

$(AUDITORS): $(TOOLS) requirements/audit.lock
	@$(PYTHON) $(INSTALL) $(VENV) --audit
	@touch $@
