"""The examples: each prompt through LangChain or LlamaIndex to the pipeline that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tryage.quickstart.plan import Example, Via
from tryage.router import Router

if TYPE_CHECKING:
    from tryage.runtime import Runtime

_OPTIONS: dict[str, Any] = {"max_new_tokens": 48, "temperature": 0.5, "seed": 0}
"""Small models repeat themselves when they always take the likeliest token."""

Ask = Callable[[str], tuple[str, dict[str, Any]]]
"""Prompt → answer, and the decision's record in the answer's metadata."""


@dataclass(frozen=True)
class Answered:
    """One example, answered. Losses are bits per byte of the prompt or of its hidden words."""

    prompt: str
    expert: str
    predicted_loss: float
    measured_loss: float
    answer: str
    via: Via

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``tryage quickstart --json`` prints."""
        return asdict(self)


def answer_all(router: Router, runtime: Runtime, examples: Sequence[Example]) -> Iterator[Answered]:
    """Route each example, answer it with the chosen expert, and measure that expert on it.

    Args:
        router: decides; flags in the examples act.
        runtime: loads the experts; both adapters share them.
        examples: prompts to answer.
    """
    ask: dict[Via, Ask] = {}
    for example in examples:
        if example.via not in ask:
            ask[example.via] = _ADAPTERS[example.via](router, runtime)
        answer, record = ask[example.via](example.prompt)
        expert = record["answered_by"]
        ranked = {row["expert"]: row["loss"] for row in record["ranking"]}
        yield Answered(
            prompt=example.prompt,
            expert=expert,
            predicted_loss=ranked[expert],
            measured_loss=_measured(router, runtime, expert, example),
            answer=answer,
            via=example.via,
        )


def _langchain(router: Router, runtime: Runtime) -> Ask:
    from langchain_core.messages import AIMessage
    from langchain_core.prompts import ChatPromptTemplate

    from langchain_tryage import TryageRouter
    from langchain_tryage.pipelines import ChatTryagePipeline

    experts = {
        name: ChatTryagePipeline(runtime=runtime, expert=name, **_OPTIONS)
        for name in router.library.names
    }

    def parser(message: AIMessage) -> tuple[str, dict[str, Any]]:
        return str(message.text), message.response_metadata["tryage"]

    prompt = ChatPromptTemplate.from_messages([("human", "{text}")])
    # The whole message is the user's own text here, so its flags may act.
    chain = prompt | TryageRouter(router, experts, flags_from="last_message") | parser
    return lambda text: chain.invoke({"text": text})


def _llama_index(router: Router, runtime: Runtime) -> Ask:
    from llama_index_tryage import TryageLLM
    from llama_index_tryage.pipelines import TryagePipeline

    experts = {
        name: TryagePipeline(runtime=runtime, expert=name, **_OPTIONS)
        for name in router.library.names
    }
    llm = TryageLLM(router, experts, flags_from="last_message")

    def ask(text: str) -> tuple[str, dict[str, Any]]:
        response = llm.complete(text)
        return response.text, response.additional_kwargs["tryage"]

    return ask


_ADAPTERS: dict[Via, Callable[[Router, Runtime], Ask]] = {
    "langchain": _langchain,
    "llama-index": _llama_index,
}


def _measured(router: Router, runtime: Runtime, expert: str, example: Example) -> float:
    """Return the loss of an expert on the example without its flags."""
    from tryage.labeling import measure

    row = {"prompt": router.route(example.prompt).prompt}
    if example.reference is not None:
        row["reference"] = example.reference
    return measure(runtime.load(expert), [row])[0].loss
