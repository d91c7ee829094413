"""Train the bundled routers from the score tables in the data folder.

::

    python benchmarks/train_routers.py            # writes tryage/pretrained/open7

The texts of the tables are not written anywhere; a router keeps cluster centres, cell means and
its encoder. `benchmarks/routing.py` measures the result and puts its table into the model card.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from data import BEGIN, END, data_folder

from tryage import Library, Router, ScoreTable
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


def train_open7(data: Path, out: Path) -> Router:
    """Fit and save the router over seven open models, with the default configuration."""
    table = ScoreTable.read(data / "routing" / "open7_train.jsonl.gz")
    library = Library.read(HERE / "open7.yaml")
    # The folder moves with the package, so nothing in it may point back here.
    router = Router.fit(table, library=Library(library.experts, name=library.name), seed=0)
    state = RouterState(router.library, router.objective, router.predictors, router.facts)
    router.save_pretrained(out, card=model_card(state, terms=TERMS) + MEASURED)
    return router


def main() -> None:
    """Read the arguments, train, and say what was validated."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=PRETRAINED / "open7")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    router = train_open7(data_folder(), args.out)
    logger.info("%s: %s", args.out, json.dumps(router.facts["validation"], indent=1))


if __name__ == "__main__":
    main()
