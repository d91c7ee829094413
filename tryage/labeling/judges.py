"""Judges: models that score answers, one by one or two against each other.

A judge gets a prompt in words, and a pattern reads its reply. Replies that cannot be read are
counted, never guessed. Two answers are shown in both orders, and a verdict that changes with the
order is a tie, so a judge that prefers a position gives nobody an advantage.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import string
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, Literal, Self

from tryage.dispatch import describe_error
from tryage.errors import ExpertError, OptionError, PromptError
from tryage.labeling.metrics import metric_name
from tryage.labeling.rows import Row
from tryage.labeling.verdicts import COMPARE, RATE, Counts, Verdict, read_score, read_winner
from tryage.prompts import short

Ask = Callable[[str], Awaitable[str]]
"""Calls the judge's model; raises ExpertError if it fails."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Base of both kinds of judge.

    Attributes:
        model: text → reply; a callable, or anything that an adapter takes as an expert.
        name: stored in the folder, which refuses a run with another judge; by default the name of
            the model's function or class, which does not tell served models apart.
        template: the prompt of the model, with fields in braces; None takes the default.
        parse: reply → number, or None if it cannot be read; None takes the default.
        counts: what the judge did so far.
    """

    kind: ClassVar[str]
    fields: ClassVar[frozenset[str]]
    other_fields: ClassVar[frozenset[str]] = frozenset({"prompt", "reference"})

    model: Any = field(kw_only=False)
    name: str | None = None
    template: str | None = None
    parse: Callable[[str], float | None] | None = None
    counts: Counts = field(default_factory=Counts, compare=False)

    def __post_init__(self) -> None:
        if self.template is None:
            return
        allowed = self.fields | self.other_fields
        try:
            used = _fields_of(self.template)
            missing, unknown = self.fields - used, used - allowed
            if not unknown:
                self.template.format(**dict.fromkeys(allowed, ""))
        except ValueError as error:
            raise OptionError(f"the template of the judge cannot be read: {error}") from error
        if missing or unknown:
            names = ", ".join(sorted(missing or unknown))
            what = "lacks" if missing else "has the unknown field"
            raise OptionError(f"the template of the judge {what} {names}")

    @property
    def alone(self) -> bool:
        """Whether each answer is judged without those of other experts."""
        return True

    @property
    def needs_reference(self) -> bool:
        """Whether every prompt must have a reference."""
        return self.template is not None and "reference" in _fields_of(self.template)

    def over(self, model: Any) -> Self:
        """Return the judge with its model wrapped; name and counts stay the same."""
        return dataclasses.replace(self, model=model, name=self._name)

    @property
    def _name(self) -> str:
        return self.name or metric_name(self.model)

    def settings(self) -> dict[str, Any]:
        """Return what its scores depend on, as JSON."""
        template = hashlib.sha256(self._template.encode()).hexdigest()[:12]
        parse = None if self.parse is None else metric_name(self.parse)
        return {"judge": self._name, "judging": self.kind, "template": template, "parse": parse}

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Refuse rows that it cannot judge.

        Raises:
            PromptError: a prompt lacks the reference.
        """
        for row in rows if self.needs_reference else ():
            if row.reference is None:
                raise PromptError(
                    f"prompt {row.id!r}: reference: missing; the judge compares answers with it"
                )

    async def verdicts(
        self,
        ask: Ask,
        row: Row,
        answers: Mapping[str, str],
        experts: Collection[str],
    ) -> dict[str, Verdict]:
        """Judge answers to one prompt.

        Args:
            ask: calls the model.
            row: the prompt and its reference.
            answers: expert → answer.
            experts: those whose answers to judge.
        """
        raise NotImplementedError

    @property
    def _template(self) -> str:
        raise NotImplementedError

    def _number(self, reply: str) -> float | None:
        """Read a reply by the default pattern."""
        raise NotImplementedError

    @property
    def _range(self) -> tuple[float, float]:
        """The least and the greatest number that a reply may hold."""
        return 0.0, 1.0

    async def _read(self, ask: Ask, **fields: Any) -> float | Verdict:
        """Call the model once; return the number in its reply, or a verdict without a score."""
        try:
            reply = await ask(self._template.format(**fields))
        except ExpertError as error:
            return Verdict(None, f"the judge failed: {error}")
        self.counts.asked += 1
        try:
            number = (self.parse or self._number)(reply)
        except Exception as error:  # noqa: BLE001 - it may be the user's own and raise anything
            return Verdict(None, f"reading the judge's reply failed: {describe_error(error)}")
        if number is not None and not isinstance(number, Real):
            return Verdict(
                None, f"reading the judge's reply gave {short(number)}, which is no number"
            )
        low, high = self._range
        if number is None or not low <= number <= high:
            self.counts.parse_failures += 1
            return Verdict(None, "the judge's reply could not be read", parse_failure=True)
        return number


