# Two commands do all the set-up on a fresh machine: `make export` and `make test`.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PEERS  ?= .venv-peers
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

DATA   ?= ml-latest-small
MODEL  ?=
NAME   ?= $(DATA)-$(or $(MODEL),default)
RUN    ?= runs/$(NAME)
BUNDLE ?= artifacts/$(NAME)
USER_ID ?= 42

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# A stamp file per set of packages: a second run installs nothing again.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.export: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[export]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@# Its pins clash with onnx's; only its protobuf classes are read, and they need none of them.
	$(PIP) --no-deps tritonclient
	@touch $@ $(VENV)/.export $(VENV)/.http $(VENV)/.demo

$(VENV)/.http: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[http]'
	@touch $@

.PHONY: setup
setup: $(VENV)/.dev ## Make .venv with everything that development needs

.PHONY: train
train: $(VENV)/.export ## Train on DATA into runs/: the default preset, or one kind (MODEL=mlp)
	$(BIN)/recsys train --data $(DATA) $(if $(MODEL),--model $(MODEL)) --output $(RUN) --overwrite

.PHONY: export
export: train ## The main job: train, export a bundle, verify it, recommend to one user
	$(BIN)/recsys export $(RUN) --explain --output $(BUNDLE) --overwrite
	@ln -sfn "$(abspath $(BUNDLE))" artifacts/default
	$(BIN)/recsys recommend artifacts/default --user-id $(USER_ID) -k 10
	@echo; echo "Next: make demo"

.PHONY: verify
verify: $(VENV)/.export ## Prove again that the bundle agrees with its torch run
	$(BIN)/recsys verify $(BUNDLE) --run $(RUN)

.PHONY: score
score: $(VENV)/.export ## A night's batch from artifacts/default: lists for all users, scores for all rated pairs
	@test -e artifacts/default || $(MAKE) export
	$(BIN)/recsys recommend artifacts/default --all-users --output artifacts/lists --overwrite
	$(BIN)/python -m zipfile -e recsys/data/embedded/ml-latest-small.zip artifacts
	$(BIN)/recsys score artifacts/default --input artifacts/ml-latest-small/ratings.csv --output artifacts/scores --overwrite

PORT ?= 8000
.PHONY: serve
serve: $(VENV)/.http ## Answer over HTTP from artifacts/default, made first if it is missing (PORT=8000)
	@test -e artifacts/default || $(MAKE) export
	$(BIN)/recsys serve artifacts/default --port $(PORT)

# The packages of the demos in JavaScript; installed again only when their lock changes.
demos/%/node_modules: demos/%/package-lock.json
	ONNXRUNTIME_NODE_INSTALL_CUDA=skip npm ci --prefix demos/$*
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[demo]'
	@touch $@

DEMO_PORT ?= 7860
.PHONY: demo
demo: $(VENV)/.demo ## Show artifacts/default as a page to try, made first if it is missing (DEMO_PORT=7860)
	@test -e artifacts/default || $(MAKE) export
	$(BIN)/recsys demo artifacts/default --port $(DEMO_PORT)

PAGE_PORT ?= 8000
.PHONY: demo-browser
demo-browser: $(VENV)/.export demos/browser/node_modules ## Serve the page that recommends in the browser (PAGE_PORT=8000)
	@test -e $(RUN) || $(MAKE) export
	$(BIN)/recsys export $(RUN) --precision int8 --filtered --variety --explain --output artifacts/browser --overwrite
	$(BIN)/python -m demos.browser.build artifacts/browser demos/browser/dist
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory demos/browser/dist $(PAGE_PORT)

# Tests mostly wait for processes that they start, so there is one more than CPUs. Each may want the memory of a
# browser, so four at most.
TESTS_AT_ONCE := --numprocesses $(shell expr $$(nproc) + 1) --maxprocesses 4 --dist worksteal

.PHONY: test
test: $(VENV)/.dev ## Run the tests
	@# One thread each: threads of several tests that wait for each other while spinning take many times as long.
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TESTS_AT_ONCE) $(PYTEST_ARGS)

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[docs]'
	@touch $@

.PHONY: docs
docs: $(VENV)/.docs ## Build the site of docs/ into build/site; a broken link fails
	$(BIN)/python docs/stage_site.py build/docs
	$(BIN)/zensical build --strict --clean

.PHONY: wheel
wheel: $(VENV)/.dev ## Build the wheel into dist/
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .

.PHONY: test-gpu
test-gpu: $(VENV)/.dev ## Run the tests that need an NVIDIA GPU
	$(BIN)/pytest -m gpu $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style, formatting and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(VENV)/.dev ## Format the code, fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.dev ## Check the types (mypy, strict)
	$(BIN)/mypy

.PHONY: bench
bench: $(PEERS)/.ready ## Run the benchmarks beside their peers; each writes its tables to benchmarks/results/
	@for script in $(filter-out benchmarks/bench_gpu.py,$(wildcard benchmarks/bench_*.py)); do echo "== $$script"; $(PEERS)/bin/python $$script || exit 1; done
	$(PEERS)/bin/python benchmarks/curves.py

# What only benchmarks compare with, beside the project's own packages, so that torch is not installed twice.
$(PEERS)/.ready: benchmarks/peers.txt $(VENV)/.dev
	$(PYTHON) -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > $$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement benchmarks/peers.txt
	@touch $@

.PHONY: bench-quick
bench-quick: export BENCH_RESULTS = build/bench-quick
bench-quick: $(VENV)/.dev ## Measure lists, single queries and training steps in a few rounds, into build/, under five minutes
	$(BIN)/python benchmarks/bench_recommend_graph.py --rounds 3
	$(BIN)/python benchmarks/bench_query.py --items 10000 100000 --rounds 3
	$(BIN)/python benchmarks/bench_filtered.py --rounds 3
	$(BIN)/python benchmarks/bench_training.py --steps 10

.PHONY: bench-gpu
bench-gpu: $(VENV)/.dev ## Measure lists and training steps on an NVIDIA GPU, into benchmarks/results/gpu.md
	$(BIN)/python benchmarks/bench_gpu.py

.PHONY: quality
quality: $(VENV)/.dev ## Measure lists and ratings of every preset again, into docs/quality.md
	$(BIN)/python benchmarks/quality.py

.PHONY: clean
clean: ## Remove runs, bundles, caches and .venv
	rm -rf $(VENV) .venv-serve runs artifacts dist build demos/browser/dist demos/*/node_modules ci-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
