"""The main job in one command: train a starter library here, measure it, fit a router, use it.

Its modules: `texts` gathers and splits the text, `plan` and `recipes` say what is made of it,
`workers`, `worker` and `experts` train, `vectors` makes the encoder, `answers` sends the examples
through both adapters, `workspace` keeps the files, `show` prints, and `steps` walks through it all.
"""

from tryage.quickstart.plan import Example, Plan
from tryage.quickstart.recipes import Recipe
from tryage.quickstart.steps import run

__all__ = ["Example", "Plan", "Recipe", "run"]
