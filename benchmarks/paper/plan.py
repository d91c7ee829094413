"""Which experts are trained, on what, and how many prompts of which kind are measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tryage.experts import FILL_MASK
from tryage.quickstart import Recipe

DOMAINS = (
    "code",
    "encyclopedic",
    "clinical",
    "patents",
    "biomedical",
    "legal",
    "finance",
    "math",
    "dialogue",
)

GROUPS = ("documents", "excerpts", "mixtures")

PROCESSES = 2
"""Experts that are trained or measured at once, each on one thread."""


@dataclass(frozen=True)
class Trained:
    """One expert: how it is trained, on which texts, and what its card says.

    Attributes:
        recipe: size and training, as the quickstart's experts have it.
        card: its model card's text; what choosers that read cards are given.
        domains: the corpora it is trained on, in equal parts of their characters.
        only: fields that a text must have, such as ``{"lang": "python"}``.
    """

    recipe: Recipe
    card: str
    domains: tuple[str, ...]
    only: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The expert's name in the library."""
        return self.recipe.name


_SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden": 96, "layers": 2, "steps": 1000},
    "medium": {"hidden": 128, "layers": 2, "steps": 1000},
    "large": {"hidden": 192, "layers": 3, "steps": 1200},
    "huge": {"hidden": 256, "layers": 4, "steps": 900},
}

_DESCRIBED = {
    "code": "source code in Python, C, JavaScript, Java, Go and Rust",
    "encyclopedic": "encyclopedia articles on people, places, history, games and music",
    "clinical": "clinical notes: medical transcriptions, patient histories and operations",
    "patents": "abstracts and claims of patents on technical inventions",
    "biomedical": "abstracts of biomedical research: studies, trials, diseases and results",
    "legal": "commercial contracts and agreements in legal language",
    "finance": "annual reports of companies and headlines on the price of gold",
    "math": "school math word problems with their solutions, step by step",
    "dialogue": "conversations: chat about everyday topics and technical support channels",
}


def _trained(name: str, size: str, domains: tuple[str, ...], about: str, **only: str) -> Trained:
    recipe = Recipe(
        name=name,
        domain=domains[0] if len(domains) == 1 else "general",
        task=FILL_MASK,
        vocabulary=4096,
        batch=8,
        window=128,
        seed=0,
        **_SIZES[size],
    )
    return Trained(recipe, f"A {size} masked language model trained on {about}.", domains, only)


def _domain(name: str, size: str, domain: str) -> Trained:
    return _trained(name, size, (domain,), _DESCRIBED[domain])


def _general(name: str, size: str) -> Trained:
    about = "text of every kind: code, encyclopedia, medicine, patents, law, finance, math and chat"
    return _trained(name, size, DOMAINS, about)


EXPERTS = (
    _domain("code-large", "large", "code"),
    _trained("python-small", "small", ("code",), "source code in Python", lang="python"),
    _domain("encyclopedic", "medium", "encyclopedic"),
    _domain("clinical", "medium", "clinical"),
    _domain("patents", "medium", "patents"),
    _domain("biomedical-large", "large", "biomedical"),
    _domain("biomedical-small", "small", "biomedical"),
    _domain("legal-large", "large", "legal"),
    _domain("legal-small", "small", "legal"),
    _domain("finance", "medium", "finance"),
    _trained(
        "headlines-small",
        "small",
        ("finance",),
        "headlines on the price of gold",
        source="headlines",
    ),
    _domain("math", "medium", "math"),
    _domain("dialogue", "medium", "dialogue"),
    _trained(
        "irc-small",
        "small",
        ("dialogue",),
        "technical support channels on Ubuntu Linux",
        source="ubuntu-irc",
    ),
    _general("general-small", "small"),
    _general("general-medium", "large"),
    _general("general-large", "huge"),
)
"""Seventeen experts: all nine domains, two of them with a small and a large expert, three small
experts of a part of a domain, generalists in three sizes."""


@dataclass(frozen=True)
class Plan:
    """What one run of the experiment does.

    Attributes:
        experts: the experts, in the library's order.
        passes: parts that a text's words are dealt into; each part is hidden in one pass, so that
            all of them together hide every word once.
        train: prompts of each domain (mixtures: of each first domain), by group.
        valid: the same for what configurations are chosen on.
        test: the same for the test.
        unlabelled: further prompts of the router's training documents, which nobody measures, for
            distillation.
        train_characters: characters of text that each expert is trained on at most.
        epochs: rounds of fine-tuning the `transformer` predictor.
        seeds: seeds of the predictors' fits.
    """

    experts: tuple[Trained, ...] = EXPERTS
    passes: int = 3
    train: dict[str, int] = field(
        default_factory=lambda: {"documents": 80, "excerpts": 800, "mixtures": 80}
    )
    valid: dict[str, int] = field(
        default_factory=lambda: {"documents": 16, "excerpts": 40, "mixtures": 16}
    )
    test: dict[str, int] = field(
        default_factory=lambda: {"documents": 30, "excerpts": 60, "mixtures": 16}
    )
    unlabelled: dict[str, int] = field(
        default_factory=lambda: {"documents": 120, "excerpts": 1200, "mixtures": 150}
    )
    train_characters: int = 2_600_000
    epochs: int = 7
    seeds: tuple[int, ...] = (0, 1)


def smoke() -> Plan:
    """A plan that walks through everything in a minute: three experts, a few prompts."""
    names = ("math", "legal-small", "general-small")
    few = {"documents": 3, "excerpts": 4, "mixtures": 2}
    return Plan(
        experts=tuple(
            replace(one, recipe=replace(one.recipe, steps=20))
            for one in EXPERTS
            if one.name in names
        ),
        train=few,
        valid=few,
        test=few,
        unlabelled={"documents": 3, "excerpts": 8, "mixtures": 2},
        train_characters=60_000,
        epochs=1,
        seeds=(0,),
    )
