# Each target works alone, first, in a fresh clone: it installs what it needs.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-long protocol fuzz test-gpu operate-check compose-smoke drill check format broker broker-stop console worker kill-matrix soak model smollm2 taught swaps bench lock clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: ## make .venv from the lock
	@sh deploy/install.sh

demo: install ## real messages through a real broker and the real worker; ends by itself
	@$(PY) -m demo $(ARGS)

test: install ## the whole suite, on a real broker
	@$(PY) -m pytest $(ARGS)

test-unit: install ## what needs no broker: a few minutes
	@$(PY) -m pytest tests/unit $(ARGS)

test-long: install ## what `make test` leaves out, for it takes minutes: outages, kills, whole trainings
	@$(PY) -m pytest -m long $(ARGS)

fuzz: install ## a million hostile events: each a verdict or a dead letter, none slower than its bound
	@$(PY) -m tests.fuzz.run $(ARGS)

protocol: install ## exactly once in thousands of random histories, simulated (ARGS=--seed=N repeats one)
	@$(PY) -m tests.simulation.search $(ARGS)

test-gpu: install ## what needs an NVIDIA GPU
	@$(PY) -m pytest tests/gpu tests/unit/test_engine_kernels.py $(ARGS)

operate-check: install ## what `make test` leaves out of deploy/: needs Go, some minutes once
	@$(PY) -m deploy.tools
	@$(PY) -m deploy.render --check
	@$(PY) -m deploy.formats --check
	@$(PY) -m pytest tests/operate $(ARGS)

compose-smoke: install ## docker-compose.yml: up, 1,000 messages through, every panel asked, down; needs Docker
	@$(PY) -m deploy.smoke $(ARGS)

drill: install ## provoke an incident here, see its alerts fire and end (ARGS=--list names them)
	@$(PY) -m deploy.drill $(ARGS)

check: install ## lint, format, types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: install ## let ruff rewrite
	@.venv/bin/ruff check --fix-only --quiet . ; .venv/bin/ruff format .

broker: install ## start Kafka on 127.0.0.1:9092, with the topics
	@$(PY) -m deploy.kafka start $(ARGS)

broker-stop: ## stop it
	@python3 -m deploy.kafka stop

console: install ## pages to watch it, on http://127.0.0.1:9466
	@$(PY) -m worker console $(ARGS)

worker: install ## run the worker against it
	@$(PY) -m worker run $(ARGS)

kill-matrix: install ## every fault on three brokers, an hour and more; resumes (ARGS="--faults new": of requests only)
	@$(PY) -m tests.delivery --record $(ARGS)

soak: install ## load and random faults for an hour (ARGS=--minutes=5); memory, threads, descriptors must stay flat
	@$(PY) -m tests.delivery.soak $(ARGS)

model: install ## rebuild models/nano from the shipped data (other models: .venv/bin/python -m training --help)
	@$(PY) -m training nano $(ARGS)

smollm2: install ## SmolLM2-135M: fetch and convert its base, train, export; wants a GPU
	@$(PY) -m training smollm2 $(ARGS)

taught: install ## make data/taught anew, by a teacher; needs a GPU (ARGS=--toy tries it on a CPU)
	@$(PY) -m training taught $(ARGS)

swaps: install ## change the model a hundred times under load and check every verdict
	@$(PY) -m benchmarks.model_swap $(ARGS)

bench: install ## the engine's speed on this machine; benchmarks/README.md lists the other benchmarks
	@$(PY) -m benchmarks.classifier $(ARGS)

lock: install ## resolve the dependencies again
	@.venv/bin/uv pip compile pyproject.toml --group dev --generate-hashes --universal --python-version 3.11 --quiet \
		--upgrade --custom-compile-command "make lock" --output-file requirements.lock
	@.venv/bin/uv pip compile pyproject.toml --extra console --extra postgres --extra tracing --constraint requirements.lock --generate-hashes --universal --python-version 3.11 \
		--quiet --custom-compile-command "make lock" --output-file deploy/worker.lock

clean: ## forget what was installed and what ran
	@rm -rf .venv .run
