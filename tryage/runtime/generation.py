"""Text generation with a local model: causal, or encoder-decoder."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from tryage.errors import PromptError
from tryage.experts import TEXT_GENERATION, Expert
from tryage.runtime.answer import Answer
from tryage.runtime.base import MODEL_FAULTS, Cancelled, ModelMemory, Pipeline, check_prompt
from tryage.runtime.batching import BatchCancellation, Batcher, Batching, CallCancellation, Request
from tryage.runtime.decoding import AnswerBuilder, GumbelSampler, RowSamplers, RowStopping
from tryage.runtime.inputs import Options, Prompt, as_transcript, check_messages, read_options
from tryage.runtime.models import Parts
from tryage.runtime.padding import pad_rows, padding_is_neutral
from tryage.runtime.rows import Row, group_rows
from tryage.runtime.streams import AsyncTextStream, Start, TextStream, await_answer, wait_for_answer

_LEAST_NEW = 64
"""Tokens of the answer that a long prompt may not take away, if the context is large enough."""


class GenerationPipeline(Pipeline):
    """Answers prompts with a model that writes text.

    A model whose tokenizer has a chat template is prompted through it; any other continues the
    plain text. Every method takes the same options:

    - `max_new_tokens` (64): tokens to write at most.
    - `stop` (none): strings that end the answer; they are not part of it.
    - `seed` (None): makes a sampled answer repeatable.
    - `temperature` (0.0): 0 takes the likeliest token each time; above 0 samples.
    - `chat` (None): whether to use the chat template; None means if there is one.

    Where the prompt and `max_new_tokens` do not fit the context together, fewer tokens are
    written: as many as the prompt leaves, but never fewer than 64, or a quarter of the context
    where that is less (or `max_new_tokens`, if it asks for less still). Only a prompt that leaves
    less than this loses its beginning, and the answer says so (`Answer.truncated`).

    Calls that come together go through the model together, as `Batching` says; each ends by
    itself. An answer is the one that the call gets alone, up to rounding: in float32 two tokens
    would have to tie to a millionth for it to differ.
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
        """Read off the loaded model what calls need."""
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
        """Answer one prompt; cancelling the task ends the generation. No thread waits."""
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
        """Return what hands a call to the model, for streams and waits."""
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
                rows = [row for row in map(self._row, requests) if row is not None]
                for batch in group_rows(
                    rows,
                    max_tokens=self.batching.tokens,
                    mix_lengths=self._may_mix_lengths(rows),
                ):
                    last += self._answer(batch)
        except Cancelled:
            pass
        finally:
            # The calls that the model worked on to the end hear of it once it is free again.
            for row in last:
                row.request.answer(row.answer())

    def _row(self, request: Request) -> Row | None:
        """Read one call's prompt; a wrong one settles the call."""
        options: Options = request.options
        try:
            ids = self.prompt_ids(request.prompt, chat=options.chat)
        except PromptError as error:
            request.fail(error)
            return None
        except MODEL_FAULTS as error:
            request.fail(_caused(self.failure(error), error))
            return None
        return self._fitted(request, ids)

    def _fitted(self, request: Request, ids: list[int]) -> Row:
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
        """Run the model over a batch; returns the rows that its last step ended."""
        try:
            return self._generate(rows)
        except MODEL_FAULTS as error:
            waiting = [row for row in rows if not row.request.future.done()]
            if len(rows) == 1:
                rows[0].request.fail(_caused(self.failure(error), error))
                return []
            # One call may be at fault, or memory short for all of them: each gets its own chance,
            # but for those whose first words are out already.
            ended: list[Row] = []
            for row in waiting:
                if row.request.emit is not None and row.builder.text:
                    row.request.fail(_caused(self.failure(error), error))
                elif (again := self._row(row.request)) is not None:
                    ended += self._answer([again])
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
            logits_processor=LogitsProcessorList([RowSamplers(list(map(self._sampler, rows)))]),
            stopping_criteria=StoppingCriteriaList(
                [RowStopping([functools.partial(advance, row) for row in rows])]
            ),
        )
        return last

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
        found = self.model.generation_config.eos_token_id
        ends = set(found) if isinstance(found, list | tuple) else {found}
        return {int(end) for end in ends | {self.tokenizer.eos_token_id} if end is not None}

    def prompt_ids(self, prompt: Prompt, *, chat: bool | None = None) -> list[int]:
        """Return the tokens that the model is to continue, uncut.

        Raises:
            PromptError: the prompt is empty, or the messages are not messages.
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
        return self._opened(ids)

    def _templated(self, prompt: Prompt) -> list[int]:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        prefill = messages[-1]["role"] == "assistant"
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=not prefill,
                continue_final_message=prefill,
            )
        except Exception as error:  # a template is a program of the model's; it may raise anything
            raise self.failure(error) from error
        return self.encode(text)

    def _opened(self, ids: list[int]) -> list[int]:
        """Return a plain text's tokens as the model takes them."""
        return ids


class TextGenerationPipeline(GenerationPipeline):
    """Continues prompts with a causal language model; options as `GenerationPipeline` says.

    Attributes:
        start_token: the token that stands before any text: the model's start token, else its end
            token, if it has one.
    """

    padding_side: ClassVar[Literal["left", "right"]] = "left"
    start_token: int | None

    def prepare(self) -> None:
        """Read off the loaded model what calls need."""
        super().prepare()
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.start_token = end if start is None else start

    def _fitted(self, request: Request, ids: list[int]) -> Row:
        new = self._room(len(ids), request.options.max_new_tokens)
        kept = self._fit(ids, max(1, self.context - new))
        return Row(request, kept, new, len(kept) < len(ids), self._builder(request, kept))

    def _room(self, prompt: int, wanted: int) -> int:
        """Tokens that may be written behind `prompt` tokens, if `wanted` are asked for."""
        floor = max(1, min(_LEAST_NEW, self.context // 4))
        return min(wanted, max(floor, self.context - prompt))

    def _fit(self, ids: list[int], room: int) -> list[int]:
        """Keep the end of a prompt that is too long, and its start token if it has one."""
        if len(ids) <= room:
            return ids
        if room > 1 and ids[0] == self.tokenizer.bos_token_id:
            return ids[:1] + ids[-(room - 1) :]
        return ids[-room:]

    def _opened(self, ids: list[int]) -> list[int]:
        # Some tokenizers close every text; a text that is closed cannot be continued.
        while len(ids) > 1 and ids[-1] in self._end_tokens():
            ids.pop()
        return ids


class EncoderDecoderPipeline(GenerationPipeline):
    """Answers prompts with an encoder-decoder model; options as `GenerationPipeline` says.

    The context bounds prompt and answer each by itself. A prompt that is too long loses its end,
    where such models look for it least.
    """

    padding_side: ClassVar[Literal["left", "right"]] = "right"

    def _fitted(self, request: Request, ids: list[int]) -> Row:
        new = min(request.options.max_new_tokens, max(1, self.context - 1))
        kept = ids
        if len(ids) > self.context:
            closing = ids[-1:] if ids[-1] in self._end_tokens() else []
            kept = ids[: self.context - len(closing)] + closing
        return Row(request, kept, new, len(kept) < len(ids), self._builder(request, ()))


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    if error is not cause:
        error.__cause__ = cause
    return error