@dataclass(frozen=True, kw_only=True)
class PointwiseJudge(Judge):
    """Grades each answer by itself.

    Attributes:
        scale: the least and the greatest grade.
    """

    kind: ClassVar[str] = "pointwise"
    fields: ClassVar[frozenset[str]] = frozenset({"answer"})
    other_fields: ClassVar[frozenset[str]] = frozenset({"prompt", "reference", "low", "high"})

    scale: tuple[float, float] = (1, 10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale[0] < self.scale[1]:
            raise OptionError(f"scale is {self.scale}; its first number is the lower one")

    @property
    def _template(self) -> str:
        return self.template or RATE

    @property
    def _range(self) -> tuple[float, float]:
        return self.scale

    def _number(self, reply: str) -> float | None:
        return read_score(reply)

    def settings(self) -> dict[str, Any]:
        """Return what its scores depend on, as JSON."""
        return super().settings() | {"scale": list(self.scale)}

    async def verdicts(
        self,
        ask: Ask,
        row: Row,
        answers: Mapping[str, str],
        experts: Collection[str],
    ) -> dict[str, Verdict]:
        """Judge answers to one prompt; arguments as `Judge.verdicts`."""
        return {name: await self._grade(ask, row, answers[name]) for name in experts}

    async def _grade(self, ask: Ask, row: Row, answer: str) -> Verdict:
        low, high = self.scale
        grade = await self._read(
            ask,
            prompt=row.prompt,
            answer=answer,
            reference=_reference_of(row) if self.template is None else row.reference,
            low=f"{low:g}",
            high=f"{high:g}",
        )
        if isinstance(grade, Verdict):
            return grade
        return Verdict((grade - low) / (high - low))


@dataclass(frozen=True, kw_only=True)
class PairwiseJudge(Judge):
    """Compares answers two by two; a score is the share of comparisons won, a tie half of one.

    Attributes:
        against: ``"each other"`` compares every two experts' answers to a prompt: m · (m − 1)
            replies for m experts. ``"reference"`` compares each answer with the prompt's
            reference: 2 · m replies.
        swap: whether each pair is shown in both orders. Without it, a judge that prefers a
            position decides by it.
    """

    kind: ClassVar[str] = "pairwise"
    fields: ClassVar[frozenset[str]] = frozenset({"first", "second"})

    against: Literal["each other", "reference"] = "each other"
    swap: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against not in ("each other", "reference"):
            raise OptionError(f"against is {self.against!r}; it is 'each other' or 'reference'")

    @property
    def alone(self) -> bool:
        """Whether each answer is judged without those of other experts."""
        return self.against == "reference"

    @property
    def needs_reference(self) -> bool:
        """Whether every prompt must have a reference."""
        return self.alone or super().needs_reference

    @property
    def _template(self) -> str:
        return self.template or COMPARE

    def _number(self, reply: str) -> float | None:
        return read_winner(reply)

    def settings(self) -> dict[str, Any]:
        """Return what its scores depend on, as JSON."""
        return super().settings() | {"against": self.against, "swap": self.swap}

    async def verdicts(
        self,
        ask: Ask,
        row: Row,
        answers: Mapping[str, str],
        experts: Collection[str],
    ) -> dict[str, Verdict]:
        """Judge answers to one prompt; arguments as `Judge.verdicts`."""
        results: dict[str, list[float | Verdict]] = {name: [] for name in experts}
        if self.alone:
            for name in experts:
                won = await self._compare(ask, row, answers[name], row.reference or "")
                results[name].append(won)
        for one, other in () if self.alone else itertools.combinations(answers, 2):
            if one not in results and other not in results:
                continue
            won = await self._compare(ask, row, answers[one], answers[other])
            if one in results:
                results[one].append(won)
            if other in results:
                results[other].append(won if isinstance(won, Verdict) else 1.0 - won)
        return {name: _mean(comparisons) for name, comparisons in results.items()}

    async def _compare(self, ask: Ask, row: Row, one: str, other: str) -> float | Verdict:
        """Return 1 if `one` wins, 0 if `other` does; between for ties and changed verdicts."""
        if one == other:
            return 0.5
        forth = await self._ask_in_order(ask, row, one, other)
        if isinstance(forth, Verdict) or not self.swap:
            return forth
        back = await self._ask_in_order(ask, row, other, one)
        if isinstance(back, Verdict):
            # One order alone would let the position decide.
            return back
        self.counts.pairs += 1
        self.counts.flipped += (forth - 0.5) * (back - 0.5) > 0
        for verdict in (forth, back):
            self.counts.first += verdict > 0.5
            self.counts.second += verdict < 0.5
        return (forth + 1.0 - back) / 2

    async def _ask_in_order(self, ask: Ask, row: Row, first: str, second: str) -> float | Verdict:
        """Compare in one order; return 1 if the first wins."""
        shown = "" if self.alone else _reference_of(row)
        return await self._read(
            ask,
            prompt=row.prompt,
            first=first,
            second=second,
            reference=shown if self.template is None else row.reference,
        )


def _fields_of(template: str) -> set[str]:
    """Return the names of a template's fields.

    Raises:
        ValueError: its braces are malformed.
    """
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _reference_of(row: Row) -> str:
    return "" if row.reference is None else f"\n[Reference answer]\n{row.reference}\n"


def _mean(comparisons: Sequence[float | Verdict]) -> Verdict:
    """Average the comparisons of one answer, without those whose replies cannot be read.

    If the judge failed there is no score: a later run compares with every other answer again.
    """
    numbers = [result for result in comparisons if not isinstance(result, Verdict)]
    missing = [result for result in comparisons if isinstance(result, Verdict)]
    missing.sort(key=lambda verdict: verdict.parse_failure)
    unread = any(verdict.parse_failure for verdict in missing)
    if numbers and all(verdict.parse_failure for verdict in missing):
        return Verdict(sum(numbers) / len(numbers), parse_failure=unread)
    reason = (
        missing[0].error if missing else "no other expert answered, so there is none to compare"
    )
    return Verdict(None, reason, parse_failure=unread)
