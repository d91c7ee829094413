"""The model card of a router folder: its experts, validation and training data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tryage.distilled import distilled_from
from tryage.errors import OptionError
from tryage.persistence import RouterState
from tryage.units import format_count

_TERMS = "## Terms of the training data"
_METRICS = {
    "score": "Score",
    "loss": "Loss",
    "regret": "Regret",
    "selection_accuracy": "Selection accuracy",
    "strict_selection_accuracy": "Selection accuracy on prompts with one best expert",
    "mean_cost": "Mean cost (USD per prompt)",
}
"""Figures of an evaluation that the metadata holds, with their names there."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside what the router knows of itself.

    Attributes:
        terms: paragraph on the terms of the training data.
        license: of the router, by the Hub's identifier, such as ``"apache-2.0"``.
        datasets: Hub ids of the data sets that the router was fitted on.
        evaluation: what `Evaluation.to_dict` returns; its figures replace those of the
            cross-validation in the metadata.
        evaluated_on: name of the table that `evaluation` was made on.

    Raises:
        OptionError: a licence or a data set is not written as the Hub's metadata needs it.
    """

    terms: str = ""
    license: str | None = None
    datasets: Sequence[str] = ()
    evaluation: Mapping[str, Any] | None = None
    evaluated_on: str = "held-out table"

    def __post_init__(self) -> None:
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license):
            raise OptionError(
                f"licence {self.license!r}: write the Hub's identifier, such as apache-2.0 or other"
            )
        for name in self.datasets:
            if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
                raise OptionError(f"data set {name!r}: write its Hub id, such as openai/gsm8k")


def model_card(
    state: RouterState,
    *,
    terms: str = "",
    hub_id: str | None = None,
    card_facts: CardFacts | None = None,
) -> str:
    """Return the Markdown of a router folder's README.md.

    Args:
        state: the router.
        terms: paragraph on the terms of the training data; by default that of `card_facts`, or a
            line that says that the card's author has not stated them.
        hub_id: of the repository that the router is published in.
        card_facts: what else the card says.
    """
    provenance, card_facts = state.provenance, card_facts or CardFacts()
    lines = [
        "---",
        *_metadata(state, card_facts).splitlines(),
        "---",
        f"# {_line(state.library.name)}",
        "",
        f"A [Tryage](https://arxiv.org/abs/2308.11601) router over {len(state.library)} experts.",
        "",
        *_usage(state, hub_id),
        "",
        "## Experts",
        "",
        "| expert | task | parameters | released | license |",
        "|---|---|---|---|---|",
    ]
    for expert in state.library:
        size = "" if expert.parameters is None else format_count(expert.parameters)
        cells = (expert.name, expert.task, size, expert.released or "", expert.license or "")
        lines.append("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Training", ""]
    if not provenance.get("validation") and "predictor" not in provenance:
        lines.append("Nothing was measured: it decides by goals and limits alone.")
    if "predictor" in provenance:
        lines.append(
            f"Predictor `{provenance['predictor']}` on encoder `{provenance['encoder']}`, seed "
            f"{provenance['seed']}; {provenance['prompts']} prompts, "
            f"{provenance['cells']} measured cells ({provenance['kind']}), "
            f"data SHA-256 `{provenance['data_sha256'] or 'not stated'}`."
        )
    for sentence in distilled_from(provenance):
        lines += ["", sentence]
    for task, choice in provenance.get("choice", {}).items():
        regrets = ", ".join(
            f"{name} {regret:.4f}" for name, regret in _with_value(choice["outer_regret"])
        )
        lines += [
            "",
            f"For {task} `auto` chose `{choice['chosen']}`{_sample(choice)}; regret on outer "
            f"folds: {regrets}.",
        ]
        trial = choice.get("embedding-bag")
        if trial is not None and trial["tried"]:
            lines[-1] += (
                f" On one fold `embedding-bag` had {trial['regret']:.4f}, the procedure for the "
                f"other kinds {trial['quick_regret']:.4f}."
            )
    for task, row in provenance.get("validation", {}).items():
        lines += ["", f"Cross-validated, {task}:", "", *_row_table(row)]
    policy = state.policy.to_dict()
    if policy:
        lines += ["", "## Policy", "", "Holds unless another is passed to `from_pretrained`:", ""]
        lines += [f"- {key.replace('_', ' ')}: {_listed(value)}" for key, value in policy.items()]
    holds = "prompts" if state.training_prompts else "no prompt"
    unstated = f"Not stated. The folder holds {holds} of the training data."
    lines += ["", _TERMS, "", terms or card_facts.terms or unstated]
    return "\n".join(lines) + "\n"


def _sample(choice: Mapping[str, Any]) -> str:
    """Return on how many prompts a predictor was chosen, where these were a sample."""
    sample = choice.get("sample")
    if sample is None:
        return ""
    return f" on a sample of {sample['prompts']:,} of {sample['of']:,} prompts"


def stated_terms(card: str) -> str:
    """Return the paragraph on the terms of the training data in a card; empty if it has none."""
    text = card.partition(f"\n{_TERMS}\n")[2].partition("\n## ")[0].strip()
    return "" if text.startswith("Not stated.") else text


def _line(text: object) -> str:
    """Return a text of the router on one line: a line of its own could end metadata or a table."""
    return " ".join(str(text).split())


def _usage(state: RouterState, hub_id: str | None) -> list[str]:
    fills = all(task == "fill-mask" for task in state.library.tasks)
    prompt = "The capital of France is [MASK]." if fills else "What is the capital of France?"
    load = f'"{hub_id}", download=True' if hub_id else '"FOLDER"'
    needs = "Needs `tryage` with the extra `hf`." if hub_id else "FOLDER is where this file lies."
    return [
        "```python",
        "from tryage import Router",
        "",
        f"router = Router.from_pretrained({load})",
        f'print(router.route("{prompt}").explain())',
        "```",
        "",
        needs,
    ]


def _metadata(state: RouterState, card_facts: CardFacts) -> str:
    """Return the YAML of the Hub: library, tags, licence, data sets, and figures of each task."""
    metadata: dict[str, Any] = {"library_name": "tryage", "tags": ["tryage", "routing"]}
    if card_facts.license is not None:
        metadata["license"] = card_facts.license
    if card_facts.datasets:
        metadata["datasets"] = list(card_facts.datasets)
    results = [
        {
            "task": {"type": task},
            "dataset": {"type": "tryage-score-table", "name": name},
            "metrics": metrics,
        }
        for task, name, row in _evaluated(state, card_facts)
        if (metrics := list(_metrics(row)))
    ]
    if results:
        metadata["model-index"] = [{"name": _line(state.library.name), "results": results}]
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)


def _evaluated(
    state: RouterState, card_facts: CardFacts
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each evaluated task, the name of its table, and the router's figures."""
    if card_facts.evaluation is None:
        for task, row in state.provenance.get("validation", {}).items():
            yield task, "training table, cross-validated", row
        return
    tasks = card_facts.evaluation.get("tasks") or {
        next(iter(state.predictors)): card_facts.evaluation
    }
    for task, report in tasks.items():
        yield task, card_facts.evaluated_on, report["router"]


def _metrics(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, name in _METRICS.items():
        value = row.get(key)
        if isinstance(value, int | float):
            yield {"type": key, "name": name, "value": round(float(value), 6)}


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={number:g}" for name, number in value.items())
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _with_value(regrets: dict[str, float | None]) -> list[tuple[str, float]]:
    return [(name, regret) for name, regret in regrets.items() if regret is not None]


def _row_table(row: dict[str, Any]) -> list[str]:
    numbers = {key: value for key, value in row.items() if isinstance(value, float)}
    if not numbers:
        return ["(no figures)"]
    return [
        "| " + " | ".join(key.replace("_", " ") for key in numbers) + " |",
        "|" + "---|" * len(numbers),
        "| " + " | ".join(f"{value:.4f}" for value in numbers.values()) + " |",
    ]
