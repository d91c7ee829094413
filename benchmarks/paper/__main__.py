"""Run the experiment, or one step of it.

::

    python -m paper all --work FOLDER [--encoder FOLDER] [--llm MODEL ...]    # in benchmarks/
    python -m paper train|measure|choose|render ...

`train` and `measure` write under --work and go on where they were; `measure` then writes the score
table to results/, from which `choose` needs no expert; `render` fills in docs/paper.md.
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

from data import data_folder

from paper.plan import Plan, smoke

logger = logging.getLogger("paper")

WORK = Path.home() / ".cache" / "tryage" / "paper"
RESULTS = Path(__file__).parents[1] / "results"
STEPS = ("train", "measure", "choose", "render")


def provenance() -> dict[str, Any]:
    """What every results file says of how it was made."""
    packages = ("tryage", "numpy", "torch", "transformers", "tokenizers")
    return {
        "command": "make bench-paper",
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write results."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def train(plan: Plan, args: argparse.Namespace) -> None:
    """Train the experts."""
    from paper.training import train_all

    train_all(plan, args.work, args.corpora, tiny=args.smoke)


def measure(plan: Plan, args: argparse.Namespace) -> None:
    """Measure the experts, and write the score table once all of them are measured."""
    from paper.draws import measure_split
    from paper.table import write_table
    from paper.texts import SPLITS, cut_prompts
    from paper.training import times, write_library
    from tryage.library import Library

    trained = [one for one in plan.experts if (args.work / "models" / one.name).is_dir()]
    library = write_library(trained, args.work)
    parts = {}
    for split in SPLITS:
        cuts = cut_prompts(args.corpora, split, getattr(plan, split))
        draws = 2 if split == "test" else 1
        losses = measure_split(
            library,
            cuts,
            args.work / "losses" / split,
            passes=plan.passes,
            draws=draws,
            device=args.device,
        )
        parts[split] = (cuts, losses)
    if len(trained) < len(plan.experts):
        logger.info("%d of %d experts are trained; run again", len(trained), len(plan.experts))
        return
    write_table(args.results / "paper_scores.jsonl.gz", parts)
    # Texts longer than a context are read in windows, so a context excludes nobody.
    free = {"context_length": None}
    routed = [one.model_copy(update={"model": one.name, **free}) for one in library]
    Library(routed, name="paper").write(args.results / "paper_library.yaml")
    experts = {
        one.name: {
            "card": one.card,
            "recipe": one.recipe.to_dict(),
            "parameters": library[one.name].parameters,
            "training_seconds": times(one, args.work),
            "measuring_cpu_seconds": sum(parts[s][1][one.name].seconds for s in SPLITS),
        }
        for one in plan.experts
    }
    write_json(
        args.results / "paper_experts.json",
        provenance()
        | {"seed": 0, "device": args.device, "passes": plan.passes, "experts": experts},
    )


def choose(plan: Plan, args: argparse.Namespace) -> None:
    """Fit routers and rivals on the score table, and judge them on its test prompts."""
    from paper.page import FIGURE
    from paper.results import run

    results = run(
        plan,
        args.results,
        args.corpora,
        args.work,
        encoder=args.encoder,
        llms=args.llm,
        figure=None if args.smoke else FIGURE,
    )
    write_json(args.results / "paper.json", provenance() | results)


def render(plan: Plan, args: argparse.Namespace) -> None:
    """Fill in the page."""
    from paper.page import fill_page

    fill_page(args.results)


def main() -> None:
    """Read the arguments and walk through the steps asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("step", nargs="?", choices=(*STEPS, "all"), default="all")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for weights and logs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for results")
    parser.add_argument("--encoder", help="sentence-transformers model to fine-tune")
    parser.add_argument("--llm", action="append", default=[], help="model that picks from cards")
    parser.add_argument("--device", default="cpu", help="where experts are measured")
    parser.add_argument("--smoke", action="store_true", help="a minute's walk through everything")
    args = parser.parse_args()
    args.corpora = data_folder() / "corpora"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    plan = smoke() if args.smoke else Plan()
    steps = {"train": train, "measure": measure, "choose": choose, "render": render}
    for name in STEPS if args.step == "all" else (args.step,):
        steps[name](plan, args)


if __name__ == "__main__":
    main()
