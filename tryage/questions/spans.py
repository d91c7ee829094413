"""Which parts of a prompt may be the user's question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tryage.questions.labels import (
    Section,
    announced,
    before_documents,
    find_marks,
    first_document,
    has_turns,
    is_labelled,
    last_open,
    may_show,
    sections_of,
)
from tryage.questions.pieces import (
    PARAGRAPH,
    Span,
    after_colon,
    ends_of,
    has_ink,
    lines_of,
    paragraphs_of,
    quoted_in,
    sentences_of,
    trimmed,
)

MOST_SPANS = 16
"""Parts that are looked at in one prompt."""

MOST_CHARACTERS = 2_400
"""Characters of all parts together: this bounds the time, whatever the prompt's length."""


def question_spans(text: str) -> Iterator[Span]:
    """Yield the parts of a prompt that may be the user's question, the likeliest first.

    Args:
        text: the prompt, of any length; only its first 1,000 and last 2,000 characters are read.

    Yields:
        At most `MOST_SPANS` different parts of at most `MOST_CHARACTERS` characters together, none
        of them empty or the whole prompt. Each is found only when it is asked for.
    """
    spans: set[Span] = set()
    whole = Span(len(text) - len(text.lstrip()), len(text.rstrip()))
    room = MOST_CHARACTERS
    for start, end in _proposals(text):
        if end - start > room:
            continue
        span = trimmed(text, start, end)
        if span.end - span.start < 2 or span == whole or span in spans:
            continue
        spans.add(span)
        room -= span.end - span.start
        yield span
        if len(spans) >= MOST_SPANS:
            return


class ShownQuestion(NamedTuple):
    """The user's question where a prompt itself shows that a chain has built it.

    Attributes:
        span: where it stands.
        is_labelled: whether a label announces it; else it only stands behind the documents.
    """

    span: Span
    is_labelled: bool


def shown_questions(text: str) -> list[ShownQuestion]:
    """Return what may be the user's question in a prompt that shows documents or earlier turns.

    Args:
        text: the prompt, as for `question_spans`.

    Returns:
        The section labelled as the question before the documents; else the last paragraph behind
        them, where no label opens it, and the last labelled section that has no answer. None, one
        or two parts; none where the prompt shows neither documents nor turns.
    """
    # Every decision pays for this, and most prompts show nothing: the fast test comes first.
    if not may_show(text):
        return []
    marks = find_marks(text)
    opened = first_document(text, marks, enclosed=False)
    heading = None
    if opened is None:
        heading = announced(text, marks)
        if heading is None and not has_turns(marks):
            return []
    sections = sections_of(text, marks)
    section: Section | None
    parts: list[tuple[tuple[int, int], bool]] = []
    if opened is None:
        section = last_open(sections, heading)
    else:
        section = before_documents(sections, first_document(text, marks, enclosed=True))
        if section is None:
            section = last_open(sections, opened)
            parts += [
                (part, False)
                for part in paragraphs_of(text)[-1:]
                if opened < part[0] and not is_labelled(text, part, marks)
            ]
    if section is not None:
        parts.append((section.span, True))
    return _shown(text, parts)


def _shown(text: str, parts: list[tuple[tuple[int, int], bool]]) -> list[ShownQuestion]:
    shown = [ShownQuestion(trimmed(text, *part), labelled) for part, labelled in parts]
    return [part for part in shown if 2 <= part.span.end - part.span.start <= MOST_CHARACTERS]


def _proposals(text: str) -> Iterator[tuple[int, int]]:
    marks = find_marks(text)
    sections = sections_of(text, marks)
    paragraphs = paragraphs_of(text)
    questions = [section for section in sections if section.kind == "question"]
    unanswered = [section for section in questions if not section.is_answered]
    first = before_documents(sections, first_document(text, marks, enclosed=True))
    if first is not None:
        yield from _with_parts(text, first.span)
    if paragraphs and not is_labelled(text, paragraphs[-1], marks):
        yield paragraphs[-1]
        yield from quoted_in(text, *paragraphs[-1])
        if not any(mark.start >= paragraphs[-1][0] for mark in marks):
            yield from after_colon(text, *paragraphs[-1])
    for section in reversed(unanswered):
        yield from _with_parts(text, section.span)
    ends = list(ends_of(paragraphs))
    yield from ends
    for part in ends:
        yield from quoted_in(text, *part)
    for section in questions:  # in their order: later ones may stand in a document
        yield from _with_parts(text, section.span)
    for part in ends:
        yield from ends_of(lines_of(text, *part))
        yield from ends_of(sentences_of(text, *part))
    yield from ends_of(sentences_of(text, 0, len(text)))


def _with_parts(text: str, part: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield a section, then its first paragraph and line: the chain's own words may follow."""
    yield part
    gap = PARAGRAPH.search(text, part[0], min(part[1], part[0] + MOST_CHARACTERS))
    if gap is not None and has_ink(text, part[0], gap.start()):
        yield part[0], gap.start()
    yield from quoted_in(text, *part)
    yield from lines_of(text, *part)[:1]
    yield from ends_of(sentences_of(text, *part))
