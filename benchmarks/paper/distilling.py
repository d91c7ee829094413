"""A student of `transformer` on the paper's prompts, judged beside its teacher and the rivals.

::

    python -m paper.distilling --work FOLDER --encoder FOLDER    # in benchmarks/

The teacher is `transformer` with the settings of `python -m paper choose` in fewer rounds; it
predicts prompts that are cut from the router's training documents and that nobody measured. How
many mixtures are among these, and what its prediction weighs beside a measured loss, is chosen on
`valid`; then the student is judged on `test`. Teacher, predictions and students lie in --work, and
a run goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from data import data_folder

from paper.__main__ import RESULTS, WORK, provenance, write_json
from paper.choosing import Remembered, mean_regret, rivals
from paper.distilled_page import fill_page
from paper.plan import GROUPS, Plan, smoke
from paper.results import RESAMPLES, TRANSFORMER, counts, judge
from paper.table import Split, read_split
from paper.texts import cut_unlabelled
from tryage import Library, Router, ScoreTable
from tryage.distilling import (
    DEFAULT_STUDENT,
    Distillation,
    PredictionFile,
    distill_parts,
    teach,
)
from tryage.distilling.lessons import CHUNK
from tryage.encoders import SentenceEncoder, StaticEncoder
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells, outcomes
from tryage.experts import FILL_MASK
from tryage.objective import Objective, loss_spread
from tryage.persistence import INDEX
from tryage.predictors import Predictor, TransformerPredictor, make_predictor
from tryage.training import Candidate, goal_statistics

logger = logging.getLogger("paper")

TEST_RUNS = 2
"""How often a student was judged on the test prompts; the first had one mixture in ten prompts."""

TEACHER_EPOCHS = 3
"""Rounds of the teacher's training; `transformer` on the page has `Plan.epochs`."""

TRIES = ((1, 0.0), (1, 0.5), (4, 0.0), (4, 0.5), (4, 1.0), (8, 0.5), (8, 1.0))
"""How many times `Plan.unlabelled` mixtures, and what the teacher's prediction weighs beside a
measured loss; the best on `valid` is judged."""

REPEATS = 5
"""Passes over the prompts that a decision is timed on; the fastest of each prompt counts."""

RESULTS_FILE = "paper_distilled.json"


