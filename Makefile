SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup browser demo unit test ready soak soak-seeds soak-erase soak-replicas soak-cluster soak-outages soak-backlog soak-relabel soak-canary soak-retention soak-secured soak-upgrade soak-tables soak-strangers soak-review soak-files soak-history soak-served soak-gate soak-quality soak-drift soak-calibration soak-discover soak-cascade soak-cascade-replay soak-examples soak-masked-labels soak-privacy-speed soak-privacy soak-privacy-leaks real-endpoint bench lint format typecheck generate locks sbom image-size helm helm-golden clean
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

help:  ## List every task
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */\1\t/' | expand -t 20

setup: $(VENV)/.installed  ## Make the virtual environment; safe to repeat

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found on PATH" >&2; exit 1; }
	@echo "setup: making $(VENV) with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing labelstream and what it needs (some 300 MB the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[local,dev]' \
		| awk '/^ *(Downloading|Using cached|Building|Installing|ERROR)/ { sub(/^ */, "setup:   "); print substr($$0, 1, 150); fflush() }'
	@touch $@
	@echo "setup: done"

browser: setup  ## Install Chromium for the tests of the page, where apt can (as root)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null
	@echo "browser: $$(command -v chromium || command -v google-chrome)"

demo: setup  ## Run the whole pipeline on this machine (ARGS="--rows 2000")
	@$(BIN)/labelstream demo $(ARGS)

unit: setup  ## The tests that start no server, in WORKERS (4) processes, because tests wait; a minute and a half
	@$(BIN)/python -m pytest -q -n $(or $(WORKERS),4) tests/unit

test: setup  ## Lint, types, then all tests, in WORKERS (5) processes: tests wait
	@$(MAKE) -s -j2 lint typecheck ready
	@echo "test: running the tests; those with Kafka and ClickHouse start their own (the first run downloads Kafka)"
	@$(BIN)/python -m pytest -q -n $(or $(WORKERS),5) --dist loadfile --no-loadscope-reorder

ready: setup  ## What all tests need: Chromium, and their modules compiled once instead of in each process
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "test: installing Chromium for the tests of the page, by apt (without it they are skipped)"; \
		timeout 300 $(MAKE) -s browser >/dev/null 2>&1 || echo "test: it could not be had, the tests of the page are skipped"; fi
	@test -d tests/__pycache__ || PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q --collect-only >/dev/null || true

soak: soak-seeds  ## The long run to begin with: soak-seeds

soak-seeds: setup  ## Fresh seeds of faults, Kafka's included, for SECONDS (600): verdicts and memory of each role
	@$(BIN)/python -m tests.faults.soak --seconds $(or $(SECONDS),600) $(ARGS)

soak-cluster: setup  ## COUNT (10) fresh seeds of 5,000 rows on three brokers: leaders killed, followers cut off; an hour
	@$(BIN)/python -m tests.faults.soak --cluster --rows 5000 --count $(or $(COUNT),10) $(ARGS)

soak-replicas: setup  ## SEEDS (10) of sinks into two replicas that die, lag and lose each other, and of migrations there; two hours (ARGS="--replicas 3", "--hosts a,b --cluster c")
	@$(BIN)/python -m tests.replicas.scenario --seeds $(or $(SEEDS),10) $(ARGS)
	@$(if $(findstring --hosts,$(ARGS)),,$(BIN)/python -m tests.replicas.migration --seeds $(or $(SEEDS),10))

soak-erase: setup  ## One of 10,000 users erased under traffic and kills, then all is read again; ten minutes (ARGS="--users 1000")
	@$(BIN)/python -m tests.integration.streams.operations.erase_soak $(ARGS)

soak-outages: setup  ## Each dependency away for SECONDS (120): how soon work goes on, and no dead letter; ten minutes
	@$(BIN)/python -m tests.faults.outages --seconds $(or $(SECONDS),120) $(ARGS)

soak-backlog: setup  ## Memory of each role with 100,000 and with 1,000,000 waiting rows; half an hour
	@$(BIN)/python -m tests.faults.backlog $(ARGS)

soak-review: setup  ## 1,000 rows audited, labelled, corrected and undone under faults, then again with an upgrade; ten minutes
	@$(BIN)/python -m tests.faults.review $(ARGS)

