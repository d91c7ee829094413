"""Scripted text models; `langchain_tryage.testing` exports them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import BaseModel, PrivateAttr


def until_stop(stop: Sequence[str] | None, text: str) -> str:
    """Return a text up to the first stop mark."""
    for mark in stop or []:
        text = text.partition(mark)[0]
    return text


def spoken(text: str, late: BaseException | None) -> Iterator[str]:
    """Yield words, each with the space before it; raise `late` after the first."""
    for number, word in enumerate(text.split(" ")):
        if number == 1 and late is not None:
            raise late
        yield word if number == 0 else f" {word}"


class Scripted(BaseModel):
    """What scripted text and chat models share: their script and the calls so far."""

    label: str
    answer: str | Callable[[Any], str] | None = None
    fault: Any = None
    gate: Any = None
    _calls: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, each with what was sent, ``stop`` and ``kwargs``."""
        return self._calls

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"label": self.label}

    def _next_text(self, sent: Any, last: str, **call: Any) -> str:
        """Note a call and return the text of its answer.

        Args:
            sent: what a function in `answer` gets.
            last: the text that the default answer repeats.
            call: what is noted, with ``stop`` in it.
        """
        self._calls.append(call)
        if self.fault is not None:
            raise self.fault
        if self.answer is None:
            text = f"{self.label} says {last}"
        else:
            text = self.answer(sent) if callable(self.answer) else self.answer
        return until_stop(call["stop"], text)


class ScriptedWholeText(Scripted, BaseLLM):
    """A text model that answers with its label and the prompt; it cannot stream.

    Attributes:
        label: its name; answers begin with it.
        answer: text of every answer, or a function from the prompt to it; None: as above.
        fault: exception that every call raises.
        gate: a `tryage.testing.Gate` that holds every call before its answer.
    """

    @property
    def _llm_type(self) -> str:
        return "scripted-text"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_model_name": f"{self.label}-model"}

    def _text(self, prompt: str, stop: Any, kwargs: dict[str, Any]) -> str:
        return self._next_text(prompt, prompt, prompt=prompt, stop=stop, kwargs=kwargs)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self.gate is not None:
            self.gate.wait()
        texts = [self._text(prompt, stop, kwargs) for prompt in prompts]
        return LLMResult(
            generations=[[Generation(text=text)] for text in texts],
            llm_output={"token_usage": {"total_tokens": len(prompts)}, "model_name": self.label},
        )

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self.gate is not None:
            await self.gate.wait_async()
        return self._generate(prompts, stop, **kwargs)


class ScriptedText(ScriptedWholeText):
    """The same, streamed word by word.

    Attributes:
        late: exception that a stream raises after its first word.
        reports_tokens: whether its streams tell callbacks of every token themselves, as some
            vendors' models do.
    """

    late: Any = None
    reports_tokens: bool = False

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        if self.gate is not None:
            self.gate.wait()
        for piece in spoken(self._text(prompt, stop, kwargs), self.late):
            chunk = GenerationChunk(text=piece)
            if self.reports_tokens and run_manager is not None:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        if self.gate is not None:
            await self.gate.wait_async()
        for piece in spoken(self._text(prompt, stop, kwargs), self.late):
            chunk = GenerationChunk(text=piece)
            if self.reports_tokens and run_manager is not None:
                await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
