PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench clean

demo: $(READY)  ## learn to segment from tags alone on embedded data; ends in runs/demo/report.html
	$(BIN)/cian demo --out runs/demo

test: $(READY)  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## every figure of speed, about 7 minutes on two cores; benchmarks/README.md has the long ones
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/groups.py
	$(BIN)/python benchmarks/crf.py
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/overhead.py --backbone resnet50 --stride 8 --crop 321 --batch 4 --repetitions 3 --module-only
	$(BIN)/python benchmarks/plain.py

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache
