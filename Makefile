# make run: the dashboard on port 8501.   make run-gpu: the same, training on an NVIDIA GPU.   make test: every test.
# Each sets up what it needs, once.
SHELL := /bin/sh
PORT ?= 8501
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run run-gpu dev setup setup-dev setup-gpu browser test check format screenshot reference-runs reproduction doodle-base clean

run: setup
	$(BIN)/python -m streamlit run app.py --server.port $(PORT)

# Runs launched from there train in the same environment, one at a time.
run-gpu: setup-gpu
	.venv-gpu/bin/python -m streamlit run app.py --server.port $(PORT)

# With the file watcher on, which a class of browsers cannot afford (docs/architecture.md).
dev: setup
	$(BIN)/python -m streamlit run app.py --server.port $(PORT) --server.fileWatcherType auto --server.runOnSave true

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@python=$$(sh tools/find_python.sh) && echo "Making $(VENV) with $$python" && "$$python" -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-ray.txt requirements-dev.txt | $(BIN)/python
	@# Both in one step: moto and s3fs must agree on one botocore.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -r requirements-ray.txt \
		|| { echo "Ray does not install here: its tests are skipped."; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt; }
	@touch $(VENV)/.installed $@

# tensorflow-cpu and tensorflow[and-cuda] own the same files, hence an environment of its own.
setup-gpu: .venv-gpu/.installed
.venv-gpu/.installed: requirements-gpu.txt
	@python=$$(sh tools/find_python.sh) && "$$python" -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-gpu.txt
	@touch $@

browser: setup-dev
	$(BIN)/python -m tools.chromium

# Two files of tests at a time: one process alone leaves a core idle half of the time. In the order of tests/conftest.py.
test: browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshot: browser
	$(BIN)/python -m tools.screenshot

reference-runs: setup
	$(BIN)/python -m tools.make_reference_runs

reproduction: setup
	$(BIN)/python -m tools.reproduction_report

doodle-base: setup
	$(BIN)/python -m tools.train_doodle_base

# Not all of .cache: uploads and weights files in it cannot be made again.
clean:
	rm -rf $(VENV) .venv-gpu .cache/datasets .cache/pixels .cache/activations .mypy_cache .ruff_cache .pytest_cache
