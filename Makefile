# The two commands of the README are `make quickstart` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test lint types wheel bench-routing bench-runtime clean

quickstart: $(READY)
	$(BIN)/tryage quickstart

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

wheel: $(READY)
	bash .ci/wheel

# Needs the benchmark data: TRYAGE_DATA, else ../shared/data.
bench-routing: $(READY)
	$(BIN)/python benchmarks/routing.py

# Batching, the memory budget, dispatch's own time and the soak: some ten minutes.
bench-runtime: $(READY)
	$(BIN)/python benchmarks/runtime.py

# Everything the checkout needs, in a virtual environment of its own. The stamp is written last, so
# an interrupted install is taken up again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $@

clean:
	rm -rf .venv dist build
