# run, test, lint, bench: each sets up what it needs, and installs again only when the requirements changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Without browsers, database servers and trained models; without schemathesis, which takes long to import. Of the encoders
# and of Oracle Database one file each: the others load PyTorch, or take as long as all the rest.
SKIPPED := tests/browser tests/scripts tests/demo tests/api/test_schema.py \
  $(filter-out %/test_known_models.py,$(wildcard tests/encoders/test_*.py)) \
  $(filter-out %/test_terms.py,$(wildcard tests/oracle/test_*.py))
# In memory where there is room: each library is written to the disk for certain (fsync), which is most of the waiting.
MEMORY := $(shell df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 2000 {print "/dev/shm"}')
FAST := tests $(addprefix --ignore=,$(SKIPPED)) -p no:schemathesis -m 'not slow' --store sqlite -n 2 --dist loadscope \
  -o tmp_path_retention_policy=failed

.PHONY: run test test-fast lint bench samples screenshots clean

run: $(VENV)/.run-installed
	@echo "Starting the page; its address follows in some seconds."
	$(BIN)/python ImageSearch.py

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest $(FAST) $(PYTEST_ARGS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/actionlint

bench: $(VENV)/.dev-installed
	for program in benchmarks/[a-z]*.py; do echo "== $$program"; $(BIN)/python "$$program" || exit 1; done

samples: $(VENV)/.dev-installed
	$(BIN)/python -m demo.samples

screenshots: $(VENV)/.dev-installed
	$(BIN)/python -m tests.take_screenshots

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Installing Python packages into $(VENV): about 2 GB, two to four minutes on a broadband line. The next start takes seconds."
	$(PYTHON) -m venv $(VENV)

# Without the optional packages for films, text in images and further formats everything else works, so that a failure is only told.
$(VENV)/.run-installed: $(wildcard requirements*.txt) | $(VENV)/bin/python
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements-video.txt || echo "Films are left out: av could not be installed."
	$(BIN)/python -m pip install -r requirements-ocr.txt \
	  || echo "Text inside images will not be read. To try again: $(BIN)/python -m pip install -r requirements-ocr.txt" >&2
	$(BIN)/python -m pip install --quiet -r requirements-formats.txt -r requirements-raw.txt \
	  || echo "HEIC, JPEG XL and RAW files will not be read: their packages could not be installed." >&2
	touch $@

$(VENV)/.dev-installed: requirements-dev.txt $(VENV)/.run-installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
