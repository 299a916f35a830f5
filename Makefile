# Every target does its own set-up: `make demo` and `make test` work on a fresh clone.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Compiled modules are kept, so that only the first start is slow.
unexport PYTHONDONTWRITEBYTECODE

DEMO := train-demo-output
STUDY = $(BIN)/spatialvlm study --config samples/train_demo/train.yaml --data $(DEMO)/run --general $(DEMO)/blocks/general \
	--jobs 2 --questions 2000 --baseline blind:$(DEMO)/run
IMAGE ?= spatialvlm:latest
IMAGE_ARGS ?=

.PHONY: help setup setup-all demo train-demo train-studies test lint format bench flink-up flink-demo flink-down image lock clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the core in .venv, without torch
	@deploy/setup.sh "$(VENV)" "$(PYTHON)"

setup-all: ## the core and every extra in .venv, for tests and development
	@deploy/setup.sh "$(VENV)" "$(PYTHON)" all

demo: setup ## run the job on samples/ into demo-output/ and show what came out
	$(BIN)/spatialvlm generate --input samples/manifest.parquet --output demo-output --preset sample --overwrite
	$(BIN)/python samples/show.py demo-output

train-demo: setup-all ## a small world: pictures, job, two trainings, and what they learned; a quarter of an hour
	rm -rf $(DEMO)
	$(BIN)/python -m samples.blocks $(DEMO)/blocks --pictures 3000 --general 1500 --questions 48
	$(BIN)/spatialvlm generate --input $(DEMO)/blocks/manifest.parquet --output $(DEMO)/run --preset sample --store-images \
		--config samples/train_demo/job.yaml
	$(STUDY) samples/train_demo/study.yaml --baseline majority:$(DEMO)/run --baseline samples/blocks_base --output $(DEMO)/study

train-studies: setup-all ## what of the training matters: the packaged studies on what train-demo made; an hour
	for name in spatial_share vision noise data_size; do $(STUDY) $$name --output $(DEMO)/$$name || exit 1; done
	$(STUDY) rounding --set model.weights=samples/blocks_spatial --set data.held_out=0.03 --set steps=800 --output $(DEMO)/rounding

test: setup-all ## all tests
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup-all ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup-all ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-all ## every benchmark that needs no GPU
	@for name in accuracy lifting qa_synthesis overhead fetching report_size shuffle; do \
		echo "== benchmarks/$$name.py"; $(BIN)/python -m benchmarks.$$name || exit 1; done

flink-up: ## a Flink session cluster on this machine: two task managers, job server, worker pool
	@deploy/setup.sh "$(VENV)" "$(PYTHON)" flink
	$(PYTHON) deploy/flink/cluster.py up --python $(BIN)/python

flink-demo: demo ## the demo's job on that cluster, into flink-output/, and whether its tables are the same
	$(BIN)/spatialvlm generate --input samples/manifest.parquet --output flink-output --preset sample --overwrite \
		--shared-filesystem $$($(PYTHON) deploy/flink/cluster.py options)
	$(BIN)/python deploy/flink/same_tables.py demo-output flink-output

flink-down: ## end that cluster
	$(PYTHON) deploy/flink/cluster.py down

image: ## the image for Dataflow, Flink and Flex Templates; IMAGE=name:tag, IMAGE_ARGS=--build-arg …
	docker build --file deploy/docker/Dockerfile --tag "$(IMAGE)" $(IMAGE_ARGS) .

lock: ## write constraints.txt and deploy/tensorflow.txt anew from the newest versions that setup.py allows
	@deploy/setup.sh "$(VENV)" "$(PYTHON)" lock

clean: ## remove what was built, but not the environment
	rm -rf demo-output train-demo-output flink-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
