"""Routers fitted on the score table, and the rivals that the paper compares with, in kind."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from data import read_jsonl

from paper.plan import DOMAINS, Plan
from paper.table import Split
from paper.texts import held_out
from tryage import Library, Router, ScoreTable
from tryage.encoders import SentenceEncoder, StaticEncoder
from tryage.evaluation.baselines import NO_CHOICE, CardSelector, PromptedSelector
from tryage.experts import FILL_MASK, Endpoint, Expert
from tryage.objective import Objective, loss_spread
from tryage.predictors import Prediction, Predictor, TransformerPredictor
from tryage.predictors.targets import LOSS
from tryage.training import fit_and_validate, goal_statistics

logger = logging.getLogger("paper")

Choose = Callable[[Sequence[str]], Any]
"""n prompts → (n,) columns of the score table, -1 where nothing was chosen."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


def fit_auto(table: ScoreTable, library: Library, seed: int) -> tuple[Router, dict[str, Any]]:
    """Fit `auto` on the bundled static encoder; return what it chose beside the router."""
    fit = fit_and_validate(table, "auto", StaticEncoder.bundled(), seed)
    return _router(fit.predictor, table, library), fit.choice or {}


def fit_transformer(
    table: ScoreTable,
    library: Library,
    encoder: str,
    seed: int,
    checkpoints: Path,
    settings: Mapping[str, Any],
) -> tuple[Router, list[float]]:
    """Fine-tune an encoder to predict all losses; return its held-out objectives beside it."""
    predictor = TransformerPredictor(
        SentenceEncoder(encoder), seed=seed, checkpoints=checkpoints, **settings
    )
    predictor.fit(table.prompts, table)
    return _router(predictor, table, library), predictor.history_


def _router(predictor: Predictor, table: ScoreTable, library: Library) -> Router:
    objective = Objective.fit(
        library, {FILL_MASK: loss_spread(table.losses)}, **goal_statistics(table, library)
    )
    return Router(library, {FILL_MASK: cast(Predictor, Remembered(predictor))}, objective=objective)