soak-relabel: setup  ## Relabel 50,000 rows beside live ones, with kills; ten minutes (ARGS="--rows 5000")
	@$(BIN)/python -m tests.integration.relabel $(ARGS)

soak-canary: setup  ## A canary of 30,000 live rows, with kills, judged until it stops; ten minutes (ARGS="--rows 6000 --share 0.25")
	@$(BIN)/python -m tests.integration.replays.canary_soak $(ARGS)

soak-retention: setup  ## A backlog of three times what the topics keep; some minutes (ARGS="--rows 5000 --seconds 10")
	@$(BIN)/python -m tests.faults.retention $(ARGS)

soak-secured: setup  ## Three brokers with TLS, passwords and access lists: all work with its rights alone, each missing one named; some minutes
	@$(BIN)/python -m tests.security.soak $(ARGS)

soak-upgrade: setup  ## 0.1.0's roles and today's together, over its dump and 1,000,000 rows more; five minutes (ARGS="--rows 100000 --seconds 20")
	@$(BIN)/python -m tests.upgrade.both_releases $(ARGS)

soak-examples: setup  ## Tests that draw examples, with 1,000 instead of 20, and more seeds; an hour
	@$(BIN)/python -m pytest -q -n $(or $(WORKERS),2) --hypothesis-profile soak tests/unit tests/integration/connectors/clickhouse

soak-files: setup  ## COUNT (10,000) damaged files through an upload: each is read or refused; some minutes
	@$(BIN)/python -W error -m tests.unit.connectors.files.mutations --count $(or $(COUNT),10000) $(ARGS)

real-endpoint: setup  ## 200 queries over a real llama-server, in both modes; builds it first, 20 to 35 minutes (ARGS="--rows 50")
	@$(BIN)/python -m tests.integration.real_endpoint $(ARGS)

soak-tables: setup  ## Source tables by chance, read in each way, for SECONDS (600)
	@$(BIN)/python -m tests.integration.tables.soak --seconds $(or $(SECONDS),600) $(ARGS)

soak-strangers: setup  ## ROUNDS (20) against a model server that forbids texts, refuses all, aborts; 20 minutes
	@$(BIN)/python -m tests.faults.strangers --rounds $(or $(ROUNDS),20) $(ARGS)

soak-history: setup  ## Every question over ROWS (100,000,000) stored rows: times, memory; 12 GB, ten minutes (ARGS="--calls 5")
	@$(BIN)/python -m tests.integration.connectors.clickhouse.history_scale --rows $(or $(ROWS),100000000) $(ARGS)

soak-served: setup  ## Labels of a served, overconfident classifier, from endpoint to promotion: FILE=a CSV with text and scenario or label; ten minutes
	@$(BIN)/python -m tests.integration.streams.quality.served_labels $(FILE) $(ARGS)

soak-privacy-leaks: setup  ## 5,000 personal data of all kinds, by all ways in, through kills and outages: none is found; ten minutes (ARGS="--secrets 1000")
	@$(BIN)/python -m tests.integration.privacy.soak $(ARGS)

soak-masked-labels: setup  ## Accuracy on masked texts beside plain ones, of a classifier of real texts: FILE=a CSV with text and scenario or label; a minute
	@$(BIN)/python -m tests.unit.streams.quality.long_runs.masked_labels $(FILE) $(ARGS)

soak-privacy-speed: setup  ## The poller with masking beside without, rows a second of a core; two minutes
	@$(BIN)/python -m tests.integration.privacy.speed $(ARGS)

soak-gate: setup  ## How often the gate gives each answer, where the truth is known; minutes (FILE=texts.csv ARGS="--times 5000")
	@$(BIN)/python -m tests.unit.streams.quality.long_runs.gate $(FILE) $(ARGS)

soak-calibration: setup  ## Calibration error on unseen rows, 200 times, over real texts: FILE=a CSV with text and scenario or label; a minute
	@$(BIN)/python -m tests.unit.streams.quality.long_runs.calibration $(FILE) $(ARGS)

soak-drift: setup  ## Hours until drift is found, alarms of quiet months, over real texts: FILE=a CSV with text and scenario or label; an hour
	@$(BIN)/python -m tests.unit.streams.drift.long_runs.drift $(FILE) $(ARGS)

