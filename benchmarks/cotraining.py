"""Co-training: does the routed loss fall, what specialises, and does it pay?

Three starts (four equal experts, four of random pairs of domains, six of the paper's) and three
seeds; for each, the same held-out prompts after every round of

- ``router``: co-training by rounds, the router assigns the prompts;
- ``joint``: router and experts by one gradient;
- ``random``: the same updates under a random assignment;
- ``labels``: the same under the prompts' domain labels;
- ``frozen``: experts stay as they are, the router is fitted;
- ``single``: the same prompts train one model of about the experts' total size.

::

    python benchmarks/cotraining.py --work FOLDER [--seeds 0 1 2] [--starts equal ...]

Every arm of every start and seed is kept under FOLDER, so that an interrupted run goes on; two
processes may share the cells by --seeds. The results are written once all cells are there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cotraining_starts import PAPER, STARTS, Start, make, train_single
from cotraining_table import write
from data import data_folder, provenance
from paper.plan import DOMAINS
from paper.texts import cut_prompts

from tryage.cotraining import CotrainingOptions, cotrain
from tryage.experts import FILL_MASK, Expert
from tryage.files import write_text
from tryage.router import Router

RESULTS = Path(__file__).parent / "results" / "cotraining.json"
WORK = Path.home() / ".cache" / "tryage" / "paper"
SEEDS = (0, 1, 2)
ARMS = ("frozen", "router", "joint", "random", "labels", "single")
ROUNDS = 3
EXCERPTS = {"train": 300, "test": 25}
"""Excerpts of each domain: to train and to label on, and held out."""

OPTIONS = CotrainingOptions(
    rounds=ROUNDS,
    task=FILL_MASK,
    labelled=0.12,
    per_round=560,
    learning_rate=1e-3,
    mask_share=0.3,
    batch=16,
    explore=0.1,
    max_share=0.5,
)
"""The learning rate was chosen among 0.001, 0.003 and 0.005 on excerpts of `valid`, with the first
random mixture. One earlier run of four rounds, with that mixture, was judged on `test`; after it
the rounds and the single model's training were shortened to save time. Nothing else was changed."""


def prompts(split: str) -> list[dict[str, Any]]:
    """Return the excerpts of a split; their groups are their domains."""
    counts = {"documents": 0, "mixtures": 0, "excerpts": EXCERPTS[split]}
    cuts = cut_prompts(data_folder() / "corpora", split, counts)
    rows = [{"id": cut.id, "prompt": cut.text, "group": cut.domain} for cut in cuts]
    order = np.random.default_rng(23).permutation(len(rows)).tolist()
    return [rows[i] for i in order]


def arm_rounds(arm: str, start: Start, seed: int, out: Path) -> list[dict[str, Any]]:
    """Return the figures of each round of one arm, from 0."""
    options = replace(OPTIONS, seed=seed)
    if arm == "single":
        return single_rounds(train_single(start, seed), options)
    if arm == "joint":
        options = replace(options, mode="joint")
    elif arm == "labels":
        options = replace(options, assign="groups", groups=start.owners)
    elif arm == "frozen":
        options = replace(options, assign="frozen", rounds=1)
    elif arm == "random":
        options = replace(options, assign="random")
    # A round's fit of the kind `auto` would take longer than its training.
    router = Router.from_library(start.library).replace(provenance={"predictor": "linear"})
    run = cotrain(
        router,
        prompts("train"),
        out,
        options,
        held_out=prompts("test"),
        folders=[start.library.root],
    )
    return [one.to_dict() for one in run.rounds]


def single_rounds(model: Path, options: CotrainingOptions) -> list[dict[str, Any]]:
    """Train one model on what the experts of a run are trained on together, round by round."""
    import torch

    from tryage.cotraining.fine_tuning import fine_tune
    from tryage.cotraining.measuring import loaded, measured_losses
    from tryage.cotraining.parts import split

    parts = split(prompts("train"), FILL_MASK, options, prompts("test"))
    expert = Expert(name="single", model=str(model), task=FILL_MASK)
    rounds, folder = [], model
    for number in range(options.rounds + 1):
        started = time.perf_counter()
        if number:
            target = model.with_name(f"{model.name}-{options.seed}-round-{number}")
            rows = parts.of_round(number, options.per_round)
            with loaded(expert, folder, "cpu") as pipeline:
                seed = (options.seed, number)
                fine_tune(pipeline, rows, target, options, dtype=torch.float32, seed=seed)
            folder = target
        with loaded(expert, folder, "cpu") as pipeline:
            losses = measured_losses(pipeline, parts.held_out, options)
        mean = float(np.nanmean(losses))
        seconds = time.perf_counter() - started
        rounds.append({"round": number, "held_out_loss": mean, "seconds": round(seconds, 3)})
    for number in range(1, options.rounds + 1):
        shutil.rmtree(model.with_name(f"{model.name}-{options.seed}-round-{number}"))
    return rounds


def cell(start: str, seed: int, arm: str, work: Path) -> dict[str, Any]:
    """Return one arm of one start and seed, from its file or by running it."""
    folder = work / "cotraining"
    path = folder / f"{start}-{seed}-{arm}.json"
    if not path.is_file():
        began = time.process_time()
        made = make(start, seed, work)
        out = folder / f"{start}-{seed}-{arm}"
        rounds = arm_rounds(arm, made, seed, out)
        cpu = round(time.process_time() - began, 1)
        result = {"start": start, "seed": seed, "arm": arm, "rounds": rounds, "cpu_seconds": cpu}
        result["mixtures"] = made.mixtures
        write_text(path, json.dumps(result) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        first, last = rounds[0]["held_out_loss"], rounds[-1]["held_out_loss"]
        print(f"{start} {seed} {arm}: {first:.3f} to {last:.3f}, {cpu} s", file=sys.stderr)
    result = json.loads(path.read_text(encoding="utf-8"))
    return dict(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=WORK, help="folder of bench-paper's experts")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--partial", action="store_true", help="write what is there, run nothing")
    args = parser.parse_args()
    for seed in () if args.partial else args.seeds:
        for start in args.starts:
            for arm in args.arms:
                cell(start, seed, arm, args.work)
    everything = [(s, seed, arm) for s in STARTS for seed in SEEDS for arm in ARMS]
    paths = [args.work / "cotraining" / f"{s}-{seed}-{arm}.json" for s, seed, arm in everything]
    missing = [path.stem for path in paths if not path.is_file()]
    print(f"{len(missing)} of {len(paths)} cells are not there yet", file=sys.stderr)
    if missing and not args.partial:
        return
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    results = provenance("make bench-cotraining") | {
        "options": OPTIONS.to_dict(),
        "excerpts_per_domain": EXCERPTS,
        "domains": list(DOMAINS),
        "paper_experts": list(PAPER),
        "missing": missing,
        "cells": cells,
    }
    write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    write(results)


if __name__ == "__main__":
    main()
