"""`check_check`: what dispatch relies on of a check."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tryage.checks import Check, Function, Verdict
from tryage.dispatch.checking import AnswerView, Checker
from tryage.testing.contracts import in_threads, require, require_unchanged, run_contracts, snapshot

QUESTION = "What is the capital of France?"

ODD_ANSWERS = (
    "",
    " \n",
    "Paris",
    "paris.",
    "I do not know.",
    '{"city": "Paris"}',
    '{"city": ',
    "```json\n[1, 2]\n```",
    "字 🙂 \u202e",
    "\ud800",
    "[" * 2_000,
    "word " * 20_000,
    None,
    7,
    {"city": "Paris"},
    ["Paris"],
)
"""What experts send, besides good answers: empty, cut off, long, odd, and objects."""

REPLY = "Paris"
"""What other experts answer to a check that asks them."""


def check_check(
    check: Check | Function,
    *,
    accepts: Sequence[tuple[str, Any]] = (),
    rejects: Sequence[tuple[str, Any]] = (),
    skip: Collection[str] = (),
) -> None:
    """Test that a check keeps what dispatch relies on.

    Args:
        check: a check, or its function. Where it asks other experts, they answer "Paris".
        accepts: (prompt, answer) pairs that it must accept.
        rejects: those that it must reject.
        skip: names of contracts that are not tested.

    Raises:
        ContractError: a contract is broken; the message and `contract` name it.
        OptionError: `skip` names no contract.
    """
    suite = _Suite(check, accepts, rejects)
    subject = check.function if isinstance(check, Check) else check
    run_contracts(
        subject,
        (
            suite.can_be_called,
            suite.findings,
            suite.accepted_and_rejected,
            suite.determinism,
            suite.sync_equals_async,
            suite.no_mutation,
            suite.threads,
        ),
        skip,
    )


class _Suite:
    def __init__(
        self,
        check: Check | Function,
        accepts: Sequence[tuple[str, Any]],
        rejects: Sequence[tuple[str, Any]],
    ) -> None:
        self._source = check
        self.accepts, self.rejects = accepts, rejects
        self.examples = [*accepts, *rejects, *((QUESTION, answer) for answer in ODD_ANSWERS)]

    @property
    def check(self) -> Check:
        return Check.of(self._source)

    def can_be_called(self) -> None:
        check = self.check
        require(bool(check.name), "its name is empty")
        require(
            isinstance(check.asks, tuple) and all(isinstance(name, str) for name in check.asks),
            f"asks is {check.asks!r}; it must be a tuple of experts' names",
        )

    def findings(self) -> None:
        """Every answer gets a truth value, a number or None, and never an exception."""
        for prompt, answer in self.examples:
            verdict = self._verdict(prompt, answer)
            reason, failure = verdict.reason or "", f"{self.check.name} failed: "
            require(
                not reason.startswith(failure),
                f"on the answer {_short(answer)} it failed: {reason.removeprefix(failure)}",
            )

    def accepted_and_rejected(self) -> None:
        for examples, expected in ((self.accepts, True), (self.rejects, False)):
            for prompt, answer in examples:
                verdict = self._verdict(prompt, answer)
                require(
                    verdict.accepted is expected,
                    f"it {'rejected' if expected else 'accepted'} the answer {_short(answer)} to "
                    f"{_short(prompt)}",
                )

    def determinism(self) -> None:
        for prompt, answer in self.examples:
            verdicts = {self._verdict(prompt, answer) for _ in range(3)}
            require(
                len(verdicts) == 1, f"asked three times about {_short(answer)}, it said {verdicts}"
            )

    def sync_equals_async(self) -> None:
        async def verdicts() -> list[Verdict]:
            return [
                await self._checker(prompt).averdict("expert", copy.deepcopy(answer))
                for prompt, answer in self.examples
            ]

        with ThreadPoolExecutor(1) as pool:  # a loop may run in this thread
            awaited = pool.submit(lambda: asyncio.run(verdicts())).result()
        for (prompt, answer), verdict in zip(self.examples, awaited, strict=True):
            blocking = self._verdict(prompt, answer)
            require(
                blocking == verdict,
                f"about {_short(answer)} it said {blocking}, and {verdict} where it was awaited",
            )

    def no_mutation(self) -> None:
        for prompt, answer in self.examples:
            own = copy.deepcopy(answer)
            before = snapshot(own)
            self._checker(prompt).verdict("expert", own)
            require_unchanged(before, own, what=f"the check of {_short(answer)}")

    def threads(self) -> None:
        prompt, answer = self.examples[0]
        expected = self._verdict(prompt, answer)
        verdicts = set(in_threads(lambda: self._verdict(prompt, answer)))
        require(verdicts == {expected}, f"in several threads it said {verdicts}, not {expected}")

    def _checker(self, prompt: str) -> Checker[Any]:
        return Checker(self.check, prompt, AnswerView, lambda name, text: REPLY)

    def _verdict(self, prompt: str, answer: Any) -> Verdict:
        return self._checker(prompt).verdict("expert", copy.deepcopy(answer))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
