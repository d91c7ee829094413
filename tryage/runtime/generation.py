"""Text generation with a local model: causal, or encoder-decoder."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from tryage.errors import PromptError
from tryage.experts import TEXT_GENERATION, Expert
from tryage.runtime.answer import Answer
from tryage.runtime.base import MODEL_FAULTS, Cancelled, ModelMemory, Pipeline, check_prompt
from tryage.runtime.batching import BatchCancellation, Batcher, Batching, CallCancellation, Request
from tryage.runtime.decoding import AnswerBuilder, GumbelSampler, RowSamplers, RowStopping
from tryage.runtime.inputs import (
    Options,
    Prompt,
    alternating,
    as_transcript,
    check_messages,
    read_options,
)
from tryage.runtime.models import Parts
from tryage.runtime.padding import pad_rows, padding_is_neutral
from tryage.runtime.rows import Row, group_rows
from tryage.runtime.streams import AsyncTextStream, Start, TextStream, await_answer, wait_for_answer

_MIN_NEW = 64
"""Tokens reserved for the answer when the prompt is long, if the context is large enough."""


class GenerationPipeline(Pipeline):
    """Generates text with a local model.

    A model whose tokenizer has a chat template is prompted through it; any other continues the
    plain text. Every method takes the same options:

    - `max_new_tokens` (64): most tokens of the answer.
    - `stop` (none): strings that end the answer; they are not part of it.
    - `seed` (None): makes a sampled answer repeatable.
    - `temperature` (0.0): 0 takes the most probable token each time; above 0 samples.
    - `chat` (None): whether to use the chat template; None uses it if there is one.

    If the prompt and `max_new_tokens` together exceed the context, the answer gets the tokens that
    the prompt leaves, but at least 64, a quarter of the context, or `max_new_tokens`, whichever is
    least. A prompt that leaves fewer loses its beginning (`Answer.truncated`).

    Concurrent calls are batched as `Batching` says; each ends by itself. An answer equals that of
    the call alone, up to rounding: in float32 two tokens must tie to a millionth to differ.
    """

    task: ClassVar[str] = TEXT_GENERATION
    padding_side: ClassVar[Literal["left", "right"]]

    def __init__(
        self,
        expert: Expert,
        load: Callable[[], Parts],
        estimate: Callable[[], int],
        memory: ModelMemory,
        batching: Batching | None = None,
    ) -> None:
        super().__init__(expert, load, estimate, memory)
        self.batching = batching or Batching()
        self._batcher = Batcher(expert.name, self._run, self.batching)
        self._padding_is_neutral: bool | None = None

    def prepare(self) -> None:
        """Store what calls need from the loaded model."""
        super().prepare()
        self._padding_is_neutral = None

    def generate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt; options as in the class's description.

        Raises:
            PromptError: the prompt is empty.
            ExpertError: the model failed.
        """
        return wait_for_answer(self.starting(prompt, **options))

    async def agenerate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt without a waiting thread; cancelling the task ends the generation."""
        return await await_answer(self.starting(prompt, **options))

    def stream(self, prompt: Prompt, **options: Any) -> TextStream:
        """Return the answer's pieces as they come; closing the stream ends the generation."""
        return TextStream(self.starting(prompt, **options))

    def astream(self, prompt: Prompt, **options: Any) -> AsyncTextStream:
        """Return the answer's pieces as they come, for ``async for``."""
        start = self.starting(prompt, **options)

        async def begin() -> Start:
            return start

        return AsyncTextStream(begin)

    def starting(self, prompt: Prompt, **options: Any) -> Start:
        """Return a function that submits the call, for streams and waits."""
        return functools.partial(self._submit, prompt, read_options(**options))

    run, arun = generate, agenerate

    def _submit(
        self,
        prompt: Prompt,
        options: Options,
        emit: Callable[[str], None] | None,
        cancel: CallCancellation,
    ) -> Request:
        return self._batcher.submit(Request(prompt, options, emit, cancel))

    def _run(self, requests: Sequence[Request]) -> None:
        """Answer a batch of calls; all are settled when this returns."""
        last: list[Row] = []
        try:
            with self.turn(BatchCancellation(requests)):
                rows = [row for row in map(self._tokenized, requests) if row is not None]
                for batch in group_rows(
                    rows,
                    max_tokens=self.batching.tokens,
                    mix_lengths=self._may_mix_lengths(rows),
                ):
                    last += self._answer(batch)
        except Cancelled:
            pass
        finally:
            # These ended with the model's last step: they are settled once it is free again.
            for row in last:
                row.request.answer(row.answer())

    def _tokenized(self, request: Request) -> Row | None:
        """Tokenize one call; an invalid prompt settles it and gives None."""
        options: Options = request.options
        try:
            ids = self.prompt_ids(request.prompt, chat=options.chat)
        except PromptError as error:
            request.fail(error)
            return None
        except MODEL_FAULTS as error:
            request.fail(_with_cause(self.failure(error), error))
            return None
        return self._fit_row(request, ids)

    def _fit_row(self, request: Request, ids: list[int]) -> Row:
        raise NotImplementedError

    def _builder(self, request: Request, ids: Sequence[int]) -> AnswerBuilder:
        return AnswerBuilder(self.tokenizer, ids, request.options.stop, request.emit)

    def _may_mix_lengths(self, rows: Sequence[Row]) -> bool:
        """Whether prompts of different lengths may share a batch; tested once per loaded model."""
        if len({len(row.ids) for row in rows}) < 2:
            return False
        if self._padding_is_neutral is None:
            config = self.model.generation_config
            try:
                self._padding_is_neutral = padding_is_neutral(
                    config, self._first_scores, [row.ids for row in rows]
                )
            except MODEL_FAULTS:
                self._padding_is_neutral = False
        return self._padding_is_neutral

    def _first_scores(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return the scores of the first new token, (rows, vocabulary)."""
        config = self.config(1)
        config.update(return_dict_in_generate=True, output_scores=True)
        ids, mask = self._padded(prompts, config)
        output = self.model.generate(ids, attention_mask=mask, generation_config=config)
        return output.scores[0]

    def _padded(self, prompts: Sequence[Sequence[int]], config: Any) -> tuple[Any, Any]:
        return pad_rows(prompts, config.pad_token_id, self.padding_side, self.model.device)

    def _answer(self, rows: list[Row]) -> list[Row]:
        """Run the model on a batch; returns the rows that its last step ended."""
        try:
            return self._generate(rows)
        except MODEL_FAULTS as error:
            waiting = [row for row in rows if not row.request.future.done()]
            if len(rows) == 1:
                rows[0].request.fail(_with_cause(self.failure(error), error))
                return []
            # One call may be at fault, or memory too short for all: each is run alone, except
            # those whose first words are out.
            ended: list[Row] = []
            for row in waiting:
                if row.request.emit is not None and row.builder.text:
                    row.request.fail(_with_cause(self.failure(error), error))
                elif (retry := self._tokenized(row.request)) is not None:
                    ended += self._answer([retry])
            return ended

    def _generate(self, rows: list[Row]) -> list[Row]:
        """Generate all rows; settles each as it ends, but returns those of the last step."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        config = self.config(max(row.max_new for row in rows))
        ids, mask = self._padded([row.ids for row in rows], config)
        end_tokens = self._end_tokens()
        last: list[Row] = []

        def advance(row: Row, token: int) -> bool:
            if not row.advance(token, end_tokens):
                return False
            if all(other.done for other in rows):
                last.append(row)
            else:
                row.request.answer(row.answer())
            return True

        self.model.generate(
            ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([self._samplers(rows)]),
            stopping_criteria=StoppingCriteriaList(
                [RowStopping([functools.partial(advance, row) for row in rows])]
            ),
        )
        return last

    def _samplers(self, rows: Sequence[Row]) -> RowSamplers:
        logprobs = [row.logprobs if row.options.logprobs else None for row in rows]
        return RowSamplers(list(map(self._sampler, rows)), logprobs)

    def _sampler(self, row: Row) -> GumbelSampler | None:
        options = row.options
        if not options.temperature:
            return None
        return GumbelSampler(options.temperature, options.seed, self.model.device)

    def config(self, new: int) -> Any:
        """Return the model's own settings, made greedy: `GumbelSampler` does the sampling."""
        config = copy.deepcopy(self.model.generation_config)
        ends = sorted(self._end_tokens())
        pad = self.tokenizer.pad_token_id
        config.update(
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            min_p=None,
            typical_p=None,
            num_beams=1,
            num_return_sequences=1,
            max_length=None,
            max_new_tokens=new,
            eos_token_id=ends or None,
            pad_token_id=pad if pad is not None else (ends[0] if ends else 0),
            return_dict_in_generate=False,
        )
        return config

    def _end_tokens(self) -> set[int]:
        eos = self.model.generation_config.eos_token_id
        ends = set(eos) if isinstance(eos, list | tuple) else {eos}
        return {int(end) for end in ends | {self.tokenizer.eos_token_id} if end is not None}

    def prompt_ids(self, prompt: Prompt, *, chat: bool | None = None) -> list[int]:
        """Return the tokens of a prompt as the model continues them, not cut.

        Raises:
            PromptError: the prompt is empty, or no list of messages.
            ExpertError: the chat template or the tokenizer failed.
        """
        if isinstance(prompt, str):
            check_prompt(prompt)
        else:
            prompt = check_messages(prompt)
        template = self.tokenizer.chat_template is not None if chat is None else chat
        if template:
            return self._templated(prompt)
        text = prompt if isinstance(prompt, str) else as_transcript(prompt)
        ids = self.encode(text, special=True)
        return self._continuable(ids)

    def _templated(self, prompt: Prompt) -> list[int]:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        try:
            text = self._rendered(messages)
        except Exception as error:  # noqa: BLE001 - a template is a program, which may raise anything
            text = self._rendered_in_turns(messages, error)
        return self.encode(text)

    def _rendered_in_turns(self, messages: Sequence[Mapping[str, str]], error: Exception) -> str:
        """Return messages as turns of two roles, for a template that refused them as they were.

        Raises:
            ExpertError: it refuses those too; the message is that of the first error.
        """
        turns = alternating(messages)
        if turns == list(messages):
            raise self.failure(error) from error
        try:
            return self._rendered(turns)
        except Exception:  # noqa: BLE001 - the first error is about the request itself
            raise self.failure(error) from error

    def _rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return messages in the form of the model's chat template."""
        prefill = messages[-1]["role"] == "assistant"
        text: str = self.tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=not prefill,
            continue_final_message=prefill,
        )
        return text

    def _continuable(self, ids: list[int]) -> list[int]:
        """Return a plain text's tokens in the form that the model continues."""
        return ids


