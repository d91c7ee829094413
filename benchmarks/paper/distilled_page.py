"""The table of `docs/paper.md` on distillation, from its results."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import fill_in

from paper.page import PAGE, TITLES, marks

logger = logging.getLogger("paper")

NAME = "distilled"

ROWS = {
    "transformer": "`transformer`, the teacher",
    "distilled": "**`embedding-bag`, its student**",
    "embedding_bag": "`embedding-bag` without a teacher",
    "domain_classifier": "domain classifier",
    "domain_classifier_of_prompts": "the same, trained on the router's prompts",
}


def fill_page(results: Path) -> None:
    """Fill in the table of the page."""
    outcome = "filled in" if fill_in(PAGE, table(results), marks(NAME)) else "has no marks"
    logger.info("%s: %s", NAME, outcome)


def table(results: Path) -> str:
    """Return the table: what student, teacher and rivals attain on each group of prompts."""
    figures = json.loads((results / "paper_distilled.json").read_text(encoding="utf-8"))
    blocks = []
    for group, title in TITLES.items():
        part = figures["groups"][group]
        single = part["ways"]["best_single"]["regret"]["mean"]
        lines = [
            f"**{title}** ({part['prompts']} prompts):",
            "",
            "| chosen by | selection accuracy, % | of the teacher's, % | regret, bits per byte "
            "| of best single's, % | regret below the second classifier's |",
            "|---|---|---|---|---|---|",
        ]
        teacher = part["ways"]["transformer"]["selection_accuracy"]["mean"]
        for name, label in ROWS.items():
            row = part["ways"][name]
            accuracy, regret = row["selection_accuracy"], row["regret"]
            gain = row["regret_below"]["domain_classifier_of_prompts"]
            lines.append(
                f"| {label} | {100 * accuracy['mean']:.1f} ({_range(accuracy, 100, 1)}) "
                f"| {100 * accuracy['mean'] / teacher:.1f} "
                f"| {regret['mean']:.4f} ({_range(regret, 1, 4)}) "
                f"| {100 * regret['mean'] / single:.1f} "
                f"| {gain['difference']:+.4f} ({gain['ci95'][0]:+.4f} to {gain['ci95'][1]:+.4f}) |"
            )
        pair = part["teacher_minus_student"]
        low, high = pair["ci95"]
        lines += [
            "",
            f"The teacher's regret minus the student's, prompt by prompt: "
            f"{pair['difference']:+.4f} ({low:+.4f} to {high:+.4f}).",
        ]
        blocks.append("\n".join(lines))
    blocks.append(_made(figures))
    return "\n\n".join(blocks)


def _range(figure: Mapping[str, Any], factor: float, digits: int) -> str:
    low, high = figure["ci95"]
    return f"{factor * low:.{digits}f} to {factor * high:.{digits}f}"


def _made(figures: Mapping[str, Any]) -> str:
    times, agreement = figures["milliseconds"], figures["agreement"]
    tried = ", ".join(
        f"{name}: {regret:.4f}" for name, regret in figures["student"]["regret_on_valid"].items()
    )
    valid = figures["regret_on_valid"]
    return (
        f"{figures['unlabelled']:,} unlabelled prompts; teacher: {figures['teacher']['epochs']} "
        f"rounds. Regret on the validation prompts, by unlabelled mixtures of each domain and the "
        f"teacher's weight: {tried}; teacher {valid['transformer']:.4f}, without a teacher "
        f"{valid['embedding_bag']:.4f}. Judged: {figures['student']['chosen']}. On "
        f"{agreement['prompts']:,} other unlabelled prompts the student chooses as the teacher on "
        f"{100 * agreement['same_choice']:.1f} %. A decision takes {times['distilled']:.2f} ms "
        f"(teacher {times['transformer']:.1f} ms; median of the fastest of five passes over single "
        f"prompts; {figures['machine']}). Runs on the test prompts: {figures['test_runs']}."
    )
