# `make help` lists the commands. They need Python 3.10 or newer, git and make;
# each makes the environment that it needs, once.

PYTHON ?= python3

# Every pip that a command below starts, its isolated builds included, installs
# the pinned versions.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The files that decide what an environment holds: it is brought up to date when
# one of them changes.
PINS := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.demo ## Segment two photographs, by scikit-learn's class and by ours
	@.venv/bin/python examples/segment_photographs.py

.PHONY: test
test: .venv-tox/.tox ## Run lint, types, tests and doctests
	@.venv-tox/bin/tox run -e "lint,types,py$$(.venv-tox/bin/python -c 'import sys; print("%d%d" % sys.version_info[:2])')"

.PHONY: lint
lint: .venv-tox/.tox ## Check style, format, spelling and types
	@.venv-tox/bin/tox run -e lint,types

.PHONY: docs
docs: .venv-tox/.tox ## Build the documentation: docs/_build/html/index.html
	@.venv-tox/bin/tox run -e docs
	@echo "Documentation: docs/_build/html/index.html"

.PHONY: package
package: .venv-tox/.tox ## Build source distribution and wheel, check them, try the wheel
	@.venv-tox/bin/tox run -e package

.PHONY: bench
bench: .venv-bench/.bench ## Time this package and other libraries: a short form, in three minutes
	@.venv-bench/bin/python -m benchmarks run

.PHONY: bench-all
bench-all: .venv-bench/.bench ## Time every case, and write docs/benchmarks.md; takes hours
	@.venv-bench/bin/python -m benchmarks run --form whole --output benchmarks/results/cpu.json
	@.venv-bench/bin/python -m benchmarks report

.PHONY: robustness
robustness: .venv-bench/.bench ## Fit difficult data with every library, and write docs/robustness.md
	@.venv-bench/bin/python -m benchmarks robustness

.PHONY: develop
develop: .venv/.develop ## Put the package, in editable form, and every tool into .venv

.PHONY: clean
clean: ## Remove the environments and everything that was built
	rm -rf .venv .venv-bench .venv-tox .tox benchmarks/output build dist docs/_build docs/api docs/gallery *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find sklearn_torch_gmm tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.venv/.demo: $(PINS)
	$(call make-environment,.venv)
	@.venv/bin/python -m pip install --quiet --editable '.[plot]'
	@touch $@

.venv/.develop: $(PINS)
	$(call make-environment,.venv)
	@.venv/bin/python -m pip install --quiet --editable '.[plot,test,bench]' \
		build codespell mypy pre-commit ruff tox twine
	@touch $@

# One library after the other: one that cannot be installed must not keep the rest out.
.venv-bench/.bench: $(PINS) benchmarks/requirements.txt benchmarks/constraints.txt
	$(call make-environment,.venv-bench)
	@.venv-bench/bin/python -m pip install --quiet --editable '.[bench]'
	@grep -v '^#' benchmarks/requirements.txt | while read -r library; do \
		.venv-bench/bin/python -m pip install --quiet -c benchmarks/constraints.txt "$$library" \
		|| echo "$$library cannot be installed here: its figures will say so"; \
	done
	@touch $@

.venv-tox/.tox: tox.ini $(PINS)
	$(call make-environment,.venv-tox)
	@.venv-tox/bin/python -m pip install --quiet tox
	@touch $@

define make-environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is %s: make PYTHON=..." % sys.version.split()[0])'
@echo "Bringing $(1) up to date; the first time takes a minute or more"
@$(PYTHON) -m venv $(1)
endef
