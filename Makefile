# Two commands do everything: make demo, make test. The first run of either builds .venv from the pinned constraints.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# GPT-2's vocabulary, where a copy lies beside the repository; tiktoken fetches it once otherwise.
export TIKTOKEN_CACHE_DIR ?= $(wildcard $(abspath ../shared/tokenizer))

.PHONY: demo debug docs screenshots check test test-slow test-gpt2 test-peers mutants lint bench bench-engine gpu clean

demo: $(BIN)/.runtime
	$(BIN)/interp why "When Mary and John went to the store, John gave a drink to" --answer " Mary" --over " John" --html report.html

debug: $(BIN)/.debugger
	$(BIN)/interp debug

# The edit loop, under a minute on two cores: quick files of every package.
QUICK := tests/test_architecture.py tests/test_mutations.py \
  $(patsubst %,tests/minigpt/test_%.py,address names tokenizer batch trace sample receipt rows \
    by_hand reference path_meanings conflicts patch_text) \
  $(patsubst %,tests/weights/test_%.py,layouts save config_files damaged_files \
    names_and_vocabularies) \
  $(patsubst %,tests/interp/test_%.py,effects metrics heads prompts ulp) \
  $(patsubst %,tests/interp/debugger/test_%.py,upstream trails interventions two_prompts kept_runs)

check: $(BIN)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile $(QUICK)

# Three workers of one thread each, since one often waits for a browser or another process; the slow
# tests run in one process with all threads, and properties five times as often.
test: $(BIN)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(BIN)/.test
	PROFILE=thorough $(BIN)/python -m pytest -q -m "slow or property"

# The site in build/docs; every lesson runs, a warning is an error.
docs: $(BIN)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -b html . build/docs
	@echo "open build/docs/docs/index.html"

screenshots: $(BIN)/.test
	PICTURES=docs/img $(BIN)/python -m pytest -q tests/interp/debugger/test_debugger_browser.py -k pictures

test-gpt2: $(BIN)/.test
	$(BIN)/interp fetch gpt2
	$(BIN)/python -m pytest -q -m gpt2

# SAELens, dictionary_learning and circuit-tracer in an environment of their own: what they write is
# read the same here, and what they say of a graph is said here.
test-peers: $(BIN)/.test .peers-venv/.done
	$(BIN)/python -m pytest -q -m peers

.peers-venv/.done:
	$(PYTHON) -m venv .peers-venv
	.peers-venv/bin/python -m pip install -q torch==2.13.0 sae-lens==6.54.12 circuit-tracer==0.5.0
	.peers-venv/bin/python -m pip install -q --no-deps dictionary_learning==0.1.0
	touch $@

# Hundreds of small changes of the engine, each against its tests: hours; goes on where it stopped.
# make mutants ARGS="--module minigpt/patch --number 30 --seed 1"
mutants: $(BIN)/.test
	$(BIN)/python -m tests.mutants $(ARGS)

lint: $(BIN)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-engine: $(BIN)/.test
	$(BIN)/python -m benchmarks.forward

# One card, minutes: tables in benchmarks/gpu.
gpu: $(BIN)/.test
	$(BIN)/python -m benchmarks.gpu --out benchmarks/gpu

bench: $(BIN)/.test $(foreach peer,tl2 tl4 nnsight,.bench-venv/$(peer)/.done)
	for workload in forward w1_edges w2_pairs w3_paths w4_neurons w5_cache w6_attribution activation memory latents collate circuits "ioi --greedy" scaling debugger plots table; do $(BIN)/python -m benchmarks.$$workload || exit 1; done

.bench-venv/%/.done: benchmarks/peers/requirements-%.txt
	$(PYTHON) -m venv .bench-venv/$*
	.bench-venv/$*/bin/python -m pip install -q -r $<
	touch $@

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not here: install Python 3.11 or later, or say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/.runtime: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[audit,corpus]"
	touch $@

$(BIN)/.debugger: $(BIN)/.runtime
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[corpus,debugger]"
	touch $@

$(BIN)/.docs: $(BIN)/.runtime
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[corpus,docs,notebook]"
	touch $@

$(BIN)/.test: $(BIN)/.runtime
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test]"
	touch $@

$(BIN)/.lint: $(BIN)/.runtime
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[lint]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
