# What can be done here: `make` lists it. Every target first makes its environment if it is absent, and refreshes
# it when its constraints or pyproject.toml have changed: .venv (constraints/core.txt), and for test-vision
# .venv-vision (constraints/vision.txt), with all extras, since torchvision needs another torch than the small one of
# the course.
#   PYTHON    the Python that makes the environment
#   PIP_ARGS  more arguments for pip, such as an index with another build of PyTorch
#   CHROMIUM  the browser of test-browser, if it is not found under its usual names
#   ARGS      more arguments for the command behind a target: make course ARGS="--only 01 --fresh"

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
WORKERS ?= 2

# What test-portable runs under which instruction set of this processor (mtlcourse/course/machines.py): all that
# computes under the one that most machines have, a part under the smallest. SETS chooses: make test-portable SETS=sse
SETS ?= avx2 sse
PORTABLE_avx2 := tests/notebooks/test_stored_outputs.py $(addprefix tests/,data encoders figures metrics models safety \
search strategies theory training test_losses.py test_methods.py test_runs.py test_tasks.py)
PORTABLE_sse := $(addprefix tests/,metrics safety search strategies notebooks/test_stored_outputs.py) \
-k "not come_out_again or 02_ or 13_ or 14_"

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
BROWSER_READY := $(VENV)/.browser-ready
VISION := .venv-vision
VISION_READY := $(VISION)/.ready
# What needs extras, or leaves something out without them.
WITH_EXTRAS := tests/extras tests/data/test_mt10.py tests/data/test_sentences.py tests/encoders/test_language.py

# The nets of the course are small: one thread each is faster than several that wait for one another.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help course book test test-portable test-browser test-vision lab notebooks results bench lint

help:
	@echo "make course        run the whole course headlessly, and make its book: build/book/index.html"
	@echo "make book          make that book of what has run, or of stored outputs, without running anything"
	@echo "make test          run every check: lint, types, tests, notebooks"
	@echo "make test-portable check that what computes says the same on a processor with a smaller instruction set"
	@echo "make test-browser  check the book, the report and JupyterLab in Chromium, without a network"
	@echo "make test-vision   check what needs extras: vision, robot, text; in an environment of its own (7 GB)"
	@echo "make lab           open JupyterLab at the first notebook"
	@echo "make notebooks     refresh the stored outputs of the notebooks and their index"
	@echo "make results       refresh the stored sweeps in notebooks/results/"
	@echo "make bench         measure speed against the peers"
	@echo "make lint          ruff and mypy"

course: $(READY)
	@$(RUN) -m mtlcourse course $(ARGS)

book: $(READY)
	@$(RUN) -m mtlcourse.course.book.build

test: lint
	@echo "Testing the package and the notebooks, $(WORKERS) at once."
	@$(RUN) -m pytest --quiet -n $(WORKERS) --dist worksteal $(ARGS)

test-portable: $(READY)
	$(foreach set,$(SETS),$(call portable,$(set)))

define portable
@echo "Testing as a processor limited to $(1) computes, $(WORKERS) at once."
@variables=$$($(RUN) -m mtlcourse.course.machines $(1)) && \
	env $$variables $(RUN) -m pytest --quiet -n $(WORKERS) --dist worksteal $(PORTABLE_$(1)) $(ARGS)

endef

# The book is made anew: what is tested is what the sources say now.
test-browser: $(BROWSER_READY)
	@$(RUN) tests/browser/chromium.py >/dev/null
	@$(RUN) -m mtlcourse.course.book.build
	@echo "Testing in Chromium, $(WORKERS) at once."
	@$(RUN) -m pytest --quiet -n $(WORKERS) --dist worksteal --confcutdir tests/browser tests/browser $(ARGS)

test-vision: $(VISION_READY)
	@echo "Testing what needs extras: backbones and cut models, stored counts, the robot, sentences."
	@$(VISION)/bin/python -m pytest --quiet $(WITH_EXTRAS) $(ARGS)

# JupyterLab refuses root, which is who one is in a container, unless it is told that this is meant.
lab: $(READY)
	@$(RUN) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_start_here.ipynb $(ARGS)

notebooks: $(READY)
	@$(RUN) notebooks/refresh.py $(ARGS)

results: $(READY)
	@$(RUN) notebooks/results/refresh.py $(ARGS)

bench: $(READY)
	@for script in tests/benchmarks/*.py; do echo; echo "$$script"; $(RUN) $$script || exit 1; done

lint: $(READY)
	@echo "Linting, and checking types."
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy --no-error-summary

PYTHON_FITS = $(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)
VENV_FITS = $(shell $(PYTHON) -c 'import ensurepip, venv; print(True)' 2>/dev/null)
NO_PYTHON = "$(PYTHON)" is not a Python 3.11 or newer: install one (Debian and Ubuntu: sudo apt install python3 \
python3-venv, macOS: brew install python, elsewhere: https://www.python.org) or name it, as in make PYTHON=python3.12
NO_VENV = "$(PYTHON)" cannot make virtual environments: install its venv module (Debian and Ubuntu: sudo apt install \
python3-venv) or name another Python, as in make PYTHON=python3.12

$(READY): EXTRAS = dev
$(READY): SIZE = about 2 GB, one to three minutes
$(VISION_READY): EXTRAS = dev,vision,robot,text,timm
$(VISION_READY): BARE = turkish-treebanks
$(VISION_READY): SIZE = about 7 GB, two to five minutes

INSTALL = $(@D)/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
-c $(filter constraints/%,$^) $(PIP_ARGS)

$(BROWSER_READY): $(READY)
	@echo "Adding what drives a browser to $(VENV): 170 MB, only when the constraints change."
	@$(RUN) -m pip install --quiet --no-input --disable-pip-version-check -c constraints/core.txt $(PIP_ARGS) \
		-e ".[browser]" \
		|| { echo "The packages could not be installed: see pip's message above, then run make again."; exit 1; }
	@touch $@

$(READY): constraints/core.txt
$(VISION_READY): constraints/vision.txt
$(READY) $(VISION_READY): pyproject.toml
	$(if $(filter True,$(PYTHON_FITS)),,$(error $(NO_PYTHON)))
	$(if $(filter True,$(VENV_FITS)),,$(error $(NO_VENV)))
	@echo "Setting up the environment $(@D): $(SIZE), only when the constraints change."
	@$(@D)/bin/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear $(@D)
	@$(INSTALL) -e ".[$(EXTRAS)]" $(if $(BARE),&& $(INSTALL) --no-deps $(BARE)) \
		|| { echo "The packages could not be installed: see pip's message above, then run make again."; exit 1; }
	@touch $@
