PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo app test soak lint docs bench clean

demo: $(READY)  ## learn to segment from tags alone on embedded data; ends in runs/demo/report.html
	$(BIN)/cian demo --out runs/demo

app: demo  ## the page on the demo's run, in your browser
	$(BIN)/cian app runs/demo

test: $(READY)  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(READY)  ## an hour of kills, damaged files and hostile inputs, and a table of what failed: docs/promises.md
	CIAN_EXAMPLES=2000 $(BIN)/python -m pytest -q tests/formats/test_any_content.py
	$(BIN)/python -m tests.stress --seeds 1 2 3 --minutes 60 --page docs/promises.md

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## the documentation as a site with search; then: python3 -m http.server -d build/site
	.ci/docs $(BIN)/python

bench: $(READY)  ## every figure of speed, about 8 minutes on two cores, into docs/speed.md
	$(BIN)/python benchmarks/bench.py

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache
