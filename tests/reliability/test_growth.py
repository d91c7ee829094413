"""What reads or streams text takes work that grows with its length, not with its square.

Work is counted, not timed: lines of Python that run, and bytes that they allocate, which is what
slicing and joining cost.
"""

import contextlib
import sys
import tracemalloc

import pytest
from kit import cases, completion, event

from tryage import Expert, Library
from tryage.budgets import parse_budget
from tryage.characters import normalized
from tryage.errors import TryageError, did_you_mean
from tryage.flags import parse
from tryage.limits import parse_limit
from tryage.questions import question_spans, shown_questions
from tryage.runtime import Answer, Runtime
from tryage.runtime.chat_protocol import Reply, whole_characters
from tryage.runtime.decoding import AnswerBuilder
from tryage.runtime.memory import parse_bytes
from tryage.scores.grades import readability
from tryage.units import parse_count, parse_money, parse_seconds

TIMES = 10
LENGTH = 10_000
"""Characters of the shorter of two texts; the longer has `TIMES` as many."""

SMALL = min(LENGTH, cases(400))
"""The same where counting takes long, and the texts are many."""
MOST = 1.6
"""How much more than ten times the work ten times the length may take; 10 would be its square."""

SLACK = 20_000
"""Lines that any length may take."""

BYTES = 64
"""Bytes allocated that count as one line."""


def work(call, *arguments):
    """Return the work of a call: lines that ran, and bytes that they allocated over `BYTES`."""
    lines = allocated = 0
    before = 0

    def trace(frame, kind, _):
        nonlocal lines, allocated, before
        lines += 1
        now, peak = tracemalloc.get_traced_memory()
        allocated += max(0, peak - before)
        tracemalloc.reset_peak()
        before = now
        return trace

    old = sys.gettrace()
    tracemalloc.start(1)
    sys.settrace(trace)
    try:
        read(call, *arguments)
    finally:
        sys.settrace(old)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return lines + (allocated + max(0, peak - before)) / BYTES


def read(call, *arguments):
    """Call a parser, which may refuse what it reads."""
    with contextlib.suppress(TryageError, ValueError):
        call(*arguments)


def check_growth(call, make, length=LENGTH):
    """Check that ten times the length takes about ten times the work.

    Args:
        call: a parser, or what reads a stream.
        make: a length → what it reads.
        length: of the shorter one.
    """
    read(call, make(100))  # what is made once and remembered
    short, long = work(call, make(length)), work(call, make(TIMES * length))
    assert long <= MOST * TIMES * short + SLACK, (short, long)


NESTING = {
    "flags": ("[flag: ", "]"),
    "flags with a backtick": ("[flag: ` ", "]"),
    "flags glued": ("x[flag: small", "]"),
    "brackets": ("[", "]"),
    "brackets and blanks": ("[ ", " ]"),
    "braces": ("{", "}"),
    "parentheses": ("(", ")"),
    "angles": ("<", ">"),
    "links": ("[flag: a", "](b)"),
    "full-width": ("[flag：", "]"),
}
REPEATED = {
    "flags": "[flag: small] ",
    "unknown words": "[flag: xyzzy quux] ",
    "flags without end": "[flag: ",
    "ends": "]",
    "backticks": "`",
    "backticks of two lengths": "` `` ",
    "fences": "``` ` ",
    "lines": "[flag: a\n",
    "blank lines": "\n \n",
    "blanks": " ",
    "tabs": "\t ",
    "commas": "[flag: a,,,, b;;;]",
    "operators": "[flag: a <= b = c in [",
    "in": "[flag: in in in in]",
    "quotes": "\"'“”",
    "quotations": 'a "b" c ',
    "labels": "question: a\ncontext: b\n",
    "tags": "<question></question>",
    "headings": "# question\n",
    "sentences": "Is it? ",
    "dots": ".",
    "marks": "?!",
    "digits": "1",
    "digits and commas": "1,",
    "points": "1.",
    "letters": "a",
    "marks on a letter": "\u0327\u0301",
    "surrogates": "\ud83d",
    "a word of marks": "[flag: a" + "\u0301\u0327" * 50 + "]",
}
TEXTS = {
    **{f"nested {k}": lambda n, a=a, b=b: nested(a, b, n) for k, (a, b) in NESTING.items()},
    **{f"opened {k}": lambda n, a=a: filled(a, n) for k, (a, _) in NESTING.items()},
    **{f"repeated {k}": lambda n, unit=unit: filled(unit, n) for k, unit in REPEATED.items()},
}