soak-cascade: setup  ## What a cascade saves and whether its promises hold, 10 seeds, without Kafka: FILE=a CSV with text, scenario and label; ten minutes (ARGS="--seeds 2")
	@$(BIN)/python -m tests.unit.streams.cascade.long_runs.cascade $(FILE) $(ARGS)

soak-cascade-replay: setup  ## A replay of 100,000 rows that a cascade shortens, over Kafka and ClickHouse, with kills: FILE=a CSV with text and scenario or label; fifteen minutes (ARGS="--rows 30000")
	@$(BIN)/python -m tests.integration.replays.cascade_soak $(FILE) $(ARGS)

soak-discover: setup  ## Whether the texts of a label that the taxonomy lacks are found as a group: FILE=a CSV with text and label; minutes
	@$(BIN)/python -m tests.unit.streams.quality.long_runs.discovery $(FILE) $(ARGS)

soak-quality: setup  ## Estimates against the truth, 2,000 weeks, over real texts: FILE=a CSV with text and scenario or label; minutes
	@$(BIN)/python -m tests.unit.streams.quality.long_runs.estimates $(FILE) $(ARGS)

soak-privacy: setup  ## What masking finds of 10,000 made entities, what it masks of clean texts: FILE=a CSV with query_text; minutes
	@$(BIN)/python -m tests.unit.streams.privacy.recall $(FILE) $(ARGS)

bench: setup  ## Measure against raw clients, some twelve minutes (ARGS="--only label poller --json")
	@$(BIN)/python -m bench $(ARGS)

lint: setup  ## Check style, format and the import contracts
	@echo "lint: ruff and the import contracts"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "lint: not formatted; run: make format" >&2; exit 1; }
	@report=$$($(BIN)/lint-imports 2>&1) || { echo "$$report" >&2; exit 1; }

format: setup  ## Format the code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

typecheck: setup  ## Check types with mypy, strict
	@echo "typecheck: mypy"
	@$(BIN)/mypy

generate: setup  ## Write .env.example, docs/reference and docs/contract from the code
	@$(BIN)/python docs/generate.py

TOOLS := .labelstream/tools
$(TOOLS)/bin/uv:
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install -q --disable-pip-version-check uv==0.13.8 cyclonedx-bom==7.5.0

locks: $(TOOLS)/bin/uv  ## Write deploy/locks, the image's packages by hash, after a change to pyproject.toml or constraints.txt
	@lock() { name=$$1; shift; $(TOOLS)/bin/uv pip compile -q --upgrade --generate-hashes --python-platform linux --python-version 3.11 \
		--no-annotate --no-header -o deploy/locks/$$name.lock "$$@" >/dev/null; }; \
		lock agents --extra privacy -c constraints.txt pyproject.toml; lock all --extra all -c constraints.txt pyproject.toml; \
		echo 'setuptools>=77' | lock build -

sbom: $(TOOLS)/bin/uv  ## The image's packages as a CycloneDX bill of materials, build/labelstream.cdx.json
	@mkdir -p build && $(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o build/labelstream.cdx.json deploy/locks/all.lock

image-size:  ## Install what each image has, as its Dockerfile does, and say how large it is; some minutes
	@for name in agents all; do rm -rf build/$$name && $(PYTHON) -m venv build/$$name && build/$$name/bin/pip install -q --no-cache-dir --require-hashes -r deploy/locks/build.lock \
		&& build/$$name/bin/pip install -q --no-cache-dir --no-build-isolation --require-hashes -r deploy/locks/$$name.lock \
		&& build/$$name/bin/pip install -q --no-cache-dir --no-build-isolation --no-deps --no-index . && du -sm build/$$name; done

helm: setup  ## Build helm from its Go module, for the tests of the chart; seven minutes on two cores
	@test -x .labelstream/bin/helm || { command -v go >/dev/null || { echo "Go is needed to build helm" >&2; exit 1; }; \
		GOBIN=$(CURDIR)/.labelstream/bin GOFLAGS=-trimpath go install -ldflags "-s -w" helm.sh/helm/v3/cmd/helm@v3.22.0; }
	@.labelstream/bin/helm version --short

helm-golden: helm  ## Render the chart's golden files anew
	@$(BIN)/python -m tests.unit.repo.helm.chart

clean:  ## Remove the environment and local state
	-@test -x $(BIN)/labelstream && $(BIN)/labelstream local down
	rm -rf $(VENV) .labelstream build dist *.egg-info
