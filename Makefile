# make demo   real servers and the exporter to look at; Ctrl-C ends all
# make test   set-up, lint, tests
# make lint   format, style, types, floors
# make bench  the figures that the README quotes, as one table; about eight minutes

BIN := .venv/bin
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n > 8 ? 8 : n)))

.PHONY: demo test lint bench

demo:
	@.ci/setup demo
	@$(BIN)/exporter demo

test: lint
	@$(BIN)/python -m pytest -n $(WORKERS)

lint:
	@.ci/setup dev
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@shellcheck .ci/setup .ci/run $(wildcard deploy/*.sh deploy/*/*.sh)

bench:
	@.ci/setup dev
	@$(BIN)/python benchmarks
