"""`TryageSelector`, `TryageMultiSelector`: pick tools, for LlamaIndex's router engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Unpack

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import ToolMetadata

from llama_index_tryage._caller import is_rewritten, warn_composed
from llama_index_tryage._descriptions import Descriptions
from llama_index_tryage.events import announce
from tryage import Decision, Expert, Router
from tryage.binding import (
    LAST_MESSAGE,
    TOP,
    Binding,
    RouterOptions,
    bind,
    check_arguments,
    check_flags_from,
    check_options,
    checked_names,
    off_loop,
    own_text,
)
from tryage.decision import RankedExpert
from tryage.errors import LibraryError, did_you_mean

Fallback = Literal["description"] | None


class TryageSelectorResult(SelectorResult):
    """Selections, best first, and what they rest on.

    Attributes:
        decision: the decision as JSON types, with the keys of ``tryage route --json``; None where
            descriptions were compared.
        similarities: cosine of the query and each selection's description; None where a router
            decided.
    """

    decision: dict[str, Any] | None = None
    similarities: list[float] | None = None
    _chances: Callable[[], list[float]] | None = PrivateAttr(default=None)

    @property
    def probabilities(self) -> list[float] | None:
        """For every choice, in their order, the chance that it has the lowest total.

        See `tryage.chances`. None where descriptions were compared.
        """
        return None if self._chances is None else self._chances()


class _Picked(NamedTuple):
    result: TryageSelectorResult
    decision: Decision | None


class TryageSelector(BaseSelector):
    """Picks one of several tools.

    Where the tools stand for experts of the router, it decides as for any prompt. A tool is an
    expert by its name; where it has no name, or one that is no expert's, by its description; or by
    its place, where `experts` names one for each. Experts that no tool stands for are not
    eligible.

    Where no tool stands for an expert, the tool whose description is closest to the query is
    picked, by the router's own encoder, and the reason says so. Goals say nothing of such tools,
    and limits on them cannot be checked, which is an error.

    The query itself goes on to the tool as it is, flags included.

    Args:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: the expert of each choice by place; by default names and descriptions tell.
        fallback: ``"description"`` compares descriptions also where only some of the tools are
            experts, or `aliases` fit none. By default that is an error, since a name may be
            mistyped.
        **options: those of `tryage.binding.RouterOptions`. `aliases` maps the name or description
            of a tool to a name in the library; a function in `flags_from` takes the query bundle.
            A query that a chat engine, an agent or another engine wrote is no ``"last_message"``
            of the user.
    """

    _top_k = 1
    _margin = 0.0

    def __init__(
        self,
        router: Router | str | Path,
        *,
        experts: Sequence[str] | None = None,
        fallback: Fallback = None,
        **options: Unpack[RouterOptions],
    ) -> None:
        check_arguments(type(self).__name__, options, RouterOptions.__annotations__)
        check_options({**options, "fallback": fallback})
        self._flags_from = options.get("flags_from")
        check_flags_from(self._flags_from, "a query has")
        self._experts = checked_names(experts)
        self._aliases = dict(options.get("aliases") or {})
        self._fallback = fallback
        self._descriptions = Descriptions()
        # Tools are named by their choices, so aliases are read here; the binding has none.
        self._binding: Binding[str] = bind(router, None, _name, {**options, "aliases": None})

    def load(self) -> Router:
        """Load the router now instead of at first use; safe from many threads."""
        return self._binding.load()

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Do nothing: no prompt is used."""

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        picked = self._pick(choices, query, self._is_own())
        if picked.decision is not None:
            announce(picked.decision)
        return picked.result

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        picked = await off_loop(self._pick, choices, query, self._is_own())
        if picked.decision is not None:
            announce(picked.decision)
        return picked.result

    def _is_own(self) -> bool:
        """Tell whether the query of this call is the user's own, so that its flags act."""
        if self._flags_from == LAST_MESSAGE and is_rewritten():
            warn_composed(type(self).__name__)
            return False
        return self._flags_from is not None

    def _pick(
        self, choices: Sequence[ToolMetadata], query: QueryBundle, flags_act: bool
    ) -> _Picked:
        names = self._names(choices)
        text = query.query_str
        if callable(self._flags_from):
            text = own_text(self._flags_from, query)
        elif not text.strip() and query.image_path:
            text, flags_act = "[image]", False
        if names is None:
            return _Picked(self._by_description(choices, text, flags_act), None)
        library = self._binding.router.library
        others = (name for name in library.names if name not in names)
        without = dict.fromkeys(others, "no tool stands for it")
        decision = self._binding.decide(text, flags=flags_act, without=without)
        eligible = [ranked for ranked in decision.ranking if ranked.eligible][: self._top_k]
        best = eligible[0].total or 0.0
        near = [r for r in eligible if r is eligible[0] or (r.total or 0.0) <= best + self._margin]
        selections = [
            SingleSelection(index=names.index(ranked.expert), reason=self._reason(decision, ranked))
            for ranked in near
        ]
        result = TryageSelectorResult(selections=selections, decision=decision.to_dict(top=TOP))
        result._chances = partial(_chances_of, decision, names)
        return _Picked(result, decision)

    def _reason(self, decision: Decision, ranked: RankedExpert) -> str:
        loss = f"predicted loss {ranked.loss:.4f}"
        if ranked.expert == decision.expert:
            return f"{decision.explain().splitlines()[0]}; {loss}"
        behind = (ranked.total or 0.0) - float(decision.totals.min())
        return f"{ranked.expert} — {behind:.4f} behind the best, margin {self._margin:g}; {loss}"

    def _by_description(
        self, choices: Sequence[ToolMetadata], text: str, flags_act: bool
    ) -> TryageSelectorResult:
        router = self.load()
        ranked = self._descriptions.rank(
            router, choices, text, goals=self._binding.goals, flags=flags_act
        )
        near = [f for f in ranked[: self._top_k] if f.cosine >= ranked[0].cosine - self._margin]
        return TryageSelectorResult(
            selections=[SingleSelection(index=f.place, reason=f.reason) for f in near],
            similarities=[f.cosine for f in near],
        )

    def _names(self, choices: Sequence[ToolMetadata]) -> tuple[str, ...] | None:
        """Return the expert of each choice; None where descriptions are compared.

        Raises:
            LibraryError: a choice stands for none and `fallback` is not declared, or two stand
                for the same.
        """
        if not choices:
            raise LibraryError("there are no choices to select from")
        if self._experts is not None and len(self._experts) != len(choices):
            raise LibraryError(
                f"experts names {len(self._experts)}, but there are {len(choices)} choices"
            )
        names_of = [self._name(place, choice) for place, choice in enumerate(choices)]
        names = [name for name in names_of if name is not None]
        if len(names) < len(names_of):
            if self._fallback is not None or not (names or self._aliases):
                return None
            raise self._unknown(names_of.index(None), choices)
        for place, name in enumerate(names):
            if name in names[:place]:
                raise LibraryError(f"choices {names.index(name)} and {place} are both {name!r}")
        return tuple(names)

    def _name(self, place: int, choice: ToolMetadata) -> str | None:
        library = self.load().library
        if self._experts is not None:
            return library.names[library.index(self._experts[place])]
        candidates = (self._aliases.get(word, word) for word in _words(choice))
        return next((name for name in candidates if name in library), None)

    def _unknown(self, place: int, choices: Sequence[ToolMetadata]) -> LibraryError:
        library = self.load().library
        word = next(_words(choices[place]), "")
        hint = did_you_mean(word, library.names) or f" It has: {', '.join(library.names[:20])}."
        return LibraryError(
            f"choice {place}, {word!r}, is not an expert of library {library.name!r}.{hint} Name "
            "the tools like experts, say with aliases= or experts= which expert each one is, or "
            "compare descriptions with fallback='description'."
        )


class TryageMultiSelector(TryageSelector):
    """Picks up to `top_k` tools that are nearly as good as the best.

    Args:
        router: as `TryageSelector`.
        top_k: how many tools to pick at most.
        margin: how much worse than the best a tool may be: in total (predicted loss and weighted
            goals) where tools are experts, in cosine where descriptions are compared.
        **options: as `TryageSelector`.
    """

    def __init__(
        self, router: Router | str | Path, *, top_k: int = 2, margin: float = 0.1, **options: Any
    ) -> None:
        check_options({"top_k": top_k, "margin": margin})
        super().__init__(router, **options)
        self._top_k = top_k
        self._margin = margin


def _chances_of(decision: Decision, names: Sequence[str]) -> list[float]:
    chances = decision.chances()
    return [chances[name] for name in names]


def _words(choice: ToolMetadata) -> Iterator[str]:
    """Yield name and description of a choice, as far as it has them."""
    return (word for word in (choice.name, choice.description) if word)


def _name(_runtime: Any, expert: Expert) -> str:
    """Return the name of an expert, which takes the place of a callable: none is called."""
    return expert.name