class TextGenerationPipeline(GenerationPipeline):
    """Continues prompts with a causal language model; options as for `GenerationPipeline`.

    Attributes:
        start_token: precedes any text: the model's start token, else its end token, else None.
    """

    padding_side: ClassVar[Literal["left", "right"]] = "left"
    start_token: int | None

    def prepare(self) -> None:
        """Store what calls need from the loaded model."""
        super().prepare()
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.start_token = end if start is None else start

    def _fit_row(self, request: Request, ids: list[int]) -> Row:
        new = self._max_new(len(ids), request.options.max_new_tokens)
        cut = self._cut(ids, max(1, self.context - new))
        return Row(request, cut, new, len(cut) < len(ids), self._builder(request, cut))

    def _max_new(self, prompt: int, requested: int) -> int:
        """Return the new tokens allowed after a prompt of `prompt` tokens."""
        floor = max(1, min(_MIN_NEW, self.context // 4))
        return min(requested, max(floor, self.context - prompt))

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """Cut a long prompt to its end, keeping its start token if it has one."""
        if len(ids) <= room:
            return ids
        if room > 1 and ids[0] == self.tokenizer.bos_token_id:
            return ids[:1] + ids[-(room - 1) :]
        return ids[-room:]

    def _continuable(self, ids: list[int]) -> list[int]:
        # Some tokenizers end every text with an end token, after which a model writes nothing.
        while len(ids) > 1 and ids[-1] in self._end_tokens():
            ids.pop()
        return ids


class EncoderDecoderPipeline(GenerationPipeline):
    """Answers prompts with an encoder-decoder model; options as for `GenerationPipeline`.

    The context limits prompt and answer separately. A long prompt loses its end: such models read
    the task from the beginning.
    """

    padding_side: ClassVar[Literal["left", "right"]] = "right"

    def _fit_row(self, request: Request, ids: list[int]) -> Row:
        new = min(request.options.max_new_tokens, max(1, self.context - 1))
        cut = ids
        if len(ids) > self.context:
            closing = ids[-1:] if ids[-1] in self._end_tokens() else []
            cut = ids[: self.context - len(closing)] + closing
        return Row(request, cut, new, len(cut) < len(ids), self._builder(request, ()))


def _with_cause(error: BaseException, cause: BaseException) -> BaseException:
    if error is not cause:
        error.__cause__ = cause
    return error
