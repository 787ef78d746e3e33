PYTHON ?= python3
VENV := .venv
ESCNN := .venv-escnn
STRANGERS := .venv-strangers
BIN := $(VENV)/bin

.PHONY: sweep test types suite settings slurm test-escnn strangers gpu gpu-wheels golden docs bench clean

sweep: $(VENV)/.installed
	$(BIN)/e4profile sweep --group p4

# mypy uses one core, so it runs beside the tests
test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(MAKE) --no-print-directory -j2 suite types

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# two workers on one thread each: their small tensors gain nothing from more threads, which only wait for each other.
# What many processes import is compiled once, also where Python is told to write no bytecode.
suite: $(VENV)/.installed-dev
	$(BIN)/python -m compileall -q e4profile
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

# The closed form of many settings at once against networks that are built: 1,000 settings of every card take hours.
settings: $(VENV)/.installed-dev
	E4PROFILE_SETTINGS=$(or $(SETTINGS),1000) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q \
		tests/witnesses/test_many_settings.py

# 200 settings through arrays of a real Slurm, jobs and controller killed at random: some minutes, as root, with Debian's
# slurm-wlm and munge. `make test` does it with 20.
slurm: $(VENV)/.installed-dev
	E4PROFILE_SLURM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s tests/records/test_jobs_on_slurm.py

# escnn, the reference library for steerable convolutions, and e2cnn need an older numpy: an environment of its own.
test-escnn: $(ESCNN)/.installed
	OMP_NUM_THREADS=1 $(ESCNN)/bin/python -m pytest -n 2 -q tests/layers/test_steerable_reference.py tests/subjects/test_steerable_libraries.py

# Networks of other libraries, at versions that fit torch; networks that a stopped run finished are not run again.
strangers: $(STRANGERS)/.installed
	OMP_NUM_THREADS=1 $(STRANGERS)/bin/python scripts/strangers.py --out reports/strangers

# On a machine with a CUDA device and its own PyTorch: what only a device can say, in at most eight minutes, to
# reports/gpu/<device>/. It needs no network: what such a machine lacks lies in .whl, which gpu-wheels fills elsewhere.
gpu:
	$(PYTHON) scripts/gpu_records.py --device $(or $(DEVICE),cuda) $(if $(QUICK),--quick)

gpu-wheels:
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps -w .whl -c constraints.txt \
		fvcore thop iopath yacs termcolor tabulate portalocker nvidia-ml-py jinja2 rich \
		pytest pluggy iniconfig packaging pygments sortedcontainers
	for version in 3.10 3.11 3.12 3.13; do \
		$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: -d .whl \
			--python-version $$version --platform manylinux2014_x86_64 msgspec markupsafe hypothesis; done

golden: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q tests/test_golden.py --refresh-golden

# Write the generated parts of the README and the reference pages anew; the tests fail when they are stale.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/refresh_readme.py
	$(BIN)/python docs/generate_reference.py

# Prints only. On a machine that does nothing else, `make bench OUT=reports/benchmarks` writes the records anew; then
# `make docs`, whose page of measured times is made from them.
bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/counting.py $(if $(OUT),--out $(OUT))
	$(BIN)/python benchmarks/aggregation.py $(if $(OUT),--out $(OUT))
	$(BIN)/python benchmarks/group_convolution.py $(if $(OUT),--out $(OUT))
	$(BIN)/python benchmarks/many_settings.py $(if $(OUT),--out $(OUT))

# A fresh Debian may ship Python without ensurepip; the error of venv then names the package to install.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.installed

# Both come without what they ask for: py3nj builds with a Fortran compiler and serves 3D groups only.
$(ESCNN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(ESCNN)
	$(ESCNN)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . \
		"numpy<2" scipy joblib pymanopt autograd lie_learn pytest pytest-xdist hypothesis
	$(ESCNN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps escnn==1.0.11 e2cnn==0.2.3
	touch $@

# escnn comes without what it asks for: py3nj builds with a Fortran compiler.
$(STRANGERS)/.installed: pyproject.toml scripts/strangers.txt
	$(PYTHON) -m venv $(STRANGERS)
	$(STRANGERS)/bin/python -m pip install --quiet --disable-pip-version-check -e . -r scripts/strangers.txt
	$(STRANGERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps escnn==1.0.11
	touch $@

clean:
	rm -rf $(VENV) $(ESCNN) $(STRANGERS) build dist
