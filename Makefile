PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-minimum
DATA ?=
DOCS_OPTIONS ?=  # -D plot_gallery=0 builds the text only
STAMP := $(VENV)/.installed

.PHONY: install demo test test-minimum torture lint docs pictures clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[offline,dev]"
	touch $(STAMP)

demo: install
	$(BIN)/skanomaly demo $(if $(DATA),--data $(DATA))

test: install
	SCIPY_ARRAY_API=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-minimum:  # with the oldest supported version of every dependency
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(PYTHON) tests/minimum_versions.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --editable ".[offline,plot,approximate]" "pytest<9" pytest-xdist pandas scikit-image \
		--constraint $(OLDEST)/constraints.txt
	SCIPY_ARRAY_API=1 $(OLDEST)/bin/python -m pytest --numprocesses auto --dist loadfile

torture: install
	OMP_NUM_THREADS=1 SCIPY_ARRAY_API=1 $(BIN)/python tests/torture

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $$(find skanomaly -name '*.py')

docs: $(VENV)/.docs-installed  # without a network connection, once it is installed
	$(BIN)/python -m sphinx -W --keep-going -b html $(DOCS_OPTIONS) docs docs/_build/html
	@echo "docs/_build/html/index.html"

$(VENV)/.docs-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[offline,docs]"
	touch $@

pictures: install
	$(BIN)/python docs/make_pictures.py

clean:
	rm -rf $(VENV) $(OLDEST) build *.egg-info .pytest_cache .ruff_cache docs/_build docs/api docs/gallery
