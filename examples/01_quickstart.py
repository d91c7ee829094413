"""The main job, from Python: pip install "tryage[hf,langchain,llama-index]", no network, no key.

The first run trains a small library on this machine and takes about two minutes; later runs find
it in ./quickstart.
"""

from rich.console import Console

from tryage import Goals, Router
from tryage.quickstart import run
from tryage.runtime import Runtime

result = run("quickstart", console=Console(stderr=True))
for task, evaluation in result["evaluation"].items():
    router_row, single = evaluation["router"], evaluation["references"]["best_single"]
    print(
        f"{task}: the router chooses one of the best in {router_row['selection_accuracy']:.0%} of "
        f"{evaluation['prompts']} prompts, the best single expert is that in "
        f"{single['selection_accuracy']:.0%}"
    )

# What it left is a router like any other, with a library of ordinary Hugging Face models.
# Its models lie beside it, not in it; a router names such folders, and you allow them.
router = Router.from_pretrained("quickstart/router", folders=["quickstart"])
runtime = Runtime(router.library)
prompts = [
    "def area(width, height):\n    return",
    "Redistribution of this work in binary form must reproduce the",
    "The [MASK] statement ends the loop.",
]
for prompt in prompts:
    decision = router.route(prompt, goals=Goals(size=0.1))
    answer = runtime.run(decision.expert, decision.prompt)
    print(f"\n{decision.expert}: predicted loss {decision.predicted_loss:.2f} bits per byte")
    print(answer.text.strip())
print()
print(decision.explain())
