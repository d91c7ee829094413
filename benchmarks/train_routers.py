"""Train the bundled routers from the score tables in the data folder.

::

    python benchmarks/train_routers.py            # writes tryage/pretrained/NAME for every name

The texts of the tables are not written anywhere; a router keeps cluster centres and cell means,
and shares the bundled encoder. `benchmarks/routing.py` measures the result and puts its table into
the model card.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import NamedTuple

from data import BEGIN, END, data_folder

from tryage import Library, Router, ScoreTable, persistence
from tryage.cards import model_card
from tryage.persistence import RouterState

logger = logging.getLogger("train_routers")

HERE = Path(__file__).parent
PRETRAINED = HERE.parent / "tryage" / "pretrained"

TERMS = """\
Trained on 5,935 prompts with the measured scores of seven language models, made from the data of
RouterDC (NeurIPS 2024; github.com/shuhao02/RouterDC at 0e63989, `datasets/split2_model7`; no
licence file at its root). The prompts are those of five benchmarks, each under its own terms as
their authors publish them: MMLU and GSM8K (MIT), ARC-Challenge (CC BY-SA 4.0), HumanEval (MIT),
CMMLU (Creative Commons, not for commercial use). This folder holds no text of them: numbers
computed from the prompts and the scores, and an encoder. Scores of multiple-choice prompts are 0
or 1; those of GSM8K and HumanEval are shares of right answers over several samples. The experts'
own licences are in the table above."""

MEASURED = f"""
## Measured

On the test prompts of the same benchmarks, by `benchmarks/routing.py`:

{BEGIN}
{END}

The router sees the prompt alone, never the name of the benchmark. What it learned is which *kind*
of prompt each expert does well on; within one benchmark a prompt tells almost nothing about which
of these experts wins. It knows these five kinds of prompt, in English and Chinese; anything else
is marked out of distribution where it is strange enough, and goes to the best expert on average.
"""


TERMS_ROUTERBENCH = """\
Trained on 2,225 prompts with the measured scores, costs and response lengths of eleven language
models of late 2023, which RouterBench measured (Hu et al., 2024; its data set's card names no
licence), as the data of RouterDC holds them (NeurIPS 2024; github.com/shuhao02/RouterDC at 0e63989,
`datasets/routerbench_zs`; no licence file at its root). The prompts are those of three benchmarks,
each under its own terms as their authors publish them: MBPP, ARC-Challenge and WinoGrande. This
folder holds no text of them: numbers computed from the prompts and the measurements. The experts'
own licences are in the table above; their prices are those of the time of the data."""

NOTES_ROUTERBENCH = """
## Limits

It predicts the loss, the cost in USD and the length of the answer in characters. One expert,
gpt-4-1106-preview, is the best of the eleven on every one of the three benchmarks, so without a
weight on cost nearly every prompt goes to it: this router is for saying how much quality a saving
costs. It knows three kinds of prompt, all in English. Its encoder is the one that ships with the
same version of Tryage.
"""


TERMS_CODING = """\
Trained on 564 software tasks with the measured success and cost in USD of 34 coding models of
November 2025 to June 2026, each run by one agent: issues to solve (SWE-bench) and issues to write
a failing test for (SWT-bench). The results are published task by task in
OpenHands/openhands-index-results (no licence file at its root). The issue texts belong to their
projects. This folder holds no text of them: numbers computed from the issues and the results, and
hashes of the texts. The experts' own terms are their vendors'."""

NOTES_CODING = """
## What it can tell, and what not

It predicts success and cost of an agent's whole run, which is many calls. By the issue alone it
gains next to nothing over mixing single models: claude-fable-5 solves 95 % of the tasks, and where
a cheaper model fails hardly shows in the text. With a check of the answer, such as the
project's own tests, it gains much: plans that begin with cheap models pass the best single model's
score at a quarter of its cost with a perfect check, and at 40 % with one that accepts 90 % of right
and 10 % of wrong answers (`docs/plans.md`, measured on random halves of the tasks that all models
ran). So use it with `check=`, and with a weight on cost or a budget.

Some models did not run every task; the missing cells were left out. The tasks are issues of Python
projects: other languages, and questions about code, are not among them.
"""


class Recipe(NamedTuple):
    """How a bundled router is made: its data, its library, and what its card says."""

    table: str
    library: str
    terms: str
    notes: str


RECIPES = {
    "open7": Recipe("open7_train.jsonl.gz", "open7.yaml", TERMS, MEASURED),
    "coding34": Recipe("coding34_train.jsonl.gz", "coding34.yaml", TERMS_CODING, NOTES_CODING),
    "routerbench11": Recipe(
        "routerbench11_train.jsonl.gz", "routerbench11.yaml", TERMS_ROUTERBENCH, NOTES_ROUTERBENCH
    ),
}


def train(name: str, data: Path, out: Path) -> Router:
    """Fit and save a bundled router, with the default configuration."""
    recipe = RECIPES[name]
    table = ScoreTable.read(data / "routing" / recipe.table)
    library = Library.read(HERE / recipe.library)
    # The folder moves with the package, so nothing in it may point back here.
    router = Router.fit(table, library=Library(library.experts, name=library.name), seed=0)
    state = RouterState(
        router.library, router.objective, router.predictors, router.provenance, joint=router.joint
    )
    card = model_card(state, terms=recipe.terms) + recipe.notes
    # A bundled router is found by its name.
    card = card.replace('"FOLDER"', f'"{name}"').replace("FOLDER is where this file lies.\n\n", "")
    persistence.save(state, out, card, share_encoder=True)
    return router


def main() -> None:
    """Read the arguments, train, and say what was validated."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--only", choices=tuple(RECIPES), help="train this one alone")
    parser.add_argument("--out", type=Path, default=PRETRAINED, help="folder of the folders")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in [args.only] if args.only else RECIPES:
        router = train(name, data_folder(), args.out / name)
        logger.info(
            "%s: %s", args.out / name, json.dumps(router.provenance["validation"], indent=1)
        )


if __name__ == "__main__":
    main()