def run(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Fit the teacher, train its students, choose one on `valid`, judge it on `test`."""
    path = args.results / "paper_scores.jsonl.gz"
    train, valid, test = (
        read_split(path, args.corpora, split) for split in ("train", "valid", "test")
    )
    folder = args.work / "distilling"
    teacher = fit_teacher(train.table, args.results, args.encoder, folder, args.epochs)
    students = {}
    for times, weight in TRIES:
        mixtures = times * plan.unlabelled["mixtures"]
        texts = unlabelled(args.corpora, plan, mixtures)
        saved = folder / f"student-{mixtures}-{weight:g}"
        name = f"{mixtures} mixtures, weight {weight:g}"
        students[name] = train_student(teacher, texts, train.table, saved, weight)
    alone = train_alone(teacher, train.table, folder)
    remembering = cast(Predictor, Remembered(teacher.predictors[FILL_MASK]))
    remembered = teacher.replace(predictors={FILL_MASK: remembering})
    regrets = {
        name: mean_regret(valid.table, columns(router, valid.table))
        for name, router in students.items()
    }
    best = min(regrets, key=lambda name: regrets[name])
    routers = {"transformer": remembered, "distilled": students[best], "embedding_bag": alone}
    stated = students[best].provenance["distilled"]
    rival_ways, compared = rivals(plan, train, valid.table, args.corpora, None)
    return {
        "seeds": {"predictors": 0, "bootstrap": 0},
        "test_runs": TEST_RUNS,
        "prompts": {
            name: counts(part)
            for name, part in (("train", train), ("valid", valid), ("test", test))
        },
        "unlabelled": stated["unlabelled"],
        "unknown_to_teacher": stated["unknown_to_teacher"],
        "teacher": {**TRANSFORMER, "epochs": args.epochs},
        "student": {"kind": DEFAULT_STUDENT, "chosen": best, "regret_on_valid": regrets},
        "agreement": stated["agreement"][FILL_MASK],
        "regret_on_valid": {
            name: mean_regret(valid.table, columns(router, valid.table))
            for name, router in routers.items()
        },
        "milliseconds": {
            name: milliseconds(router, valid.table.prompts[:: 1 if name != "transformer" else 20])
            for name, router in (routers | {"transformer": teacher}).items()
        },
        "compared_on_valid": compared,
        "groups": _groups(
            test, routers, {n: way(test.table.prompts) for n, way in rival_ways.items()}
        ),
    }


def _groups(test: Split, routers: dict[str, Router], ways: dict[str, Any]) -> dict[str, Any]:
    """Judge every way of choosing on every group of the test prompts."""
    table = test.table
    predicted = {
        name: router.predict(table.prompts, task=FILL_MASK) for name, router in routers.items()
    }
    chosen = {name: columns(router, table) for name, router in routers.items()} | ways
    groups = {group: judge(test, group, chosen, predicted) for group in GROUPS}
    for group, part in groups.items():
        part["teacher_minus_student"] = _paired(test, group, chosen)
    return groups


def _paired(test: Split, group: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return how much less regret the student has than its teacher, prompt by prompt."""
    rows = np.array([name == group for name in test.table.groups])
    part = test.part(group)
    cells, _ = measured_cells(part.table, None)
    made = {
        name: outcomes(cells, chosen[name][rows]).regret for name in ("transformer", "distilled")
    }
    gain = made["transformer"] - made["distilled"]
    [interval] = bootstrap_intervals([gain], cells, resamples=RESAMPLES, seed=0)
    return {"difference": macro_mean(gain, cells), "ci95": interval and list(interval)}


def fit_teacher(
    table: ScoreTable, results: Path, encoder: str, folder: Path, epochs: int
) -> Router:
    """Fine-tune the teacher, or load it where it was fine-tuned before.

    Matrices are multiplied in half precision (bfloat16), which takes half the time.
    """
    if (folder / "teacher" / INDEX).is_file():
        return Router.from_pretrained(folder / "teacher")
    import torch

    predictor = TransformerPredictor(
        SentenceEncoder(encoder),
        seed=0,
        checkpoints=folder / "checkpoints",
        **TRANSFORMER,
        epochs=epochs,
    )
    # Weights change at every step, so their halves must not be cached.
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        predictor.fit(table.prompts, table)
    library = Library.read(results / "paper_library.yaml")
    objective = Objective.fit(
        library, {FILL_MASK: loss_spread(table.losses)}, **goal_statistics(table, library)
    )
    router = Router(
        library, {FILL_MASK: predictor}, objective=objective, provenance={"kind": table.kind}
    )
    router.save_pretrained(folder / "teacher")
    return router


def unlabelled(corpora: Path, plan: Plan, mixtures: int) -> list[str]:
    """Return prompts that nobody measured, with so many mixtures of each domain."""
    cuts = cut_unlabelled(corpora, plan.unlabelled | {"mixtures": mixtures})
    return [cut.text for cut in cuts]


def train_student(
    teacher: Router, texts: Sequence[str], table: ScoreTable, saved: Path, weight: float
) -> Router:
    """Train a student with one weight of the teacher, or load it where it was trained before."""
    if (saved / INDEX).is_file():
        return Router.from_pretrained(saved)
    import torch

    how = Distillation(
        Candidate(DEFAULT_STUDENT), StaticEncoder.bundled(), teacher_weight=weight, holdout=None
    )
    file = PredictionFile(saved.parent / "predictions.jsonl")

    def log(name: str, done: int, total: int) -> None:
        if done % 5120 < CHUNK:
            logger.info("%s: %d of %d", name, done, total)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        everything = (*table.prompts, *texts)
        teach(teacher.predictors[FILL_MASK], everything, FILL_MASK, file=file, progress=log)
    started = time.process_time()
    parts = distill_parts(teacher, texts, table, how, file=file)
    logger.info("%s: %.0f s of processor time", saved.name, time.process_time() - started)
    router = teacher.replace(**parts)
    router.save_pretrained(saved)
    return router


def train_alone(teacher: Router, table: ScoreTable, folder: Path) -> Router:
    """Train the same kind of predictor without a teacher, or load it where it was trained."""
    saved = folder / "alone"
    if (saved / INDEX).is_file():
        return Router.from_pretrained(saved)
    bag = make_predictor(DEFAULT_STUDENT, StaticEncoder.bundled(), 0)
    router = teacher.replace(predictors={FILL_MASK: bag.fit(table.prompts, table)})
    router.save_pretrained(saved)
    return router


def columns(router: Router, table: ScoreTable) -> Any:
    """Return the chosen columns of a table's prompts, (n,)."""
    decisions = router.route_batch(table.prompts, task=FILL_MASK, flags=False)
    return np.array([table.experts.index(decision.expert) for decision in decisions])


def milliseconds(router: Router, prompts: Sequence[str]) -> float:
    """Return the median time of a decision on one prompt; of each the fastest of a few passes."""
    best = [float("inf")] * len(prompts)
    for _ in range(REPEATS):
        for place, prompt in enumerate(prompts):
            started = time.perf_counter()
            router.route(prompt, task=FILL_MASK, flags=False)
            best[place] = min(best[place], time.perf_counter() - started)
    return 1000 * float(np.median(best))


def main() -> None:
    """Read the arguments, run the experiment, and fill in the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=WORK, help="folder for models and predictions")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for results")
    parser.add_argument("--encoder", required=True, help="sentence-transformers model to fine-tune")
    parser.add_argument("--epochs", type=int, default=TEACHER_EPOCHS, help="the teacher's rounds")
    parser.add_argument("--smoke", action="store_true", help="a minute's walk through everything")
    args = parser.parse_args()
    args.corpora = data_folder() / "corpora"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    results = run(smoke() if args.smoke else Plan(), args)
    write_json(args.results / RESULTS_FILE, provenance() | results)
    fill_page(args.results)


if __name__ == "__main__":
    main()
