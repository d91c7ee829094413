"""The tables of `docs/paper.md`, from the results."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import fill_in

from paper.results import RIVALS

logger = logging.getLogger("paper")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "paper.md"
FIGURE = ROOT / "docs" / "paper-front.png"

WAYS = {
    "oracle": "oracle *",
    "transformer": "**`transformer`**: a fine-tuned encoder, as in the paper",
    "auto": "**`auto`** on the bundled static encoder",
    "domain_classifier": "domain classifier, then the domain's best expert",
    "domain_classifier_of_prompts": "the same, trained on the router's prompts",
    "cards": "nearest model card by embedding, as Gorilla does",
    "best_single": "best single expert *",
    "best_single_of_train": "best single expert of the training prompts",
    "group_best": "best expert of the domain *, given the label",
    "random": "random",
}
"""The rows, as the tables name them; a language model's row stands under its own name."""

TITLES = {
    "documents": "Whole documents",
    "excerpts": "Excerpts of 80 to 160 characters",
    "mixtures": "Mixtures of two domains",
}

Tables = dict[str, str]
"""Name of the marks → what stands between them."""


def marks(name: str) -> tuple[str, str]:
    """The marks that a table stands between."""
    return f"<!-- paper {name}: begin -->", f"<!-- paper {name}: end -->"


def fill_page(results: Path) -> None:
    """Fill in every table of the page."""
    for name, text in tables(results).items():
        outcome = "filled in" if fill_in(PAGE, text, marks(name)) else "has no marks"
        logger.info("%s: %s", name, outcome)


def tables(results: Path) -> Tables:
    """Return every table, by the name of its marks."""
    figures = json.loads((results / "paper.json").read_text(encoding="utf-8"))
    experts = json.loads((results / "paper_experts.json").read_text(encoding="utf-8"))
    return {
        "experts": _experts(figures, experts),
        "choices": _choices(figures),
        "domains": _domains(figures),
        "matrix": _matrix(figures),
        "reliability": _reliability(figures),
        "size": _size(figures),
    }


