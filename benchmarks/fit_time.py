"""Measure how long `fit --predictor auto` takes on 12,000 prompts and two experts.

::

    python benchmarks/fit_time.py             # measure, write results/fit_time.json, fill in
    python benchmarks/fit_time.py --render    # fill in the page from the results that are there

The prompts are those of open7's training and test files, cut to 12,000; what is fitted is thrown
away, and no figure of quality is read. Reading the table is not counted; encoding, choosing the
predictor on inner folds, comparing on outer folds and fitting it are.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from publishing import publish

from tryage import Expert, Library, Router, ScoreTable

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "fit_time.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- fit time: begin -->", "<!-- fit time: end -->")
PROMPTS = 12_000
LIMIT_SECONDS = 300


def large_table(data: Path) -> ScoreTable:
    """Return 12,000 prompts under two experts."""
    train = ScoreTable.read(data / "routing" / "open7_train.jsonl.gz")
    test = ScoreTable.read(data / "routing" / "open7_test.jsonl.gz").reorder(train.experts)
    pair = [part.reorder(train.experts[:2]) for part in (train, test)]
    columns = {
        name: tuple(value for part in pair for value in getattr(part, name))[:PROMPTS]
        for name in ("prompts", "groups", "tasks", "references")
    }
    losses = np.concatenate([part.losses for part in pair])[:PROMPTS]
    ids = tuple(str(number) for number in range(PROMPTS))
    return replace(pair[0], ids=ids, losses=losses, targets={}, **columns)


def run(data: Path) -> dict[str, Any]:
    """Time one fit in this process."""
    table = large_table(data)
    library = Library([Expert(name=name, model=name) for name in table.experts])
    start, processor = time.perf_counter(), time.process_time()
    router = Router.fit(table, library=library, predictor="auto", encoder="static", seed=0)
    return {
        "prompts": len(table),
        "experts": len(table.experts),
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
        "limit_seconds": LIMIT_SECONDS,
        "chosen": router.provenance["choice"]["text-generation"]["chosen"],
        "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def page(results: dict[str, Any]) -> str:
    """Return the sentence about the results."""
    return (
        f"`fit --predictor auto` on {results['prompts']:,} prompts and {results['experts']} "
        f"experts with the bundled encoder took {results['seconds']:.0f} s "
        f"({results['processor_seconds']:.0f} s of processor time; {results['machine']}; the aim "
        f"was {results['limit_seconds']} s on two cores) and at most "
        f"{results['peak_resident_mb']:.0f} MB; `{results['command']}`."
    )


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    publish(
        lambda _: provenance("python benchmarks/fit_time.py") | run(data_folder()),
        page,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
    )


if __name__ == "__main__":
    main()
