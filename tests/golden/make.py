"""Make the golden files: what Tryage 0.1.0 wrote, for `tests/test_golden.py` to load for ever.

Golden files are never remade. A new version of a format gets a folder of its own beside this one.
Run once, at the commit that the files came from: ``python tests/golden/make.py FOLDER``.
"""

import json
import sys
from pathlib import Path

import numpy as np

from tryage import Expert, Library, Policy, Router, ScoreTable, persistence
from tryage.labeling import label_answers
from tryage.persistence import RouterState
from tryage.predictors import PREDICTORS

PROMPTS = [
    "What is 17 plus 25?",
    "Write a function that reverses a list.",
    "The old river follows the garden.",
    "Ünïcödé: wie weit ist es bis Köln?",
    "Zebras and quarks, 1 2 3 [MASK].",
]
KINDS = {
    "sum": "A shop sells {} apples and {} pears. How many pieces of fruit is that?",
    "code": "def f_{}(x):\n    return x + {}\n",
    "prose": "The quiet teacher remembers garden {} and winter {}.",
}
BEST = {"sum": "alpha", "code": "beta", "prose": "gamma"}
NAMES = ("alpha", "beta", "gamma")


def rows(task=None, n=120):
    rng = np.random.default_rng(5)
    kinds = list(KINDS)
    for number in range(n):
        kind = kinds[number % 3]
        a, b = rng.integers(2, 99, 2)
        text = KINDS[kind].format(a, b) + (" [MASK]" if task == "fill-mask" else "")
        scores = {
            name: float(np.clip(0.85 * (BEST[kind] == name) + rng.uniform(0, 0.15), 0, 1))
            for name in NAMES
        }
        if number % 7 == 3:
            del scores["beta"]
        yield {
            "prompt": text,
            "id": f"{task or 'text'}-{number}",
            "group": kind,
            **({"task": task} if task else {}),
            "reference": f"answer {number}",
            "scores": scores,
            "costs": {name: 0.001 * (1 + NAMES.index(name)) for name in scores},
            "response_chars": {name: 40.0 + number for name in scores},
            "latency": {name: 0.5 for name in scores},
            "probabilities": {name: round(scores[name], 3) for name in scores},
        }


def experts(task="text-generation", prefix=""):
    sizes, dates = ("125M", "1.3B", "7B"), ("2023-01-01", "2024-06-01", "2025-02-01")
    return [
        Expert(
            name=prefix + name,
            model=f"org/{name}",
            task=task,
            parameters=size,
            released=date,
            license="mit",
            context_length="4K",
            price={"input": 0.1, "output": 0.3},
        )
        for name, size, date in zip(NAMES, sizes, dates, strict=True)
    ]


def answers_of(out, stop_after=None):
    """Label with callables; `stop_after` cuts the run off after so many calls."""
    calls = []

    def expert(name):
        def call(prompt):
            calls.append(prompt)
            if stop_after is not None and len(calls) > stop_after:
                raise KeyboardInterrupt
            return f"{name} says 42" if name == "alpha" else f"{name} does not know"

        return call

    prompts = [
        {"prompt": f"Question {n}?", "id": f"q{n}", "reference": "42", "group": "g"}
        for n in range(6)
    ]
    try:
        label_answers(
            {name: expert(name) for name in ("alpha", "beta")},
            prompts,
            "contains",
            out,
            keep_answers=True,
            concurrency=1,
        )
    except KeyboardInterrupt:
        pass


def save(router, folder, share=True):
    state = RouterState(
        router.library, router.objective, router.predictors, router.facts, router.policy
    )
    persistence.save(state, folder, "A golden router.\n", share_encoder=share)


def main(root):
    table = ScoreTable.from_rows(list(rows()))
    library = Library(experts(), name="golden")
    made = {}
    for kind in sorted(set(PREDICTORS) - {"transformer", "unmeasured"}):
        made[kind] = Router.fit(table, library=library, predictor=kind)
    made["unmeasured"] = Router.from_library(library)
    policy = Policy(
        limits={"parameters": "<=3B"},
        weights={"recency": 0.2},
        max_weights={"size": 0.5},
        flags=["size", "parameters"],
        unknown_flags="warn",
    )
    made["policy"] = made["clusters"].with_policy(policy)
    masked = list(rows("fill-mask"))
    for row in masked:
        for key in ("scores", "costs", "response_chars", "latency", "probabilities"):
            row[key] = {f"m-{name}": value for name, value in row[key].items()}
    both = ScoreTable.from_rows([*rows(), *masked])
    two = Library([*experts(), *experts("fill-mask", "m-")], name="two")
    made["two-tasks"] = Router.fit(both, library=two, predictor="clusters")
    expected = {}
    for name, router in made.items():
        save(router, root / "routers" / name)
        decisions = router.route_batch(PROMPTS[:4])
        expected[name] = {
            "experts": [d.expert for d in decisions],
            "losses": [d.losses.tolist() for d in decisions],
            "std": [d.std.tolist() for d in decisions],
            "out_of_distribution": [d.out_of_distribution for d in decisions],
        }
    save(made["clusters"], root / "routers" / "own-encoder", share=False)
    expected["own-encoder"] = expected["clusters"]
    tables = root / "tables"
    tables.mkdir(parents=True)
    small = ScoreTable.from_rows(list(rows(n=12)))
    for suffix in ("jsonl", "jsonl.gz", "csv", "parquet"):
        small.write(tables / f"scores.{suffix}")
    lines = [{"prompt": f"text {n}", "losses": {"a": 1.5 + n, "b": 0.25}} for n in range(4)]
    (tables / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    library.write(root / "library.yaml")
    learning = made["clusters"].with_feedback(tables / "feedback.jsonl", store_prompts=True)
    learning.feedback(learning.route(PROMPTS[0]), 0.5)
    learning.feedback(learning.route(PROMPTS[1]), True)
    answers_of(root / "labels" / "answers")
    answers_of(root / "labels" / "answers-half", stop_after=7)
    (root / "expected.json").write_text(json.dumps({"prompts": PROMPTS, "routers": expected}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