class Remembered:
    """A fitted predictor that predicts each prompt once, however many weights are tried on it."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._by_prompt: dict[str, tuple[Any, Any, bool]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return what the predictor says of the prompts' losses."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._by_prompt]
        if new:
            prediction = self._predictor.predict(new)
            rows = zip(prediction.mean[LOSS], prediction.std[LOSS], prediction.ood, strict=True)
            self._by_prompt |= dict(zip(new, rows, strict=True))
        mean, std, ood = zip(*(self._by_prompt[prompt] for prompt in prompts), strict=True)
        return Prediction({LOSS: np.array(mean)}, {LOSS: np.array(std)}, np.array(ood))


class NaiveBayes:
    """A domain classifier: multinomial naive Bayes over words and punctuation marks.

    Args:
        texts: domain → texts of it.
        smoothing: what is added to every count.
    """

    def __init__(self, texts: Mapping[str, Iterable[str]], *, smoothing: float) -> None:
        counts = {domain: Counter[str]() for domain in texts}
        for domain, some in texts.items():
            for text in some:
                counts[domain].update(_TOKEN.findall(text.lower()))
        self.domains = tuple(counts)
        vocabulary = set().union(*counts.values())
        size = len(vocabulary) + 1
        self._unknown = np.array(
            [math.log(smoothing / (c.total() + smoothing * size)) for c in counts.values()]
        )
        self._logs = {
            token: np.array(
                [
                    math.log((c[token] + smoothing) / (c.total() + smoothing * size))
                    for c in counts.values()
                ]
            )
            for token in vocabulary
        }

    def classify(self, prompts: Sequence[str]) -> Any:
        """Return the number of the likeliest domain of each prompt, (n,)."""
        sums = [
            sum(self._logs.get(t, self._unknown) for t in _TOKEN.findall(prompt.lower()))
            for prompt in prompts
        ]
        return np.array([int(np.argmax(np.broadcast_to(s, len(self.domains)))) for s in sums])


class DomainChooser:
    """Takes, for the domain that a classifier finds, the expert that did best on that domain.

    Args:
        classifier: finds the domain.
        table: what experts did on training prompts.
    """

    def __init__(self, classifier: NaiveBayes, table: ScoreTable) -> None:
        self.classifier = classifier
        domains = classifier.classify(table.prompts)
        overall = int(table.losses.mean(axis=0).argmin())
        self.best = np.array(
            [
                table.losses[domains == d].mean(axis=0).argmin()
                if (domains == d).any()
                else overall
                for d in range(len(classifier.domains))
            ]
        )

    def choose(self, prompts: Sequence[str]) -> Any:
        """Return the chosen columns, (n,)."""
        return self.best[self.classifier.classify(prompts)]


def domain_texts(corpora: Path, characters: int) -> dict[str, list[str]]:
    """The first training texts of every domain, up to so many characters."""
    texts: dict[str, list[str]] = {}
    for domain in DOMAINS:
        texts[domain] = []
        left = characters
        for row in read_jsonl(corpora / domain / "train.jsonl"):
            if left <= 0:
                break
            if not held_out(row):
                texts[domain].append(row["text"])
                left -= len(row["text"])
    return texts


def asker(model: str) -> Callable[[str], str]:
    """Return a language model as a function, question → answer.

    Args:
        model: a folder or Hub id of a text-generation model; or ``URL#MODEL`` of an
            OpenAI-compatible endpoint.
    """
    from tryage.runtime import Runtime

    if model.startswith(("http://", "https://")):
        url, _, name = model.partition("#")
        expert = Expert(name="llm", model=name or "llm", endpoint=Endpoint(url=url))
    else:
        expert = Expert(name="llm", model=model)
    pipeline: Any = Runtime(Library([expert], name="llm")).load("llm")
    return lambda question: str(pipeline.generate(question, max_new_tokens=16, temperature=0).text)


def rivals(
    plan: Plan, train: Split, valid: ScoreTable, corpora: Path, encoder: str | None
) -> tuple[dict[str, Choose], dict[str, Any]]:
    """The rivals that need no language model, each with the setting that is best on `valid`.

    Returns:
        Rival → how it chooses, and what was compared: rival → setting → mean regret on `valid`.
    """
    cards = {one.name: one.card for one in plan.experts}
    texts = domain_texts(corpora, min(500_000, plan.train_characters))
    settings: dict[str, dict[str, Choose]] = {
        "domain_classifier": _classifiers(texts, train.table),
        "domain_classifier_of_prompts": _classifiers(_prompts_by_domain(train), train.table),
        "cards": {"encoder=static": CardSelector(StaticEncoder.bundled(), cards).choose},
    }
    if encoder:
        named = CardSelector(SentenceEncoder(encoder), cards)
        settings["cards"][f"encoder={Path(encoder).parent.name or encoder}"] = named.choose
    chosen: dict[str, Choose] = {}
    compared: dict[str, Any] = {}
    for name, ways in settings.items():
        regrets = {setting: mean_regret(valid, way(valid.prompts)) for setting, way in ways.items()}
        best = min(regrets, key=lambda setting: regrets[setting])
        chosen[name] = ways[best]
        compared[name] = {"regret": regrets, "chosen": best}
    return chosen, compared


def _classifiers(texts: Mapping[str, Iterable[str]], table: ScoreTable) -> dict[str, Choose]:
    return {
        f"smoothing={value}": DomainChooser(NaiveBayes(texts, smoothing=value), table).choose
        for value in (1.0, 0.1, 0.01)
    }


def _prompts_by_domain(train: Split) -> dict[str, list[str]]:
    """What a router learns from, but for mixtures, which are of no one domain."""
    prompts: dict[str, list[str]] = {domain: [] for domain in DOMAINS}
    for prompt, domain in zip(train.table.prompts, train.domains, strict=True):
        if domain in prompts:
            prompts[domain].append(prompt)
    return prompts


def mean_regret(table: ScoreTable, choices: Any) -> float:
    """Mean distance to the best expert over all prompts, bits per byte."""
    lowest = table.losses.min(axis=1)
    return float((table.losses[np.arange(len(table)), choices] - lowest).mean())


def prompted(plan: Plan, model: str, prompts: Sequence[str], fallback: int) -> tuple[Any, float]:
    """Choices of a language model that reads the cards; the fallback where it names no expert.

    Returns:
        (n,) columns, and the share of answers that named no expert, or several.
    """
    cards = {one.name: one.card for one in plan.experts}
    choices = PromptedSelector(asker(model), cards).choose(prompts)
    return np.where(choices == NO_CHOICE, fallback, choices), float((choices == NO_CHOICE).mean())
