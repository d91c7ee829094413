"""Find the user's question in a prompt that a chain has built around it.

Retrieval chains and agents put instructions, documents and history around what the user asked. A
router fitted on bare questions finds such a prompt unlike all of them. `question_spans` lists the
parts that may be the question, the likeliest first; the router takes the first that is like its
training prompts.

The order follows from where a part stands and how the chain labels it, never from its content:

1. a section labelled as the question ("Question:", "## Query", "<question>") before any documents;
2. the last paragraph, where no label opens it, and the last labelled section that has no answer
   yet, whichever stands later;
3. the other labelled sections without an answer, the first paragraph, quoted text near both ends;
4. lines and sentences near both ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MOST_SPANS = 16
"""Parts that are looked at in one prompt."""

MOST_CHARACTERS = 2_400
"""Characters of all parts together: this bounds the time, whatever the prompt's length."""

_HEAD, _TAIL = 1_000, 2_000
"""Characters at both ends of a prompt in which labels and paragraphs are looked for."""

_NEAR_END = 400
"""Characters at both ends of a part in which single sentences are looked for."""

_LABEL = re.compile(
    r"^(?P<line>[^\n:：<]{1,80})[:：][*_]*[ \t]*"
    r"|^(?P<heading>#{1,6} [^\n]{1,60})\n"
    r"|<(?P<tag>/?[A-Za-z][\w-]{0,30})(?: [^<>\n]{0,80})?>\s*",
    re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d_]+")
