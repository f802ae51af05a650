# Each target is one call of the speechgate CLI, or of a tool in .venv. "make" or "make help" lists them.
.DEFAULT_GOAL := help
python := .venv/bin/python
speechgate := .venv/bin/speechgate

# The variables that each target takes, from the command line only: a TASK or LANG in the environment means something
# else. A misspelt or misplaced one is an error.
takes/demo := SOURCE FROM_SCRATCH
takes/run := CORPUS SOURCE STAGE STOP_STAGE
takes/train := CORPUS TASK LANG CONF SPARSITY STACK
takes/decode := $(takes/train)
takes/score := CORPUS TASK LANG SPARSITY STACK
takes/sweep := $(takes/train)
takes/report := CORPUS TASK LANG
takes/bench := CORPUS MODEL
goals := $(or $(MAKECMDGOALS),help)
allowed := $(sort $(foreach goal,$(goals),$(takes/$(goal))))
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(filter-out $(allowed) SHELL,$(given))
ifneq ($(unknown),)
  $(error "make $(goals)" does not take $(unknown). It takes: $(or $(allowed),no variables))
endif

# LANG is also the locale, and make gives its command-line variables to every process that it starts. So the value is
# put aside here, and LANG becomes again the locale that make was started in, which $(shell) still has before GNU
# make 4.4; where it has none, the locale is C.UTF-8.
ifeq ($(origin LANG),command line)
  languages := $(LANG)
  unexport LANG
  override LANG := $(or $(filter-out $(languages),$(shell printf %s "$$LANG")),C.UTF-8)
  export LANG
endif
MAKEOVERRIDES :=

recipes := $(patsubst recipes/%/run.sh,%,$(wildcard recipes/*/run.sh))
shell_scripts := $(wildcard .ci/run scripts/*.sh recipes/*.sh recipes/*/run.sh)

option/CONF = $(call text,--conf,$(CONF))
option/CORPUS = $(call text,--corpus,$(CORPUS))
option/FROM_SCRATCH = $(call switch,--from-scratch,$(FROM_SCRATCH))
option/LANG = $(call text,--lang,$(languages))
option/MODEL = $(call text,--model,$(MODEL))
option/SOURCE = $(call text,--source,$(SOURCE))
option/SPARSITY = $(call text,--sparsity,$(SPARSITY))
option/STACK = $(call text,--stack,$(STACK))
option/STAGE = $(call text,--stage,$(STAGE))
option/STOP_STAGE = $(call text,--stop-stage,$(STOP_STAGE))
option/TASK = $(call text,--task,$(TASK))
text = $(if $2,$1 '$2')
switch = $(if $(filter-out 0,$2),$1)
options = $(foreach name,$(filter $(given),$(takes/$@)),$(option/$(name)))

.PHONY: help setup demo run train decode score sweep report bench test smoke lint format docs lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10
	@echo '          (*) [CORPUS=prompts TASK=asr,st LANG=de,fr CONF=NAME SPARSITY=0.3,0.5 STACK=encoder|decoder|both]'

setup: ## make .venv with all of requirements.lock; ends at once when it is there
	@scripts/bootstrap.sh

demo: setup ## the main job, end to end, to a report [SOURCE=auto|apt|tarball|bundled|PATH FROM_SCRATCH=1]
	$(speechgate) demo $(options)

run: corpus := $(or $(CORPUS),prompts)
run: option/CORPUS := # it chooses the script
run: setup ## numbered stages of a recipe [CORPUS=prompts SOURCE=auto STAGE=1 STOP_STAGE=8]
	$(if $(filter $(corpus),$(recipes)),,$(error no recipe for CORPUS=$(corpus); there are: $(recipes)))
	recipes/$(corpus)/run.sh $(options)

train:  ## train a model, or the gates of one (*)
decode: ## write hypotheses (*)
score:  ## WER, CER, BLEU and chrF of the hypotheses (* but CONF)
sweep:  ## train, decode and score at several sparsity targets (*)
report: ## one page of tables, plots and module maps [CORPUS TASK LANG]
bench:  ## time of decoding, dense and gated, beside ESPnet's [MODEL=small | CORPUS=prompts]
train decode score sweep report bench: setup
	$(speechgate) $@ $(options)

test: setup ## run the tests
	$(python) -m pytest

smoke: setup ## train the tiny model of conf/debug on the CPU and compare with its recorded losses
	$(python) -m pytest -m smoke

lint: setup ## check style, types and shell scripts; changes nothing
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy
	$(if $(shell command -v shellcheck),shellcheck --external-sources --source-path=SCRIPTDIR $(shell_scripts),@echo 'shellcheck is not installed: scripts not checked')

format: setup ## put the sources into the style that lint checks
	$(python) -m ruff check --fix
	$(python) -m ruff format

docs: setup ## write docs/cli.md, the reference of the command line, from the CLI itself
	$(python) -m typer speechgate.cli utils docs --name speechgate --output docs/cli.md

lock: setup ## write requirements.lock anew from pyproject.toml
	scripts/lock.sh

clean: ## remove caches and what tools left; data, exp and .venv stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist *.egg-info
	find speechgate tests -name __pycache__ -prune -exec rm -rf {} +
