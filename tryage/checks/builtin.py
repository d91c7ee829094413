"""Built-in checks. None of them executes what a model wrote."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from tryage.checks.check import Check, CheckedAnswer, Finding
from tryage.errors import CheckError, missing_extra

Similarity = Callable[[str, str], float | bool]

_FENCE = re.compile(r"\A\s*```[\w-]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_WORD = re.compile(r"\w+")
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_QUESTION = """{question}

Question: {prompt}

Answer: {answer}

Reply with yes or no."""


def valid_json(schema: Any = None, **options: Any) -> Check:
    """Accept an answer that is JSON, perhaps inside one code fence, and fits a schema.

    Args:
        schema: a pydantic model or any type that pydantic validates; a JSON Schema as a mapping,
            which needs the package jsonschema; None takes any JSON.
        **options: further fields of `Check`.
    """
    return Check(_ValidJSON(schema, _validator(schema)), **{"name": "valid_json", **options})


def matches(pattern: str | re.Pattern[str], **options: Any) -> Check:
    """Accept an answer in which a regular expression is found.

    Args:
        pattern: searched for; anchor it to match the whole answer.
        **options: further fields of `Check`.
    """
    compiled = re.compile(pattern)
    return Check(_Matches(compiled), **{"name": "matches", **options})


def agrees_with(
    expert: str | Callable[[str], str], *, similarity: Similarity | None = None, **options: Any
) -> Check:
    """Accept an answer that another expert gives too; that one is asked once, which costs.

    Args:
        expert: name of an expert of the library, or a function of the prompt.
        similarity: of two answers: a number from `threshold` (0.5) on, or True, is agreement. By
            default the same words in the same order, up to case and punctuation.
        **options: further fields of `Check`.
    """
    examiner = _Agrees(expert, similarity or same_words)
    return Check(examiner, **{"name": "agrees_with", **options})


def judged_by(
    model: str | Callable[[str], str], question: str = "Is the answer right?", **options: Any
) -> Check:
    """Accept an answer of which a model says yes.

    Args:
        model: name of an expert of the library, or a function of a text that returns a reply.
        question: what the model is asked about prompt and answer.
        **options: further fields of `Check`.
    """
    return Check(_Judged(model, question), **{"name": "judged_by", **options})


def confident(threshold: float, **options: Any) -> Check:
    """Accept an answer whose tokens the expert found likely.

    Args:
        threshold: least mean log-probability of the answer's tokens, 0 or less (natural
            logarithm). An expert that tells none gives no finding.
        **options: further fields of `Check`.
    """
    if not threshold <= 0:
        raise CheckError(f"threshold is {threshold!r}; a mean log-probability is 0 or less")
    return Check(_Confident(), **{"name": "confident", "threshold": threshold, **options})


def all_of(*checks: Any, **options: Any) -> Check:
    """Accept what every check accepts; rates multiply as if the checks were independent."""
    parts = _parts(checks)
    return Check(
        _Combined(parts, all_must=True),
        **{
            "name": "all_of",
            "accepts_right": _product([part.accepts_right for part in parts]),
            "accepts_wrong": _product([part.accepts_wrong for part in parts]),
            **options,
        },
    )


def any_of(*checks: Any, **options: Any) -> Check:
    """Accept what some check accepts; rates combine as if the checks were independent."""
    parts = _parts(checks)
    return Check(
        _Combined(parts, all_must=False),
        **{
            "name": "any_of",
            "accepts_right": _complement([part.accepts_right for part in parts]),
            "accepts_wrong": _complement([part.accepts_wrong for part in parts]),
            **options,
        },
    )


def same_words(one: str, other: str) -> bool:
    """Tell whether two texts hold the same words in the same order, up to case."""
    return _WORD.findall(one.casefold()) == _WORD.findall(other.casefold())


@dataclass(frozen=True, slots=True)
class _ValidJSON:
    schema: Any
    validate: Callable[[Any], bool]

    def __call__(self, prompt: str, answer: Any) -> bool:
        if not isinstance(answer, str):
            return self.validate(answer)
        fenced = _FENCE.match(answer)
        try:
            data = json.loads(fenced[1] if fenced else answer)
        except (ValueError, RecursionError):
            return False
        return self.validate(data)


@dataclass(frozen=True, slots=True)
class _Matches:
    pattern: re.Pattern[str]

    def __call__(self, prompt: str, answer: Any) -> bool:
        return self.pattern.search(str(answer)) is not None


@dataclass(frozen=True, slots=True)
class _Agrees:
    compares: ClassVar[bool] = True

    expert: str | Callable[[str], str]
    similarity: Similarity

    @property
    def asks(self) -> tuple[str, ...]:
        return (self.expert,) if isinstance(self.expert, str) else ()

    def examine(self, checked: CheckedAnswer) -> Finding:
        if self.expert == checked.expert:
            return None  # it would agree with itself
        other = _ask(self.expert, checked, None)
        return self.similarity(str(checked.answer), other)


@dataclass(frozen=True, slots=True)
class _Judged:
    asks_again: ClassVar[bool] = True

    model: str | Callable[[str], str]
    question: str

    @property
    def asks(self) -> tuple[str, ...]:
        return (self.model,) if isinstance(self.model, str) else ()

    def examine(self, checked: CheckedAnswer) -> Finding:
        text = _QUESTION.format(
            question=self.question, prompt=checked.prompt, answer=checked.answer
        )
        words = _YES_NO.findall(_ask(self.model, checked, text))
        return None if not words else words[-1].lower() == "yes"


@dataclass(frozen=True, slots=True)
class _Confident:
    asks: ClassVar[tuple[str, ...]] = ()

    def examine(self, checked: CheckedAnswer) -> Finding:
        logprobs = [value for value in checked.logprobs or () if not math.isnan(value)]
        return sum(logprobs) / len(logprobs) if logprobs else None


@dataclass(frozen=True, slots=True)
class _Combined:
    """Several checks in one, with three truth values; a decisive result beats an unclear one."""

    parts: tuple[Check, ...]
    all_must: bool

    @property
    def asks_again(self) -> bool:
        return any(part.asks_again for part in self.parts)

    @property
    def compares(self) -> bool:
        return any(part.compares for part in self.parts)

    @property
    def asks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.asks))

    def examine(self, checked: CheckedAnswer) -> Finding:
        is_unclear = False
        for part in self.parts:
            finding = part.find(checked)
            if finding is None:
                is_unclear = True
            elif part.verdict(finding).accepted != self.all_must:
                return not self.all_must
        return None if is_unclear else self.all_must


def _ask(expert: str | Callable[[str], str], checked: CheckedAnswer, text: str | None) -> str:
    if not isinstance(expert, str):
        return expert(checked.prompt if text is None else text)
    if checked.ask is None:
        raise CheckError(
            f"the check asks expert {expert!r}, which only a router with experts can call; give a "
            "function of the prompt in place of the name"
        )
    return checked.ask(expert) if text is None else checked.ask(expert, text)


def _validator(schema: Any) -> Callable[[Any], bool]:
    if schema is None:
        return lambda data: True
    if isinstance(schema, Mapping):
        try:
            import jsonschema
        except ImportError as error:
            raise missing_extra("checks", "checking a JSON Schema") from error
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(dict(schema))
        return lambda data: bool(kind(dict(schema)).is_valid(data))
    adapter: TypeAdapter[Any] = TypeAdapter(schema)

    def fits(data: Any) -> bool:
        try:
            adapter.validate_python(data)
        except ValidationError:
            return False
        return True

    return fits


def _parts(checks: tuple[Any, ...]) -> tuple[Check, ...]:
    if not checks:
        raise CheckError("there is no check to combine; give one at least")
    parts = tuple(Check.of(check) for check in checks)
    for part in parts:
        if part.is_async:
            raise CheckError(
                f"check {part.name!r} is a coroutine function, which cannot be combined; combine "
                "inside a coroutine function of your own"
            )
    return parts


def _product(rates: list[float | None]) -> float | None:
    stated = [rate for rate in rates if rate is not None]
    return math.prod(stated) if len(stated) == len(rates) else None


def _complement(rates: list[float | None]) -> float | None:
    product = _product([None if rate is None else 1.0 - rate for rate in rates])
    return None if product is None else 1.0 - product