_QUESTION_WORDS = frozenset(
    "question query request prompt problem message input instruction user human customer q task "
    "asks asked frage anfrage pregunta consulta domanda pergunta vraag requête вопрос запрос "
    "问题 质问 質問 問題 질문".split()
)
_CONTEXT_WORDS = frozenset(
    "context contexts document documents docs passage passages source sources excerpt excerpts "
    "result results evidence reference references knowledge information history conversation "
    "article text facts notes content background data kontext dokumente contexto documentos "
    "contesto documenti contexte контекст документы 背景 上下文 文档 文脈 문맥".split()
)
_ANSWER_WORDS = frozenset(
    "answer answers response reply output assistant ai system bot thought observation a antwort "
    "respuesta risposta resposta réponse ответ 回答 答案 답변".split()
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*|\n[-=*_]{3,}\n")
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+")


class Span(NamedTuple):
    """A part of a prompt: characters `start` to `end`, `end` not included."""

    start: int
    end: int


class _Section(NamedTuple):
    """What follows a label, up to the next one."""

    kind: str  # "question", "context" or "answer"
    label: int
    start: int
    end: int
    is_answered: bool  # a question that an answer follows is an example or an earlier turn

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.end


def question_spans(text: str) -> list[Span]:
    """Return the parts of a prompt that may be the user's question, the likeliest first.

    Args:
        text: the prompt, of any length; only its first 1,000 and last 2,000 characters are read.

    Returns:
        At most `MOST_SPANS` different parts of at most `MOST_CHARACTERS` characters together, none
        of them empty or the whole prompt.
    """
    spans: dict[Span, None] = {}
    whole = Span(len(text) - len(text.lstrip()), len(text.rstrip()))
    room = MOST_CHARACTERS
    for start, end in _proposals(text):
        if end - start > room:
            continue
        span = _trimmed(text, start, end)
        if span.end - span.start < 2 or span == whole or span in spans:
            continue
        spans[span] = None
        room -= span.end - span.start
        if len(spans) >= MOST_SPANS:
            break
    return list(spans)


def _proposals(text: str) -> Iterator[tuple[int, int]]:
    sections = list(_sections(text))
    paragraphs = _paragraphs(text)
    questions = [section for section in sections if section.kind == "question"]
    unanswered = [section for section in questions if not section.is_answered]
    contexts = [section.label for section in sections if section.kind == "context"]
    if unanswered and contexts and unanswered[0].label < contexts[0]:
        # No document stands before it, so none can have written it.
        yield from _with_parts(text, unanswered[0].span)
    if paragraphs and not _is_labelled(paragraphs[-1], sections):
        yield paragraphs[-1]
    for section in reversed(unanswered):
        yield from _with_parts(text, section.span)
    ends = list(_ends(paragraphs))
    yield from ends
    for part in ends:
        yield from _quoted(text, *part)
    for section in questions:  # in their order: later ones may stand in a document
        yield from _with_parts(text, section.span)
    for part in ends:
        yield from _ends(_lines(text, *part))
        yield from _ends(_sentences(text, *part))


def _is_labelled(part: tuple[int, int], sections: list[_Section]) -> bool:
    """Tell whether a part opens or holds a section that is not empty."""
    return any(part[0] <= section.start <= part[1] for section in sections)


def _with_parts(text: str, part: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield a section, then its first paragraph and line: the chain's own words may follow."""
    yield part
    gap = _PARAGRAPH.search(text, part[0], min(part[1], part[0] + MOST_CHARACTERS))
    if gap is not None and _INK.search(text, part[0], gap.start()):
        yield part[0], gap.start()
    yield from _quoted(text, *part)
    yield from _lines(text, *part)[:1]
    yield from _ends(_sentences(text, *part))


def _sections(text: str) -> Iterator[_Section]:
    """Yield the labelled sections near both ends of a prompt, in order."""
    marks = [
        (kind, mark.start(), mark.end())
        for mark in _marks(text)
        if (kind := _kind(mark)) is not None
    ]
    ends = [label for _, label, _ in marks[1:]] + [len(text)]
    sections = [
        (kind, label, start, end)
        for (kind, label, start), end in zip(marks, ends, strict=False)
        if _INK.search(text, start, end)
    ]
    for number, (kind, label, start, end) in enumerate(sections):
        following = sections[number + 1][0] if number + 1 < len(sections) else None
        yield _Section(kind, label, start, end, kind == "question" and following == "answer")


def _marks(text: str) -> Iterator[re.Match[str]]:
    if len(text) <= _HEAD + _TAIL:
        yield from _LABEL.finditer(text)
        return
    yield from _LABEL.finditer(text, 0, _HEAD)
    yield from _LABEL.finditer(text, len(text) - _TAIL)


def _kind(mark: re.Match[str]) -> str | None:
    """Return what a label announces: its last telling word decides; None if nothing."""
    tag = mark["tag"]
    if tag is not None and tag.startswith("/"):
        return "end"
    words = _WORD.findall(
        (mark["line"] or mark["heading"] or (tag or "").replace("_", " ")).lower()
    )
    for word in reversed(words):
        if word in _QUESTION_WORDS:
            return "question"
        if word in _CONTEXT_WORDS:
            return "context"
        if word in _ANSWER_WORDS:
            return "answer"
    return None


def _ends(parts: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the last part, the first, the last but one, the second."""
    if parts:
        yield parts[-1]
        yield parts[0]
    if len(parts) > 2:
        yield parts[-2]
        yield parts[1]


def _paragraphs(text: str) -> list[tuple[int, int]]:
    """Return the paragraphs near both ends of a prompt, in order."""
    if len(text) <= _HEAD + _TAIL:
        return _between(text, 0, len(text), _PARAGRAPH)
    head = _between(text, 0, _HEAD, _PARAGRAPH)[:-1]
    return head + _between(text, len(text) - _TAIL, len(text), _PARAGRAPH)[1:]


def _between(text: str, start: int, end: int, gaps: re.Pattern[str]) -> list[tuple[int, int]]:
    parts = []
    for gap in gaps.finditer(text, start, end):
        parts.append((start, gap.start()))
        start = gap.end()
    parts.append((start, end))
    return [(a, b) for a, b in parts if _INK.search(text, a, b)]


_NEWLINE = re.compile("\n")
_INK = re.compile(r"\S")


def _lines(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the lines near both ends of a part."""
    if end - start > _HEAD + _TAIL:
        return [
            *_between(text, start, start + _HEAD, _NEWLINE)[:-1],
            *_between(text, end - _TAIL, end, _NEWLINE)[1:],
        ]
    return _between(text, start, end, _NEWLINE)


def _sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the sentences near both ends of a part."""
    if end - start > 2 * _NEAR_END:
        return [
            *_between(text, start, start + _NEAR_END, _SENTENCE),
            *_between(text, end - _NEAR_END, end, _SENTENCE),
        ]
    return _between(text, start, end, _SENTENCE)


def _quoted(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the last quoted passage of a part; quotes are paired from its end."""
    close = max(text.rfind(mark, max(start, end - _NEAR_END), end) for mark in '"”»')
    if close > start:
        opening = {'"': '"', "”": "“", "»": "«"}[text[close]]
        begin = text.rfind(opening, start, close)
        if begin >= 0:
            yield begin + 1, close


def _trimmed(text: str, start: int, end: int) -> Span:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return Span(start, max(start, end - (len(part) - len(part.rstrip()))))
