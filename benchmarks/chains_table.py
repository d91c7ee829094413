"""The tables of `docs/chains.md`, from `benchmarks/chains.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "chains.md"
MARKS = ("<!-- chains: begin -->", "<!-- chains: end -->")

AIMS = {"none": 0.95, "neutral": 0.95, "long": 0.95, "questions of its own": 0.85}
"""Share of the bare figure that is aimed at, by kind of context."""

MOST_ADDED_MS = 0.3
"""Milliseconds that looking for the question may add to a prompt of 10,000 characters."""


def table(results: dict[str, Any]) -> str:
    """Return all tables."""
    return "\n".join(
        [
            *_templates(results),
            "",
            *_each(results),
            "",
            *_others(results),
            "",
            *_open7(results),
            "",
            *_hostile(results["hostile"]),
            "",
            *_speed(results),
            "",
            *_missed(results),
        ]
    )


def missed(results: dict[str, Any]) -> list[str]:
    """Return the aims that the figures miss, each with its figure."""
    bare = results["bare"]["share"]
    notes = []
    for name, part in results["templates"].items():
        for kind, row in part["kinds"].items():
            relative = row["share"] / bare
            if relative < AIMS[kind]:
                notes.append(
                    f"templates {_set(name)}, context {kind}: {relative:.1%} of the bare figure, "
                    f"aim {AIMS[kind]:.0%}"
                )
    for name, looks in results["first_looks"].items():
        notes += [
            f"templates {_set(name)} when held out, context {kind}: {looks[kind]:.1%}, aim "
            f"{AIMS[kind]:.0%}"
            for kind in AIMS
            if looks[kind] < AIMS[kind]
        ]
    for row in results["speed"]["rows"]:
        if row["characters"] > 9_000 and row["added_ms"] > MOST_ADDED_MS:
            notes.append(
                f"{row['prompt']}, router {row['router']}: {row['added_ms']:.2f} ms added at "
                f"{row['characters']:,} characters, aim {MOST_ADDED_MS} ms"
            )
    return notes


def _set(name: str) -> str:
    return f"of the {name} set"


def _templates(results: dict[str, Any]) -> list[str]:
    bare = results["bare"]
    kinds = list(AIMS)
    lines = [
        f"Bare, {bare['right']} of {bare['of']} questions go to the right expert "
        f"({_share(bare)}). In ten templates each, by kind of context, with what routing by the "
        "whole prompt gives:",
        "",
        f"| templates | {' | '.join(kinds)} | whole prompt: {' | '.join(kinds)} |",
        "|---" * (1 + 2 * len(kinds)) + "|",
    ]
    for name, part in results["templates"].items():
        cells = [_share(part["kinds"][kind]) for kind in kinds]
        cells += [f"{part['kinds'][kind]['whole']['share']:.1%}" for kind in kinds]
        lines.append(f"| {_set(name)} | {' | '.join(cells)} |")
    parts = [
        f"{_set(name)} "
        + ", ".join(f"{part['kinds'][k]['share'] / bare['share']:.1%} ({k})" for k in kinds)
        for name, part in results["templates"].items()
    ]
    lines += [
        "",
        f"As shares of the bare figure: {'; '.join(parts)}. In brackets 95 % intervals (Wilson), "
        "which take every choice for a draw of its own; the questions are the same "
        f"{bare['of']} in every template.",
    ]
    lines += ["", f"| when held out | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for name, looks in results["first_looks"].items():
        lines.append(f"| {_set(name)} | {' | '.join(f'{looks[kind]:.1%}' for kind in kinds)} |")
    lines += [
        "",
        "The last table holds the same shares, measured on templates and contexts that no rule had "
        "been written for. After each of these measurements the rules were improved.",
    ]
    return lines


def _each(results: dict[str, Any]) -> list[str]:
    kinds = list(AIMS)
    lines = [f"| template | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for part in results["templates"].values():
        for template, row in part["templates"].items():
            cells = [f"{row[kind][0] / row[kind][1]:.1%}" for kind in kinds]
            lines.append(f"| {template} | {' | '.join(cells)} |")
    return lines


def _others(results: dict[str, Any]) -> list[str]:
    kinds = [kind for kind in AIMS if kind != "none"]
    lines = [f"| way | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for way, row in results["others"]["chains"].items():
        lines.append(f"| {way} | {' | '.join(_share(row[kind]) for kind in kinds)} |")
    lines += ["", "| agent, two model calls a question | right choices |", "|---|---|"]
    lines += [f"| {way} | {_share(row)} |" for way, row in results["others"]["agents"].items()]
    return lines


def _open7(results: dict[str, Any]) -> list[str]:
    if results["open7"] is None:
        return ["The data for `open7` were not at hand."]
    kinds = list(AIMS)
    lines = [
        "The bundled `open7`, by how often it chooses as on the bare prompt of its test set:",
        "",
        f"| templates | {' | '.join(kinds)} | whole prompt: {' | '.join(kinds)} |",
        "|---" * (1 + 2 * len(kinds)) + "|",
    ]
    for name, row in results["open7"].items():
        cells = [_share(row[kind]) for kind in kinds]
        cells += [f"{row[kind]['whole']['share']:.1%}" for kind in kinds]
        lines.append(f"| {_set(name)} | {' | '.join(cells)} |")
    return lines


def _hostile(row: dict[str, Any]) -> list[str]:
    lines = [
        "| a document that holds a question of its own as | choices taken, all templates | "
        "templates in which it never takes one | in which it takes nearly all |",
        "|---|---|---|---|",
    ]
    total = row["asked"]
    for attack, wins in row["taken"].items():
        counts = list(wins.values())
        share = sum(counts) / (total * len(counts))
        never = sum(count <= 0.05 * total for count in counts)
        always = sum(count >= 0.9 * total for count in counts)
        lines.append(f"| {attack} | {share:.1%} | {never} | {always} |")
    worst = [
        name
        for name in next(iter(row["taken"].values()))
        if max(wins[name] for wins in row["taken"].values()) >= 0.5 * total
    ]
    flag = row["right_beside_a_flag"]
    return [
        *lines,
        "",
        f"{total} questions in each of {row['templates']} templates; a choice is taken "
        "if the expert of the document's question gets the prompt. Never means at most 5 %, which "
        f"chance explains. Some document takes half of the choices or more in: {', '.join(worst)}. "
        f"Beside a document with flags {flag['right']} of {flag['of']} choices are right, and no "
        "flag acts.",
    ]


def _speed(results: dict[str, Any]) -> list[str]:
    lines = [
        "| prompt | router | characters | whole unfamiliar | predicted as a whole, ms | with the "
        "look for the question, ms | added, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["speed"]["rows"]:
        whole, question = row["whole_ms"], row["question_ms"]
        lines.append(
            f"| {row['prompt']} | {row['router']} | {row['characters']:,} | "
            f"{'yes' if row['out_of_distribution'] else 'no'} | "
            f"{whole['median']:.3f} ({whole['least']:.3f}) | "
            f"{question['median']:.3f} ({question['least']:.3f}) | {row['added_ms']:.3f} "
            f"({question['least'] - whole['least']:.3f}) |"
        )
    lines += [
        "",
        "| 2,000 characters of context | expert alone, ms | routed, ms | added, ms |",
        "|---|---|---|---|",
    ]
    for way, row in results["overhead"].items():
        direct, routed = row["direct"], row["routed"]
        lines.append(
            f"| {way} | {direct['median']:.3f} ({direct['least']:.3f}) | "
            f"{routed['median']:.3f} ({routed['least']:.3f}) | {row['added_ms']:.3f} "
            f"({routed['least'] - direct['least']:.3f}) |"
        )
    return [
        *lines,
        "",
        f"Medians of {results['speed']['rounds']} alternating calls; minima in brackets. "
        f"Python {results['python']}, {results['machine']}, "
        f"load average {results['load_average']}.",
    ]


def _missed(results: dict[str, Any]) -> list[str]:
    notes = missed(results)
    if not notes:
        return ["No aim is missed."]
    return ["Aims that are missed:", "", *(f"- {note}" for note in notes)]


def _share(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{row['share']:.1%} ({100 * low:.1f} to {100 * high:.1f})"
