"""The starting experts of `benchmarks/cotraining.py`: the paper's, equal ones, and random mixtures.

All are masked models as the quickstart trains them. Beside the experts of each start stands one
model of about their total size, which is trained on all their texts together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, read_jsonl
from paper.plan import DOMAINS
from paper.texts import held_out

from tryage.attributes import expert_of
from tryage.experts import FILL_MASK
from tryage.library import Library
from tryage.quickstart import Recipe

EXPERTS = 4
"""Experts of an equal or a random start."""

CHARACTERS = 300_000
"""Characters of text that one of these experts starts from."""

TOP_DOMAINS = 2
"""Domains in the mixture of a random expert."""

STARTS = ("equal", "mixtures", "paper")

PAPER = {
    "clinical": "clinical",
    "patents": "patents",
    "finance": "finance",
    "math": "math",
    "dialogue": "dialogue",
    "general-small": None,
}
"""Experts of the paper → their domain; None takes all other domains. A subset, for time."""

PAPER_SINGLE = "general-large"
"""The paper's one model that comes closest to their total size."""

_SMALL: dict[str, Any] = {
    "domain": "general",
    "task": FILL_MASK,
    "hidden": 64,
    "layers": 2,
    "steps": 250,
    "vocabulary": 2048,
    "batch": 8,
}

_SINGLE: dict[str, Any] = {"hidden": 128, "layers": 3, "vocabulary": 2048, "steps": 300}
"""The one model: the parameters of all four, and about as much arithmetic in its training."""


@dataclass(frozen=True)
class Start:
    """What a co-training begins with.

    Attributes:
        library: the experts.
        owners: domain → expert that trains on it where domain labels assign.
        single: folder of the one model of about the experts' total size.
        mixtures: expert → domains that it was trained on before.
    """

    library: Library
    owners: dict[str, str]
    single: Path
    mixtures: dict[str, list[str]]


def make(name: str, seed: int, work: Path) -> Start:
    """Return a start; what is not yet trained is trained under `work`.

    Args:
        name: one of `STARTS`.
        seed: draws mixtures and weights. The paper's experts are the same for every seed.
        work: folder of the models; the paper's lie in its ``models/``.
    """
    return _paper(work) if name == "paper" else _drawn(name, seed, work / "starts")


def _paper(work: Path) -> Start:
    missing = [name for name in (*PAPER, PAPER_SINGLE) if not (work / "models" / name).is_dir()]
    if missing:
        raise SystemExit(f"no expert {', '.join(missing)} in {work / 'models'}; see bench-paper")
    experts = [expert_of(f"models/{name}", root=work) for name in PAPER]
    named = {domain: name for name, domain in PAPER.items() if domain is not None}
    owners = {domain: named.get(domain, "general-small") for domain in DOMAINS}
    mixtures = {name: [domain] if domain else list(DOMAINS) for name, domain in PAPER.items()}
    library = Library(experts, name="paper", root=work)
    return Start(library, owners, work / "models" / PAPER_SINGLE, mixtures)


def _drawn(name: str, seed: int, folder: Path) -> Start:
    """Four experts: copies of one that has seen all domains, or each of a random pair of them."""
    rng = np.random.default_rng([seed, STARTS.index(name), 21])
    names = [f"expert-{number}" for number in range(1, EXPERTS + 1)]
    equal = name == "equal"
    order = rng.permutation(len(DOMAINS))[: EXPERTS * TOP_DOMAINS].reshape(EXPERTS, TOP_DOMAINS)
    mixtures = {
        one: list(DOMAINS) if equal else [DOMAINS[i] for i in row]
        for one, row in zip(names, order.tolist(), strict=True)
    }
    owners = {domain: names[i % EXPERTS] for i, domain in enumerate(DOMAINS)}
    if not equal:
        owners |= {domain: one for one, domains in mixtures.items() for domain in domains}
    place = f"{name}-{seed}"
    models = {}
    for number, one in enumerate(names):
        # Equal experts are one training, under one folder.
        model = f"{place}/all" if equal else f"{place}/{one}"
        recipe = Recipe(name=one, seed=seed if equal else 10 * seed + number, **_SMALL)
        _train(recipe, mixtures[one], CHARACTERS, folder / model)
        models[one] = model
    experts = [
        expert_of(model, root=folder).model_copy(update={"name": one})
        for one, model in models.items()
    ]
    library = Library(experts, name=place, root=folder)
    return Start(library, owners, folder / place / "single", mixtures)


def train_single(start: Start, seed: int) -> Path:
    """Return the folder of a start's one model, trained if it is not there."""
    if start.single.name != PAPER_SINGLE:
        recipe = Recipe(**{**_SMALL, "name": "single", "seed": seed, **_SINGLE})
        domains = sorted({domain for one in start.mixtures.values() for domain in one})
        _train(recipe, domains, EXPERTS * CHARACTERS, start.single)
    return start.single


def _train(recipe: Recipe, domains: list[str], characters: int, folder: Path) -> None:
    """Train a model, if it is not there, on texts that no prompt is cut from."""
    from tryage.quickstart.experts import train

    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([recipe.seed, 22])
    texts: list[str] = []
    for domain in domains:
        rows = read_jsonl(data_folder() / "corpora" / domain / "train.jsonl")
        own = [row["text"] for row in rows if not held_out(row)]
        size = 0
        for number in rng.permutation(len(own)).tolist():
            if size >= characters / len(domains):
                break
            texts.append(own[number])
            size += len(own[number])
    train(recipe, [texts[i] for i in rng.permutation(len(texts)).tolist()], folder)
