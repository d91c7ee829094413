"""Train a router and its experts together: pip install "tryage[hf,langchain,llama-index]".

The experts are the quickstart's small writers; without ./quickstart they are trained first, which
takes about two minutes; three rounds take one more. A folder that holds `router/` and prompts as
the quickstart leaves them may be named instead.
"""

import sys
from pathlib import Path

from rich.console import Console

from tryage import Router
from tryage.cotraining import CotrainingOptions, Round, cotrain
from tryage.quickstart import run

start = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart")
if not (start / "router").is_dir():
    run(start, console=Console(stderr=True))

router = Router.from_pretrained(start / "router", folders=[start])
options = CotrainingOptions(
    rounds=3,
    labelled=0.5,  # half of the prompts fit the router and judge updates, half train
    task="text-generation",
    learning_rate=1e-3,
    explore=0.1,  # a tenth of the prompts goes to another expert than the router's
    max_share=0.5,  # no expert is trained on more than half of them
    max_rise=0.05,  # an update may not raise the loss of a group by more than 5 %
)


def show(one: Round) -> None:
    print(
        f"round {one.round}: {one.held_out_loss:.3f} bits per byte on held-out prompts, "
        f"{one.single_loss:.3f} by the best single expert; "
        f"the choice tells {one.mutual_information:.2f} bits of the kind of text"
    )
    for name, reason in one.reasons.items():
        print(f"  {name} was rolled back: {reason}")


# The prompts need no labels; their groups are only used to judge and to show what happens.
# Calling this again continues an interrupted run, and shows a finished one.
result = cotrain(
    router,
    start / "prompts" / "label.jsonl",
    "cotrained",
    options,
    held_out=start / "prompts" / "test.jsonl",  # the starting router has not seen these either
    on_round=show,
)

trained = Router.from_pretrained(result.router, folders=["cotrained"])
for prompt in ("def area(width, height):\n    return", "Redistribution in binary form must"):
    decision = trained.route(prompt, task="text-generation")
    print(f"{decision.expert}: {decision.predicted_loss:.2f} bits per byte predicted of {prompt!r}")
