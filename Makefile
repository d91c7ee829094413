# The two commands of the README are `make quickstart` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test lint types docs wheel test-openai-like bench-routing bench-speed bench-adapters
.PHONY: bench-runtime bench-labelling bench-labelling-curve bench-paper bench-predictors
.PHONY: bench-scale bench-cotraining bench-goals bench-plans bench-reliability bench-chains bench-sticky
.PHONY: bench-incomplete
.PHONY: test-lowest test-newest clean

quickstart: $(READY)
	$(BIN)/tryage quickstart

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

# The documentation site, in build/site; `python3 -m http.server -d build/site` shows it. Strict: a
# broken link or a public name that is missing fails.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel: $(READY)
	bash .ci/wheel

# LlamaIndex over an OpenAI-compatible server on loopback. The vendor's client has an environment of
# its own, because the main one is to show that none is needed.
test-openai-like: .venv-openai-like/.ready
	TRYAGE_TEST_OPENAI_LIKE=1 .venv-openai-like/bin/python -m pytest \
		tests/llama_index/test_openai_like.py

.venv-openai-like/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-openai-like
	.venv-openai-like/bin/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[llama-index,dev]" llama-index-llms-openai-like
	touch $@

# Both adapters on the lowest versions that pyproject.toml declares, in an environment of their own.
test-lowest: .venv-lowest/.ready
	.venv-lowest/bin/python -m pytest tests/langchain tests/llama_index

.venv-lowest/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt \
		--editable ".[all,dev]"
	touch $@

# Both adapters on the newest versions that the package index has today, torch excepted.
test-newest:
	PYTHON=$(PYTHON) bash .ci/newest

# Needs the benchmark data: TRYAGE_DATA, else ../shared/data.
# MINILM=FOLDER of all-MiniLM-L6-v2 adds `auto` over it, TRANSFORMER=1 that model fine-tuned.
bench-routing: $(READY)
	$(BIN)/python benchmarks/routing.py $(if $(MINILM),--minilm $(MINILM)) \
		$(if $(TRANSFORMER),--transformer)

# What else docs/routing-results.md says of predictors, some thirty minutes. PROBES=FOLDER of a
# quickstart adds small models as probes.
bench-predictors: $(READY)
	failed=0; \
	$(BIN)/python benchmarks/elsewhere.py || failed=1; \
	$(BIN)/python benchmarks/routerbench.py || failed=1; \
	$(BIN)/python benchmarks/new_expert.py || failed=1; \
	$(BIN)/python benchmarks/out_of_distribution.py || failed=1; \
	$(BIN)/python benchmarks/fit_time.py || failed=1; \
	$(BIN)/python benchmarks/kinds.py || failed=1; \
	$(BIN)/python benchmarks/embedding_bag.py || failed=1; \
	$(BIN)/python benchmarks/tries.py $(if $(MINILM),--minilm $(MINILM)) \
		$(if $(PROBES),--probes $(PROBES)) || failed=1; \
	exit $$failed

# On a machine that does nothing else: ratios hold anywhere, 95th percentiles do not.
# MINILM=FOLDER of all-MiniLM-L6-v2 adds the baselines.
bench-speed: $(READY)
	$(BIN)/python benchmarks/speed.py $(if $(MINILM),--minilm $(MINILM))

# How time and memory grow with experts, a prompt's length, a table's rows and a file's prompts: half an
# hour on two cores that do nothing else, 5 GB of disk and 8 GB of memory. Needs the benchmark data.
bench-scale: $(READY)
	failed=0; \
	$(BIN)/python benchmarks/scale.py || failed=1; \
	$(BIN)/python benchmarks/streaming.py || failed=1; \
	exit $$failed

# What the adapters cost over a direct call; each half writes its own results, also where the other
# one misses a bound.
bench-adapters: $(READY)
	failed=0; \
	$(BIN)/python benchmarks/adapters.py || failed=1; \
	$(BIN)/python benchmarks/adapters_llama_index.py || failed=1; \
	exit $$failed

# Batching, the memory budget, dispatch's own time and the soak, twice: some ten minutes.
bench-runtime: $(READY)
	$(BIN)/python benchmarks/runtime.py

# Labelling beside plain loops, its memory, resuming, Ray: some ten minutes on two quiet cores, and
# the quickstart's three where its experts are not in the cache.
bench-labelling: $(READY)
	$(BIN)/python benchmarks/labelling.py

# Regret against the number of labelled prompts. Needs the benchmark data.
bench-labelling-curve: $(READY)
	$(BIN)/python benchmarks/labelling_curve.py

# The long form of tests/reliability: kills, full disks, two writers, damage, hostile servers,
# secrets. CASES times as many cases as the tests try, about as many minutes.
CASES ?= 20
bench-reliability: $(READY)
	$(BIN)/python benchmarks/reliability_run.py --cases $(CASES)

# Plans with a check, some ten minutes. Needs the benchmark data.
bench-plans: $(READY)
	$(BIN)/python benchmarks/plans.py

# Figures of tables with deleted results beside those of the whole tables, some four minutes. Needs
# the benchmark data.
bench-incomplete: $(READY)
	$(BIN)/python benchmarks/incomplete.py

# Choices inside chains of both frameworks, some five minutes. With the benchmark data also those of
# open7.
bench-chains: $(READY)
	$(BIN)/python benchmarks/chains.py

# Staying with an expert in simulated conversations, under a minute.
bench-sticky: $(READY)
	$(BIN)/python benchmarks/sticky.py

# Goals and budgets, some twenty minutes. Needs the benchmark data. QUICKSTART=FOLDER, which
# `tryage quickstart --out FOLDER` wrote, adds size against loss on its library.
bench-goals: $(READY)
	failed=0; \
	$(BIN)/python benchmarks/goals.py || failed=1; \
	$(if $(QUICKSTART),$(BIN)/python benchmarks/size.py $(QUICKSTART) || failed=1;) \
	exit $$failed

# The paper's experiment: trains seventeen small experts, so it takes an hour on two cores; goes on
# where it was. MINILM=FOLDER of a small encoder adds the paper's predictor, LLM=MODEL a language
# model that picks from the experts' cards.
WORK ?= $(HOME)/.cache/tryage/paper
bench-paper: $(READY)
	cd benchmarks && PYTHONPATH=.. ../$(BIN)/python -m paper all --work $(abspath $(WORK)) \
		$(if $(MINILM),--encoder $(abspath $(MINILM))) $(if $(LLM),--llm $(LLM))
	$(if $(MINILM),cd benchmarks && PYTHONPATH=.. ../$(BIN)/python -m paper.distilling \
		--work $(abspath $(WORK)) --encoder $(abspath $(MINILM)))

# Co-training from three starts with three seeds, less than an hour on two cores; goes on where it was.
# Needs the benchmark data, and in WORK the experts of bench-paper.
bench-cotraining: $(READY)
	cd benchmarks && PYTHONPATH=.. OMP_NUM_THREADS=1 ../$(BIN)/python cotraining.py \
		--work $(abspath $(WORK))

# Everything the checkout needs, in a virtual environment of its own. The stamp is written last, so
# an interrupted install is taken up again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev,docs]"
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-newest .venv-openai-like dist build