def _experts(results: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    lines = [
        "| expert | parameters | training, CPU s (wall s) | loss: documents | excerpts | mixtures "
        "| words correct in documents, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in made["experts"].items():
        losses = [
            f"{results['groups'][group]['single_experts'][name]['loss']['mean']:.3f}"
            for group in TITLES
        ]
        right = results["groups"]["documents"]["single_experts"][name]["accuracy"]["mean"]
        seconds = entry["training_seconds"]
        lines.append(
            f"| {name} | {entry['parameters']:,} | {seconds['cpu']:.0f} ({seconds['wall']:.0f}) "
            f"| {' | '.join(losses)} | {100 * right:.1f} |"
        )
    total = {
        kind: sum(entry["training_seconds"][kind] for entry in made["experts"].values()) / 60
        for kind in ("cpu", "wall")
    }
    measuring = sum(entry["measuring_cpu_seconds"] for entry in made["experts"].values()) / 60
    lines += [
        "",
        f"Training all {len(made['experts'])}: {total['cpu']:.0f} minutes of CPU time, two at a "
        f"time on one thread each ({total['wall'] / 2:.0f} minutes of wall time on the loaded "
        f"machine that it ran on); measuring them: {measuring:.0f} minutes of CPU time. "
        f"{made['machine']}, Python {made['python']}.",
    ]
    return "\n".join(lines)


def _choices(results: Mapping[str, Any]) -> str:
    blocks = []
    for group, title in TITLES.items():
        part = results["groups"][group]
        single = part["ways"]["best_single"]["regret"]["mean"]
        lines = [
            f"**{title}** ({part['prompts']} prompts; ceiling {_percent(part['ceiling'])}):",
            "",
            "| chosen by | selection accuracy, % | of the ceiling, % | strict, % "
            "| regret, bits per byte | of best single's, % | words correct, % "
            "| regret below the domain classifier's | below the second classifier's |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, label in _labels(part["ways"]).items():
            row = part["ways"][name]
            regret = row["regret"]
            gains = " | ".join(_gain(row["regret_below"][rival]) for rival in RIVALS)
            lines.append(
                f"| {label} | {_percent(row['selection_accuracy'])} "
                f"| {100 * part['share_of_ceiling'][name]:.1f} "
                f"| {100 * row['strict_selection_accuracy']['mean']:.1f} "
                f"| {regret['mean']:.4f} ({regret['ci95'][0]:.4f} to {regret['ci95'][1]:.4f}) "
                f"| {_share(regret['mean'], single)} | {_percent(row['accuracy'])} "
                f"| {gains} |"
            )
        blocks.append("\n".join(lines))
    counts = results["prompts"]["train"]
    blocks.append(
        "Macro averages over the nine domains (a mixture counts for its first half), with 95 % "
        "bootstrap intervals. \\* chosen in hindsight: an upper bound.\n\n"
        f"Fitted on {sum(counts.values())} prompts; seeds: experts {results['seeds']['experts']}, "
        f"predictors {results['seeds']['predictors']}; runs on the test prompts: "
        f"{results['test_runs']}."
    )
    return "\n\n".join(blocks)


def _labels(ways: Mapping[str, Any]) -> dict[str, str]:
    prompted = {
        name: f"asking {name.partition(':')[2]} to pick from the cards"
        for name in ways
        if name.startswith("prompted:")
    }
    labels = {name: label for name, label in WAYS.items() if name in ways}
    return labels | prompted


def _percent(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{100 * figure['mean']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _gain(pair: Mapping[str, Any]) -> str:
    return f"{pair['difference']:+.4f} ({pair['ci95'][0]:+.4f} to {pair['ci95'][1]:+.4f})"


def _share(value: float, of: float) -> str:
    return f"{100 * value / of:.1f}" if of else "-"


def _routers(results: Mapping[str, Any]) -> list[str]:
    return [name for name in ("transformer", "auto") if name in results["size"]]


def _domains(results: Mapping[str, Any]) -> str:
    names = [*_routers(results), "domain_classifier"]
    head = [f"{group}: {name.replace('_', ' ')}" for group in _TWO for name in names]
    lines = [
        f"| selection accuracy, % | {' | '.join(head)} |",
        "|---|" + "---|" * len(head),
    ]
    ways = {group: results["groups"][group]["ways"] for group in _TWO}
    for domain in ways["documents"]["oracle"]["regret"]["domains"]:
        cells = [
            f"{100 * ways[group][name]['selection_accuracy']['domains'][domain]:.0f}"
            for group in _TWO
            for name in names
        ]
        lines.append(f"| {domain} | {' | '.join(cells)} |")
    return "\n".join(lines)


_TWO = ("documents", "excerpts")


def _matrix(results: Mapping[str, Any]) -> str:
    name = _routers(results)[0]
    blocks = []
    for group in _TWO:
        lines = [
            f"| {group} of | `{name}` chooses | best is |",
            "|---|---|---|",
        ]
        matrices = results["groups"][group]["matrix"]
        for domain, row in matrices[name].items():
            best = matrices["oracle"][domain]
            lines.append(f"| {domain} | {_share_of(row)} | {_share_of(best)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _share_of(row: Mapping[str, int]) -> str:
    ordered = sorted(row.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _reliability(results: Mapping[str, Any]) -> str:
    lines = [
        "| prompts | predictor | mean absolute error | rank correlation of experts "
        "| mean gap between predicted and measured tenths |",
        "|---|---|---|---|---|",
    ]
    for group in TITLES:
        for name in _routers(results):
            row = results["groups"][group]["prediction"][name]
            lines.append(
                f"| {group} | `{name}` | {row['mae']:.3f} | {row['spearman']:.3f} "
                f"| {row['decile_gap']:.3f} |"
            )
    return "\n".join(lines)


def _size(results: Mapping[str, Any]) -> str:
    lines = [
        "| router | how | loss | mean parameters of the chosen | times smaller |",
        "|---|---|---|---|---|",
    ]
    for name in _routers(results):
        rows = results["size"][name]
        free = rows["without_flag"]
        lines.append(f"| `{name}` | no flag | {free['loss']:.3f} | {free['size']:,.0f} | 1.00 |")
        for flag, row in rows["flags"].items():
            lines.append(
                f"| `{name}` | `{flag}` | {row['loss']:.3f} ({_change(row['loss'], free)}) "
                f"| {row['size']:,.0f} | {free['size'] / row['size']:.2f} |"
            )
        for share, row in rows["given_up"].items():
            loss = free["loss"] * (1 + row["loss_given_up"])
            lines.append(
                f"| `{name}` | weight {row['weight']:.3g}, to give up {share} "
                f"| {loss:.3f} ({100 * row['loss_given_up']:+.1f} %) "
                f"| {row['size']:,.0f} | {row['times_smaller']:.2f} |"
            )
    return "\n".join(lines)


def _change(loss: float, free: Mapping[str, float]) -> str:
    return f"{100 * (loss / free['loss'] - 1):+.1f} %"
