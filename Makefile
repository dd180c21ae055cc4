# `make demo`: a small study of synthetic images, to its report. `make test`: every check. `make options`: a table.
# Both make .venv first, with the versions of constraints.txt; `make PYTHON=...` names another Python.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$name" && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
LINKS := build/links
FOLDERS := study reports objectives pipelines storage
UV = $(shell uv --version >/dev/null 2>&1 && echo uv || echo build/uv/bin/uv)

# Hospitals and firms often inspect TLS with a certificate that only the system knows.
export UV_SYSTEM_CERTS := 1

.PHONY: demo test options clean

demo: $(INSTALLED)
	$(BIN)/python run_study.py --task multimodal --data demo --trials 10 --epochs 30 --run runs/demo

# The table of docs/options.md, from the records of options.
options: $(INSTALLED)
	$(BIN)/python -m outerfold.study.cli.option_page docs/options.md

# One thread a process: small matrix products only wait for each other on more.
test: export OMP_NUM_THREADS = 1
test: $(INSTALLED) $(LINKS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd $(LINKS) && ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The folders under their one name, for tools that look a package up in a single folder.
$(LINKS): $(wildcard outerfold/*.py)
	mkdir -p $@/outerfold
	ln -sfn $(addprefix ../../../,$(FOLDERS) $(wildcard outerfold/*.py) outerfold/py.typed) $@/outerfold
	touch $@

# uv goes into build/ where it is absent: many a Python refuses packages outside an environment.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@$(UV) --version >/dev/null 2>&1 || "$(PYTHON)" -m pip install --quiet --root-user-action ignore --target build/uv uv \
		|| { "$(PYTHON)" -m venv build/uv && build/uv/bin/python -m pip install --quiet uv; }
	@test -x $(BIN)/python || { rm -rf .venv && $(UV) venv --quiet --python "$(PYTHON)" .venv; }
	$(UV) pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt \
		--editable '.[dev,dask,dicom,explain,postgresql]'
	@touch $@

clean:
	rm -rf .venv build dist outerfold.egg-info runs/demo .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
