"""A quickstart small enough for tests: the same code on less text, for fewer steps."""

import io

import pytest
from rich.console import Console

from tryage.quickstart import Example, Plan, Recipe, run, texts


@pytest.fixture(scope="session")
def tiny_plan():
    """Two domains, four experts, some seconds."""
    recipes = [
        Recipe(f"{domain}-{kind}", domain, task, 32, 1, 30, vocabulary=400, batch=2, window=64)
        for kind, task in (("writer", "text-generation"), ("filler", "fill-mask"))
        for domain in ("legal", "headers")
    ]
    code = "#include <vector>\n\nstd::vector<int> sorted(std::vector<int> values);"
    return Plan(
        recipes=tuple(recipes),
        train_chars=60_000,
        held_out_chars=20_000,
        label_prompts=24,
        test_prompts=12,
        prompt_chars=200,
        encoder_dim=8,
        examples=(
            Example("langchain", f"{code} [Flag: Smallest model]"),
            Example("llama-index", "Permission is granted to any person to copy the"),
            Example("langchain", "A [MASK] of this license", "A copy of this license"),
        ),
    )


@pytest.fixture(scope="session")
def tiny_corpora(tiny_plan):
    """The text of the tiny quickstart."""
    return texts.gather(
        train_chars=tiny_plan.train_chars,
        held_out_chars=tiny_plan.held_out_chars,
        domains=("legal", "headers"),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_plan, tmp_path_factory):
    """One whole run: the folder of cache and output, the result, and what was printed."""
    root = tmp_path_factory.mktemp("quickstart")
    console = Console(file=io.StringIO(), width=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRYAGE_CACHE", str(root / "cache"))
        result = run(root / "out", console=console, plan=tiny_plan)
    return root, result, console.file.getvalue()
