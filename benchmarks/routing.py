"""Measure the bundled router open7 on its test prompts, beside every reference row.

::

    python benchmarks/routing.py                  # measure, write results/routing.json, fill in
                                                  # tables
    python benchmarks/routing.py --minilm DIR     # and `auto` over all-MiniLM-L6-v2 in a folder
    python benchmarks/routing.py --minilm DIR --transformer     # and that model fine-tuned
    python benchmarks/routing.py --render         # fill in tables from the results that are there

The configuration was fixed by cross-validation on the training prompts (`validation` in the
results) before the first run on the test prompts; the results say how many were.
Vectors of all-MiniLM-L6-v2 take minutes and are kept in Tryage's cache.

Exits with 1 where a figure misses its aim, see `missed`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import reliability
from data import BEGIN, END, data_folder, fill_in, provenance
from numpy.typing import NDArray
from publishing import status
from vectors import StoredEncoder

from tryage import Router, ScoreTable
from tryage.encoders import SentenceEncoder, StaticEncoder
from tryage.evaluation import row_of
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells, outcomes
from tryage.predictors import Predictor, TransformerPredictor
from tryage.training import fit_and_validate, validate

logger = logging.getLogger("routing")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "routing.json"
PAGES = (
    HERE.parent / "README.md",
    HERE.parent / "tryage" / "pretrained" / "open7" / "README.md",
    HERE.parent / "docs" / "routing-results.md",
)
SHORT = ("<!-- routing in short: begin -->", "<!-- routing in short: end -->")
RELIABILITY = ("<!-- reliability: begin -->", "<!-- reliability: end -->")
LEVEL = {"open7_test": -0.0075, "without_humaneval": -0.01}
"""Part of the test → least paired difference to the best expert of each group, at 97.5 %."""

TASK = "text-generation"
TIMED = 50
"""Prompts that are predicted for one by one to tell what one takes."""

CONFIGURATIONS = 5
"""How many configurations were ever measured on the test prompts: an unfinished encoder (57.17),
the bundled router before its clusters were shrunk towards coarser ones (58.51), as it is now,
`auto` over all-MiniLM-L6-v2, and that model fine-tuned. Each was fixed by cross-validation on the
training prompts before its first run there, and nothing was changed after it; runs are repeated
when the measuring changes."""

FINE_TUNING = {"max_tokens": 64, "epochs": 2}
"""Settings of `transformer`: those of the one fold that it was judged on before."""

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

OTHERS = {
    "auto_minilm": "`auto` over all-MiniLM-L6-v2 (chose {kind}), no label",
    "transformer": "`transformer`, all-MiniLM-L6-v2 fine-tuned, no label",
}
"""Rows that are there when they were asked for; they stand below the bundled router."""


def group_best_of_train(train: ScoreTable, test: ScoreTable) -> np.ndarray[Any, Any]:
    """Return, for each test prompt, the column that is best on its group's training prompts."""
    groups = np.array(train.groups)
    best = {name: int(train.losses[groups == name].mean(axis=0).argmin()) for name in set(groups)}
    return np.array([best[str(name)] for name in test.groups])


def paired(test: ScoreTable, label: NDArray[Any], chosen: NDArray[Any]) -> dict[str, Any]:
    """Return the score of some choices minus that of others, prompt by prompt."""
    cells, _ = measured_cells(test, None)
    gain = outcomes(cells, label).loss - outcomes(cells, chosen).loss
    interval = bootstrap_intervals([gain], cells, resamples=1000, seed=0)[0]
    return {
        "difference": float(macro_mean(gain, cells)),
        "ci95": list(interval) if interval else None,
    }


