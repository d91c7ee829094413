"""The model card of a router folder: its experts, validation and training data."""

from __future__ import annotations

from typing import Any

from tryage.persistence import RouterState
from tryage.units import format_count


def model_card(state: RouterState, *, terms: str = "") -> str:
    """Return the Markdown of a router folder's README.md.

    Args:
        state: the router.
        terms: paragraph on the terms of the training data; by default a line that says that the
            card's author has not stated them.
    """
    provenance = state.provenance
    lines = [
        "---",
        "library_name: tryage",
        "tags: [tryage, routing]",
        "---",
        f"# {state.library.name}",
        "",
        f"A Tryage router over {len(state.library)} experts. Load it with "
        "`Router.from_pretrained(FOLDER)`.",
        "",
        "## Experts",
        "",
        "| expert | task | parameters | released | license |",
        "|---|---|---|---|---|",
    ]
    for expert in state.library:
        size = "" if expert.parameters is None else format_count(expert.parameters)
        cells = (expert.name, expert.task, size, expert.released or "", expert.license or "")
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", "## Training", ""]
    if not provenance.get("validation") and "predictor" not in provenance:
        lines.append("Nothing was measured: it decides by goals and limits alone.")
    if "predictor" in provenance:
        lines.append(
            f"Predictor `{provenance['predictor']}` on encoder `{provenance['encoder']}`, seed "
            f"{provenance['seed']}; {provenance['prompts']} prompts, "
            f"{provenance['cells']} measured cells ({provenance['kind']}), "
            f"data SHA-256 `{provenance['data_sha256']}`."
        )
    for task, choice in provenance.get("choice", {}).items():
        regrets = ", ".join(
            f"{name} {regret:.4f}" for name, regret in _with_value(choice["outer_regret"])
        )
        lines += [
            "",
            f"For {task} `auto` chose `{choice['chosen']}`; regret on outer folds: {regrets}.",
        ]
    for task, row in provenance.get("validation", {}).items():
        lines += ["", f"Cross-validated, {task}:", "", *_row_table(row)]
    policy = state.policy.to_dict()
    if policy:
        lines += ["", "## Policy", "", "Holds unless another is passed to `from_pretrained`:", ""]
        lines += [f"- {key.replace('_', ' ')}: {_listed(value)}" for key, value in policy.items()]
    lines += ["", "## Terms of the training data", ""]
    lines.append(terms or "Not stated. The folder holds no prompt of the training data.")
    return "\n".join(lines) + "\n"


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
