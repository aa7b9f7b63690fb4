# Needs python3 (3.10 to 3.13, with venv) and make. Everything else is installed below .venv, pinned by hash.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BUILD  := build

# TensorFlow gives freed memory back to the system at once and asks for it again; this keeps it (glibc only).
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 17179869184

.DEFAULT_GOAL := help
.PHONY: help setup demo convert check test slow bench wheel device-test lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install the locked environment into .venv

$(READY): convert/requirements.lock convert/bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: python3 here is not 3.10 to 3.13"; echo "remedy: make PYTHON=/path/to/python3.11"; exit 1; } >&2
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "error: python3 here cannot make a virtual environment"; echo "remedy: install python3-venv"; exit 1; } >&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r convert/bootstrap.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r convert/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup ## render a synthetic data set, build a bundle from it, screen pictures, show the report
	@test -f $(BUILD)/demo/data/manifest.csv || $(BIN)/edge data render $(BUILD)/demo/data --tiles 1200 --seed 1
	$(BIN)/edge convert convert/recipes/demo.toml --data $(BUILD)/demo/data --out $(BUILD)/demo/run
	$(BIN)/edge show $(BUILD)/demo/run/synthetic-smear.edge --self-test
	$(BIN)/edge evaluate $(BUILD)/demo/run/synthetic-smear.edge --data $(BUILD)/demo/data --split test
	$(BIN)/edge screen $(BUILD)/demo/run/synthetic-smear.edge calibration_data/images \
	  --overlay $(BUILD)/demo/overlays > $(BUILD)/demo/screened.txt
	@tail -6 $(BUILD)/demo/screened.txt
	@echo
	@echo "report    $(BUILD)/demo/run/report.html"
	@echo "bundle    $(BUILD)/demo/run/synthetic-smear.edge"
	@echo "overlays  $(BUILD)/demo/overlays"

convert: setup ## RECIPE=file DATA=folder [OUT=folder] [ARGS=...]: labelled pictures to a bundle
	@test -n "$(RECIPE)" -a -n "$(DATA)" || \
	  { echo "error: RECIPE and DATA are needed"; echo "remedy: make convert RECIPE=convert/recipes/malaria.toml DATA=folder"; exit 2; } >&2
	$(BIN)/edge convert "$(RECIPE)" --data "$(DATA)" --out "$(or $(OUT),$(BUILD)/$(basename $(notdir $(RECIPE))))" $(ARGS)

check: setup ## format, lint, types, one-way imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/test_architecture.py

test: check ## everything that runs on a bare checkout
	$(BIN)/pytest --quiet -n 2 --dist loadgroup -m "not slow"

slow: setup ## the tests that take minutes: ten thousand mutations, every backbone
	$(BIN)/pytest -m slow

bench: setup ## the recipes on real pictures: DATA=folder WEIGHTS=file (see bench/README.md)
	@test -n "$(DATA)" -a -n "$(WEIGHTS)" || \
	  { echo "error: DATA and WEIGHTS are needed"; echo "remedy: see bench/README.md"; exit 2; } >&2
	$(BIN)/python bench/real_data.py --data "$(DATA)" --weights "$(WEIGHTS)" $(ARGS)

wheel: setup ## the wheel a device installs
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .
	@ls dist

device-test: wheel ## the wheel and the runtime's tests on emulated Cortex-A72 and A76 (see tests/device/README.md)
	@PYTHON=$(BIN)/python tests/device/setup.sh $(BUILD)/device "$$(ls -t dist/edge_screen-*.whl | head -1)"; \
	case $$? in 0) $(BIN)/pytest -n 0 -m slow tests/device ;; 3) exit 0 ;; *) exit 1 ;; esac

lock: setup ## resolve the lock files again (needs the network)
	UV_PYTHON_DOWNLOADS=never ./convert/lock.sh $(BIN)/uv

clean: ## remove what was built, not the environment
	rm -rf $(BUILD) dist