def measure(
    router: Router, others: dict[str, NDArray[Any]], train: ScoreTable, test: ScoreTable
) -> dict[str, Any]:
    """Return the evaluation's object, with more rows: group best chosen on train, and others.

    Args:
        router: the bundled one.
        others: name → (n, m) predicted losses.
        train: the table everything was fitted on.
        test: n prompts.
    """
    figures: dict[str, Any] = router.evaluate(test, train=train).to_dict()
    label = group_best_of_train(train, test)
    figures["references"]["group_best_of_train"] = row_of(test, label)
    experts = list(test.experts)
    decisions = router.route_batch(test.prompts, flags=False)
    chosen = np.array([experts.index(decision.expert) for decision in decisions])
    figures["paired"]["group_best_of_train"] = paired(test, label, chosen)
    figures["out_of_distribution"] = float(np.mean([d.out_of_distribution for d in decisions]))
    figures["others"] = {}
    for name, predicted in others.items():
        columns = predicted.argmin(axis=1)
        against = {"paired_group_best_of_train": paired(test, label, columns)}
        figures["others"][name] = row_of(test, columns) | against
    figures["reliability"] = {
        "router": reliability.figures(test, router.predict(test.prompts, task=TASK)),
        "group_means": reliability.figures(test, reliability.group_means(train, test)),
    }
    return figures