def filled(unit, n):
    return (unit * (n // len(unit) + 1))[:n]


def nested(start, end, n):
    depth = n // (len(start) + len(end))
    return start * depth + "small" + end * depth


def one_flag(text):
    parse(f"[flag: {text.replace(']', ' ')}]")


def questions(text):
    list(question_spans(text))


def some_limit(text):
    parse_limit(f"vendor in [{text}")


def padded_limit(text):
    parse_limit(f"parameters <= {text}")


def some_budget(text):
    parse_budget(f"mean cost <= {text}")


def some_share(text):
    parse_budget(f"share({text}) <= 2")


def of_form(text):
    normalized("NFKC", text)


def hint(text):
    did_you_mean(text, ["small", text[:-1], text])


PARSERS = [
    parse,
    one_flag,
    questions,
    shown_questions,
    parse_limit,
    some_limit,
    padded_limit,
    parse_budget,
    some_budget,
    some_share,
    parse_count,
    parse_money,
    parse_seconds,
    parse_bytes,
    readability,
    whole_characters,
    of_form,
    hint,
]


MANY_LINES = (parse, one_flag, readability)
WORST = ("nested flags", "nested flags with a backtick", "nested brackets")


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
def test_a_parsers_work_grows_with_its_text(parser):
    for name, make in TEXTS.items():
        is_worst = parser is parse and name in WORST
        length = SMALL if parser in MANY_LINES and not is_worst else LENGTH
        try:
            check_growth(parser, make, length)
        except AssertionError as error:
            raise AssertionError(f"{parser.__name__} of {name}: {error}") from None


PIECES = {
    "text": "abcd",
    "halves": "\ud83d\ude00ab",
    "halves alone": "\ud83d\ud83d\ud83d\ud83d",
    "stop strings nearly": "ENDE",
}


def replies(piece, sent):
    """Return a length → the bytes of a stream of that many characters, in parts as sent."""

    def make(n):
        data = b"".join([event(content=piece) for _ in range(n // len(piece))])
        return [data[start : start + sent] for start in range(0, len(data), sent)]

    return make


def streamed(chunks):
    reply = Reply(whole=False)
    for chunk in chunks:
        for _ in reply.read(chunk):
            pass
    assert reply.text


@pytest.mark.parametrize("sent", [7, 60, 2**16])
@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_a_streams_work_grows_with_its_answer(piece, sent):
    check_growth(streamed, replies(piece, sent), SMALL)


def in_one_piece(chunks):
    reply = Reply(whole=True)
    for chunk in chunks:
        assert not list(reply.read(chunk))
    assert list(reply.end()) == []


def test_an_answer_in_small_chunks_takes_work_by_its_length():
    def make(n):
        data = completion("a" * n)
        return [data[start : start + 3] for start in range(0, len(data), 3)]

    check_growth(in_one_piece, make)


class Tokenizer:
    """Decodes tokens to given texts; the half of a character is what no token completes."""

    def __init__(self, text):
        self.text = text

    def decode(self, ids, **_):
        return self.text * len(ids)


@pytest.mark.parametrize("text", ["abcd", "", "\ufffd", "ENDE"])
@pytest.mark.parametrize("stop", [(), ("ENDEX", "never")])
def test_decoding_takes_work_by_the_number_of_tokens(text, stop):
    def decode(n):
        builder = AnswerBuilder(Tokenizer(text), (), stop, emit=lambda _: None)
        for token in range(n):
            builder.add(token)
        builder.finish()
        assert builder.text == text * n

    check_growth(decode, lambda n: n, SMALL // 2)


class Pieces:
    """A stream of a runtime: pieces of four characters."""

    def __init__(self, length):
        self.left = length // 4
        self.answer = Answer("abcd" * self.left, 1, self.left, 0.0)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return "abcd"

    def close(self):
        pass


def test_llama_index_responses_copy_a_long_answer_a_bounded_number_of_times(monkeypatch):
    pytest.importorskip("llama_index.core")
    from llama_index_tryage.pipelines import TryagePipeline

    runtime = Runtime(Library([Expert(name="local", model="m")]))
    llm = TryagePipeline(runtime=runtime, expert="local")

    def copied(length):
        monkeypatch.setattr(runtime, "stream", lambda *_, **__: Pieces(length))
        deltas, characters = [], 0
        for response in llm.stream_complete("hello"):
            deltas.append(response.delta)
            characters += len(response.text)
        assert "".join(deltas) == response.text == "abcd" * (length // 4)
        return characters

    assert copied(TIMES * LENGTH * 10) <= MOST * TIMES * copied(LENGTH * 10)
