"""Measure the bundled router open7 on its test prompts, beside every reference row.

::

    python benchmarks/routing.py              # measure, write results/routing.json, fill in tables
    python benchmarks/routing.py --render     # fill in tables from the results that are there

The configuration was fixed by cross-validation on the training prompts (`validation` in the
results) before the first run on the test prompts; the results say how often those were used.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from data import BEGIN, END, data_folder, fill_in

from tryage import Router, ScoreTable
from tryage.encoders import StaticEncoder
from tryage.evaluation import row_of
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells, outcomes
from tryage.training import validate

logger = logging.getLogger("routing")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "routing.json"
TABLES = (HERE.parent / "README.md", HERE.parent / "tryage" / "pretrained" / "open7" / "README.md")

TEST_RUNS = 4
"""How often any configuration was measured on the test prompts: this one, the same twice while the
evaluation was checked, and an unfinished encoder once (57.17). Nothing was chosen by them."""

KINDS = ("clusters", "nearest", "linear", "best-single")

ROWS = {
    "random": "random",
    "best_single": "best single expert *",
    "shuffled_labels": "shuffled labels",
    "nearest": "nearest (80 prompts)",
    "router": "**open7 (clusters, bundled encoder, no label)**",
    "group_best_of_train": "group best, chosen on train (needs the label)",
    "group_best": "group best * (needs the label)",
    "oracle": "oracle *",
}


def group_best_of_train(train: ScoreTable, test: ScoreTable) -> np.ndarray[Any, Any]:
    """Return, for each test prompt, the column that is best on its group's training prompts."""
    groups = np.array(train.groups)
    best = {name: int(train.losses[groups == name].mean(axis=0).argmin()) for name in set(groups)}
    return np.array([best[str(name)] for name in test.groups])


def measure(router: Router, train: ScoreTable, test: ScoreTable) -> dict[str, Any]:
    """Return the evaluation's object, with one row more: group best chosen on train."""
    found: dict[str, Any] = router.evaluate(test, train=train).to_dict()
    label = group_best_of_train(train, test)
    found["references"]["group_best_of_train"] = row_of(test, label)
    experts = list(test.experts)
    decisions = router.route_batch(test.prompts, flags=False)
    chosen = np.array([experts.index(decision.expert) for decision in decisions])
    cells, _ = measured_cells(test, None)
    gain = outcomes(cells, label).loss - outcomes(cells, chosen).loss
    interval = bootstrap_intervals([gain], cells, resamples=1000, seed=0)[0]
    found["paired"]["group_best_of_train"] = {
        "difference": float(macro_mean(gain, cells)),
        "ci95": list(interval) if interval else None,
    }
    found["out_of_distribution"] = float(np.mean([d.out_of_distribution for d in decisions]))
    found["share_of_prompts"] = {
        name: float(np.mean(chosen == column)) for column, name in enumerate(experts)
    }
    return found


def run(data: Path) -> dict[str, Any]:
    """Cross-validate the kinds on train, then measure the bundled router once on test."""
    train = ScoreTable.read(data / "routing" / "open7_train.jsonl.gz")
    test = ScoreTable.read(data / "routing" / "open7_test.jsonl.gz").reorder(train.experts)
    encoder = StaticEncoder.bundled()
    validation = {kind: validate(train, kind, encoder, seed=0) for kind in KINDS}
    router = Router.from_pretrained("open7")
    seen = set(train.prompts)
    parts = {
        "open7_test": np.ones(len(test), dtype=bool),
        "without_humaneval": np.array([group != "humaneval" for group in test.groups]),
        "without_prompts_of_train": np.array([prompt not in seen for prompt in test.prompts]),
    }
    return {
        "command": "python benchmarks/routing.py",
        "versions": {name: version(name) for name in ("tryage", "numpy", "tokenizers")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": 0,
        "train_prompts": len(train),
        "train_sha256": train.hash,
        "test_sha256": test.hash,
        "test_runs": TEST_RUNS,
        "validation": validation,
        "test": {name: measure(router, train, test.select(part)) for name, part in parts.items()},
    }


def table(results: dict[str, Any]) -> str:
    """Return the Markdown table of the results, with its caption."""
    found = results["test"]["open7_test"]
    smaller = results["test"]["without_humaneval"]
    lines = [
        "| router | score, % | 95 % | selection accuracy, % | regret, % | without HumanEval |",
        "|---|---|---|---|---|---|",
    ]
    for key, label in ROWS.items():
        row = found["router"] if key == "router" else found["references"][key]
        other = smaller["router"] if key == "router" else smaller["references"][key]
        low, high = (100 * value for value in row["score_ci95"])
        lines.append(
            f"| {label} | {100 * row['score']:.2f} | {low:.1f} to {high:.1f} "
            f"| {100 * row['selection_accuracy']:.1f} | {100 * row['regret']:.2f} "
            f"| {100 * other['score']:.2f} |"
        )
    pairs = []
    for part in (found, smaller):
        pair = part["paired"]["group_best_of_train"]
        low, high = (100 * value for value in pair["ci95"])
        pairs.append(f"{100 * pair['difference']:+.2f} ({low:.2f} to {high:.2f})")
    groups = ", ".join(
        f"{name} {100 * group['score']:.1f}" for name, group in sorted(found["groups"].items())
    )
    clean = results["test"]["without_prompts_of_train"]
    lines += [
        "",
        f"open7_test: {found['prompts']} prompts, mean over {len(found['groups'])} groups of the "
        "group's mean; higher is better, regret lower. Intervals: bootstrap over prompts within "
        "groups. * chosen on the test prompts themselves: an upper bound, not a router. "
        f"The router by group: {groups}. Router minus group best chosen on train, paired: "
        f"{pairs[0]}; without HumanEval: {pairs[1]}. Without the "
        f"{found['prompts'] - clean['prompts']} test prompts that stand in train too: "
        f"{100 * clean['router']['score']:.2f}. Runs on the test prompts: {results['test_runs']}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--render", action="store_true", help="fill in tables, measure nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not args.render:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(run(data_folder()), indent=1) + "\n", encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = table(results)
    for path in TABLES:
        logger.info(
            "%s: %s",
            path.name,
            "filled in" if fill_in(path, text, (BEGIN, END)) else "has no marks",
        )
    logger.info("%s", text)


if __name__ == "__main__":
    main()