def learned(
    train: ScoreTable, prompts: tuple[str, ...], kind: str, encoder: Any
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Fit a predictor on train; return what it predicts of prompts, and what it cost."""
    start = time.perf_counter()
    fit = fit_and_validate(train, kind, encoder, 0)
    seconds = time.perf_counter() - start
    chosen = fit.choice["chosen"] if fit.choice else kind
    losses = _expected(fit.predictor, prompts)
    if isinstance(encoder, StoredEncoder):
        fit.predictor.encoder = encoder.behind  # what is kept from before takes no time
    details = {"kind": chosen, "validation": fit.validation, "fit_seconds": seconds}
    return losses, details | {"ms_per_prompt": _alone(fit.predictor, prompts)}


def fine_tuned(
    train: ScoreTable, prompts: tuple[str, ...], minilm: str
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Fine-tune on train, a tenth of it watched for early stopping; as `learned` otherwise."""
    start = time.perf_counter()
    fitted = TransformerPredictor(SentenceEncoder(minilm), seed=0, **FINE_TUNING)
    fitted.fit(train.prompts, train)
    details = {
        "kind": fitted.kind,
        "settings": FINE_TUNING,
        "held_out_objective": fitted.history_,
        "fit_seconds": time.perf_counter() - start,
    }
    return _expected(fitted, prompts), details | {"ms_per_prompt": _alone(fitted, prompts)}


def _expected(fitted: Predictor, prompts: tuple[str, ...]) -> NDArray[Any]:
    return fitted.predict(prompts).with_averages(fitted.averages_).mean["loss"]


def _alone(fitted: Predictor, prompts: tuple[str, ...]) -> float:
    """Return the milliseconds that one prompt takes, the median."""
    times = []
    for prompt in prompts[:TIMED]:
        start = time.perf_counter()
        fitted.predict([prompt])
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def run(data: Path, minilm: str | None, transformer: bool) -> dict[str, Any]:
    """Cross-validate the kinds on train, then measure each configuration once on test."""
    train = ScoreTable.read(data / "routing" / "open7_train.jsonl.gz")
    test = ScoreTable.read(data / "routing" / "open7_test.jsonl.gz").reorder(train.experts)
    encoder = StaticEncoder.bundled()
    validation = {kind: validate(train, kind, encoder, seed=0) for kind in KINDS}
    router = Router.from_pretrained("open7")
    others, costs = {}, {}
    if minilm is not None:
        name = "auto_minilm"
        others[name], costs[name] = learned(train, test.prompts, "auto", StoredEncoder(minilm))
    if minilm is not None and transformer:
        name = "transformer"
        others[name], costs[name] = fine_tuned(train, test.prompts, minilm)
    training_prompts = set(train.prompts)
    parts = {
        "open7_test": np.ones(len(test), dtype=bool),
        "without_humaneval": np.array([group != "humaneval" for group in test.groups]),
        "without_prompts_of_train": np.array(
            [prompt not in training_prompts for prompt in test.prompts]
        ),
    }
    return {
        "seed": 0,
        "train_prompts": len(train),
        "train_sha256": train.hash,
        "test_sha256": test.hash,
        "test_configurations": CONFIGURATIONS,
        "validation": validation,
        "others": costs,
        "interval_coverage": reliability.intervals(train, test, encoder),
        "test": {
            name: measure(router, {n: p[part] for n, p in others.items()}, train, test.select(part))
            for name, part in parts.items()
        },
    }


def line(label: str, row: dict[str, Any], other: dict[str, Any]) -> str:
    """Return a row of the table; `other` is the same row without HumanEval."""
    low, high = (100 * value for value in row["score_ci95"])
    return (
        f"| {label} | {100 * row['score']:.2f} | {low:.1f} to {high:.1f} "
        f"| {100 * row['selection_accuracy']:.1f} | {100 * row['regret']:.2f} "
        f"| {100 * other['score']:.2f} |"
    )


def signed(pair: dict[str, Any]) -> str:
    """Return a paired difference with its interval, in percent."""
    low, high = (100 * value for value in pair["ci95"])
    return f"{100 * pair['difference']:+.2f} ({low:.2f} to {high:.2f})"


def table(results: dict[str, Any]) -> str:
    """Return the Markdown table of the results, with its caption."""
    row = results["test"]["open7_test"]
    smaller = results["test"]["without_humaneval"]
    lines = [
        "| router | score, % | 95 % | selection accuracy, % | regret, % | without HumanEval |",
        "|---|---|---|---|---|---|",
    ]
    for key, label in ROWS.items():
        if key == "router":
            lines.append(line(label, row["router"], smaller["router"]))
            for name, cost in results["others"].items():
                title = OTHERS[name].format(kind=cost["kind"])
                lines.append(line(title, row["others"][name], smaller["others"][name]))
        else:
            lines.append(line(label, row["references"][key], smaller["references"][key]))
    paired = {"open7": [part["paired"]["group_best_of_train"] for part in (row, smaller)]}
    for name in results["others"]:
        paired[name.replace("_", " over ")] = [
            part["others"][name]["paired_group_best_of_train"] for part in (row, smaller)
        ]
    differences = "; ".join(
        f"{name} {signed(whole)}, without HumanEval {signed(part)}"
        for name, (whole, part) in paired.items()
    )
    groups = ", ".join(
        f"{name} {100 * group['score']:.1f}" for name, group in sorted(row["groups"].items())
    )
    clean = results["test"]["without_prompts_of_train"]
    lines += [
        "",
        f"open7_test: {row['prompts']} prompts, macro average over {len(row['groups'])} "
        "groups, bootstrap intervals. * chosen in hindsight on the test prompts: an upper bound.",
        "",
        f"- Minus group best chosen on train, paired: {differences}.",
        f"- open7 by group: {groups}. Without the {row['prompts'] - clean['prompts']} test "
        f"prompts that are in train too: {100 * clean['router']['score']:.2f}.",
        f"- Configurations ever measured on the test prompts: {results['test_configurations']}.",
    ]
    return "\n".join(lines)


SHORT_ROWS = {
    "random": "a random model",
    "best_single": "the best single model *",
    "router": "**the router**",
    "group_best": "the best model of each benchmark * (needs the label)",
    "oracle": "the best model of each prompt * (oracle)",
}


def short_table(results: dict[str, Any]) -> str:
    """Return the rows that a reader needs first, with plain heads."""
    row = results["test"]["open7_test"]
    lines = [
        "| chosen by | mean score, % | 95 % interval | chose a best model, % of prompts "
        "| score lost to the oracle |",
        "|---|---|---|---|---|",
    ]
    for key, label in SHORT_ROWS.items():
        part = row["router"] if key == "router" else row["references"][key]
        low, high = (100 * value for value in part["score_ci95"])
        lines.append(
            f"| {label} | {100 * part['score']:.1f} | {low:.1f} to {high:.1f} "
            f"| {100 * part['selection_accuracy']:.0f} | {100 * part['regret']:.1f} |"
        )
    lines += [
        "",
        f"{row['prompts']:,} prompts; every figure is the mean over {len(row['groups'])} "
        "benchmarks. * chosen with the results in sight: an upper bound.",
    ]
    return "\n".join(lines)


def reliability_table(results: dict[str, Any]) -> str:
    """Return the Markdown table of how far predicted losses can be relied on."""
    lines = [
        "| open7_test | squared error (Brier) | calibration error, pooled | mean over groups |",
        "|---|---|---|---|",
    ]
    rows = {"router": "open7", "group_means": "means of the groups in train (need the label)"}
    for key, label in rows.items():
        row = results["test"]["open7_test"]["reliability"][key]
        lines.append(
            f"| {label} | {row['brier']:.4f} | {row['calibration_error_pooled']:.4f} "
            f"| {row['calibration_error_by_group']:.4f} |"
        )
    held = results["interval_coverage"]
    lines += [
        "",
        f"`{results['command']}`",
        "",
        f"- Coverage of the 90 % intervals of cell means: {100 * held['exchangeable']:.1f} % on "
        f"the other half of the training prompts ({held['cells']} cells of {held['splits']} "
        "splits), "
        f"{100 * held['shifted']:.1f} % on open7_test, which mixes its groups differently.",
    ]
    lines += [
        f"- {name.replace('_', ' over ')}: {_fitted(cost)}; {cost['ms_per_prompt']:.1f} ms a "
        "decision (median)."
        for name, cost in results["others"].items()
    ]
    return "\n".join(lines)


def _fitted(cost: dict[str, Any]) -> str:
    seconds = cost["fit_seconds"]
    if "validation" in cost:
        how = "fitted and cross-validated"
        return f"{how} in {seconds:.0f} s (vectors kept from before not counted)"
    return f"fine-tuned in {seconds:.0f} s"


def missed(results: dict[str, Any]) -> list[str]:
    """Return the aims that are missed.

    open7 is level with the best expert of each group, though it is not told the group, and its
    predictions can be relied on as much as the groups' means.
    """
    reliability = results["test"]["open7_test"]["reliability"]
    figures = {
        f"lower end of the difference to group best on {part}": (
            results["test"][part]["paired"]["group_best_of_train"]["ci95"][0],
            (least, math.inf),
        )
        for part, least in LEVEL.items()
    }
    figures |= {
        "Brier score": (
            reliability["router"]["brier"],
            (0.0, reliability["group_means"]["brier"] + 0.002),
        ),
        "calibration error, pooled": (
            reliability["router"]["calibration_error_pooled"],
            (0.0, 0.03),
        ),
        "calibration error by group": (
            reliability["router"]["calibration_error_by_group"],
            (0.0, 0.05),
        ),
        "coverage of 90 % intervals": (results["interval_coverage"]["exchangeable"], (0.85, 0.95)),
    }
    return [
        f"{name} is {value:.4f}, not between {low:.4f} and {high:.4f}"
        for name, (value, (low, high)) in figures.items()
        if not low <= value <= high
    ]


def main() -> int:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2, for `auto` over it")
    parser.add_argument("--transformer", action="store_true", help="fine-tune that model, too")
    parser.add_argument("--render", action="store_true", help="fill in tables, measure nothing")
    args = parser.parse_args()
    if args.transformer and not args.minilm:
        parser.error("--transformer needs --minilm DIR, the model that it fine-tunes")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not args.render:
        RESULTS.parent.mkdir(exist_ok=True)
        command = "python benchmarks/routing.py" + " --minilm DIR" * bool(args.minilm)
        measured = run(data_folder(), args.minilm, args.transformer)
        results = provenance(command + " --transformer" * args.transformer) | measured
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    texts = {
        (BEGIN, END): table(results),
        SHORT: short_table(results),
        RELIABILITY: reliability_table(results),
    }
    for marks, text in texts.items():
        for path in PAGES:
            if fill_in(path, text, marks):
                logger.info("%s: filled in", path.name)
        logger.info("%s", text)
    return status(missed(results))


if __name__ == "__main__":
    sys.exit(main())
