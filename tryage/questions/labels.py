"""Labels in a prompt that a chain has built, and the sections that follow them.

A label is the beginning of a line up to a colon, words before a colon inside a line, a heading or a
tag. What it announces follows from its words: a question, a context or an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tryage.questions.pieces import HEAD, SENTENCE, TAIL, has_ink

_LONGEST_LABEL = 80
"""Characters of a label that opens a line."""

_NEAR_COLON = 40
"""Characters before a colon inside a line in which a label's words are looked for."""

_MOST_COLONS = 50
"""Colons at each end of what is read that may end a label."""

_TAG = re.compile(r"[<\[]\|?(/?[A-Za-z][\w-]{0,30})\|?(?: [^<>\n\[\]]{0,80})?[>\]]\s*")
_TURN_TOKEN = re.compile(
    r"<\|?(?:im_start|start_header_id|start_of_turn)\|?>\s*(\w{1,20})\b(?:<\|end_header_id\|>)?\s*"
)
"""The token that opens a turn in a model's own chat format, and the role."""

_ENDS = frozenset(("end", "im end", "eot", "eot id", "endoftext", "end of text", "end of turn"))
"""Words of tokens that close what another opened."""
_HEADING = re.compile(r"^(#{1,6} [^\n]{1,60})\n", re.MULTILINE)
_COLON = re.compile(r"[:：][*_]*[ \t]*")
_CODE = re.compile(r"\w\(|=")
"""What stands in code before a colon, and in no label."""

_LAST_WORDS = re.compile(r"(?:\S+[ \t]+){0,2}\S*$")
_RULER = re.compile(r"\n[-=*_]{3,}\n")
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
    "contesto documenti contexte контекст документы 背景 上下文 文档 资料 信息 文脈 "
    "情報 문맥".split()
)
_ANSWER_WORDS = frozenset(
    "answer answers response reply output assistant ai system bot thought observation a antwort "
    "respuesta risposta resposta réponse ответ 回答 答案 답변".split()
)
_KINDS = {
    **dict.fromkeys(_ANSWER_WORDS, "answer"),
    **dict.fromkeys(_CONTEXT_WORDS, "context"),
    **dict.fromkeys(_QUESTION_WORDS, "question"),
}
_UNSPACED = {word: kind for word, kind in _KINDS.items() if word >= "\u3000"}
_ASKING_WORDS = _QUESTION_WORDS - set("prompt problem message input instruction task".split())
_TURN = frozenset("human user customer".split())
"""Labels of what a person says in a conversation."""

_SHOWING_WORDS = frozenset(
    word.encode() for word in _CONTEXT_WORDS | _TURN | {"input"} if word.isascii()
)
_OTHER_SHOWING_WORDS = re.compile(  # six times as fast as one that ignores case
    "|".join(
        f"{word}|{word.capitalize()}|{word.upper()}"
        for word in _CONTEXT_WORDS
        if not word.isascii()
    )
)
_LOWER_LETTERS = bytes(
    ord(chr(byte).lower()) if chr(byte).isalpha() and byte < 128 else ord(" ")
    for byte in range(256)
)
"""Translates text to its ASCII words in lower case, separated by spaces."""


class Mark(NamedTuple):
    """A label of a known kind: "question", "context", "answer", or "end" for a closing tag."""

    kind: str
    words: str  # in lower case
    start: int
    end: int


class Section(NamedTuple):
    """What follows a label, up to the next one."""

    kind: str
    words: str  # of the label, in lower case
    label: int
    start: int
    end: int
    is_answered: bool  # a question that an answer follows is an example or an earlier turn

    @property
    def span(self) -> tuple[int, int]:
        """Its first character, and the one after the last."""
        return self.start, self.end


def may_show(text: str) -> bool:
    """Return whether a prompt may show documents or earlier turns: a fast test of most prompts.

    It shows none without a ruler, or a label that is a tag or has a word for contexts or persons.
    """
    near = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"
    if _RULER.search(near) is not None:
        return True
    if not _may_hold_labels(near):
        return False
    return (
        not _SHOWING_WORDS.isdisjoint(
            near.encode(errors="replace").translate(_LOWER_LETTERS).split()
        )
        or "</" in near
        or "[/" in near
        or (not near.isascii() and _OTHER_SHOWING_WORDS.search(near) is not None)
    )


def _may_hold_labels(text: str) -> bool:
    end = len(text.rstrip()) - 1  # a colon there announces nothing
    return (
        -1 < text.find(":") < end
        or -1 < text.find("：") < end
        or "<" in text
        or "[" in text
        or "#" in text
    )


def has_turns(marks: list[Mark]) -> bool:
    """Return whether a label marks what a person says in a conversation."""
    return any(not _TURN.isdisjoint(mark.words.split()) for mark in marks)


def find_marks(text: str) -> list[Mark]:
    """Return the labels near both ends of a prompt, in order."""
    if len(text) <= HEAD + TAIL:
        regions = [(0, len(text))]
    else:
        regions = [(0, HEAD), (len(text) - TAIL, len(text))]
    marks = [mark for region in regions for mark in _colons(text, *region)]
    for start, end in regions:
        if text.find("#", start, end) >= 0:
            marks += _headings(text, start, end)
        if text.find("<", start, end) >= 0 or text.find("[", start, end) >= 0:
            marks += _tags(text, start, end)
    marks.sort(key=lambda mark: mark.start)
    return _with_inputs(marks)


def _headings(text: str, start: int, end: int) -> Iterator[Mark]:
    for heading in _HEADING.finditer(text, start, end):
        if kind := _kind(words := heading[1].lower()):
            yield Mark(kind, words, heading.start(), heading.end())


def _tags(text: str, start: int, end: int) -> Iterator[Mark]:
    for tag in _TAG.finditer(text, start, end):
        words = tag[1].lower().replace("_", " ")
        if kind := "end" if words[0] == "/" or words in _ENDS else _kind(words):
            yield Mark(kind, words, tag.start(), tag.end())
    for turn in _TURN_TOKEN.finditer(text, start, end):
        role = turn[1].lower()
        if kind := "answer" if role == "model" else _kind(role):
            yield Mark(kind, role, turn.start(), turn.end())


def sections_of(text: str, marks: list[Mark]) -> list[Section]:
    """Return the labelled sections that are not empty, in order."""
    ends = [*(mark.start for mark in marks), len(text)][1:]
    kinds = [*(mark.kind for mark in marks), "", ""]
    written = [n for n, mark in enumerate(marks) if has_ink(text, mark.end, ends[n])]
    followers = [*written, len(marks)][1:]
    sections = []
    for number, follower in zip(written, followers, strict=True):
        mark = marks[number]
        # An answer that is asked for once more is a draft, and the question still open.
        is_answered = kinds[follower] == "answer" != kinds[follower + 1]
        is_question = mark.kind == "question"
        sections.append(Section(*mark, ends[number], is_question and is_answered))
    if marks and marks[-1].kind == "answer" and written and written[-1] == len(marks) - 1:
        # A prompt ends before the answer: "From this, answer: ..." announces what is asked.
        sections[-1] = sections[-1]._replace(kind="question")
        if len(sections) > 1:
            sections[-2] = sections[-2]._replace(is_answered=False)
    return sections


def first_document(text: str, marks: list[Mark], *, enclosed: bool) -> int | None:
    """Return where the first document may begin: at a label of contexts, or at a ruler.

    Args:
        text: the prompt.
        marks: its labels.
        enclosed: whether a ruler counts only where a second one closes what it opens.
    """
    ruler = _RULER.search(text, 0, HEAD)
    if ruler is None and not enclosed:
        ruler = _RULER.search(text, max(0, len(text) - TAIL))
    opened = [
        mark.start
        for mark in marks
        # A label at the very end is the model's to go on from.
        if mark.kind == "context" and has_ink(text, mark.end, len(text))
    ]
    if ruler is not None and (not enclosed or text.rfind(ruler[0].rstrip()) > ruler.start()):
        opened.append(ruler.start())
    return min(opened, default=None)


def announced(text: str, marks: list[Mark]) -> int | None:
    """Return where documents may begin without a label or a ruler before them.

    The first line mentions them, and a label follows; or a tag of another name is closed.
    """
    starts = [mark.start for mark in marks if mark.kind == "end"]
    end = text.find("\n", 0, HEAD)
    later = [mark for mark in marks if mark.start > end >= 0]
    # An empty "Answer:" at the end announces nothing, which spares most prompts the words.
    if later and (
        any(mark.kind == "question" for mark in later) or has_ink(text, marks[-1].end, len(text))
    ):
        words = _WORD.findall(text[:end].lower())
        starts += [end] if _CONTEXT_WORDS.intersection(words) else []
    return min(starts, default=None)


def before_documents(sections: list[Section], opened: int | None) -> Section | None:
    """Return the question that stands before all documents, so that none has written it.

    Of several the first that a person asks, else the first. A question that an answer follows is
    then no example, unless a later question has its label.

    Args:
        sections: of the prompt.
        opened: where the first document begins; None where there is none.
    """
    questions = [section for section in sections if section.kind == "question"]
    before = [section for section in questions if opened is not None and section.label < opened]
    if not before:
        return None
    first = next((section for section in before if _is_asked(section.words)), before[0])
    later = (section for section in questions if section.label > first.label)
    return None if first.is_answered and any(s.words == first.words for s in later) else first


def last_open(sections: list[Section], opened: int | None) -> Section | None:
    """Return the last question without an answer, if documents or earlier turns precede it."""
    unanswered = [s for s in sections if s.kind == "question" and not s.is_answered]
    if not unanswered:
        return None
    last = unanswered[-1]
    if opened is not None and opened < last.label:
        return last
    is_turn = _TURN & set(last.words.split())
    turns = [s for s in sections if s.words == last.words and s.is_answered]
    return last if is_turn and turns else None


def is_labelled(text: str, part: tuple[int, int], marks: list[Mark]) -> bool:
    """Tell whether a label opens a part or one of its lines."""
    starts = [mark.start for mark in marks if part[0] <= mark.start <= part[1]]
    return any(start == part[0] or text[start - 1] == "\n" for start in starts)


def _with_inputs(marks: list[Mark]) -> list[Mark]:
    """Return labels of which "Input", below an instruction, announces what it is applied to."""
    first = next((mark for mark in marks if mark.kind == "question"), None)
    if first is None or _is_input(first.words) or _is_asked(first.words):
        return marks
    return [
        mark._replace(kind="context")
        if _is_input(mark.words) and not _is_asked(mark.words)
        else mark
        for mark in marks
    ]


def _is_input(words: str) -> bool:
    """Tell whether "input" is a label's last word."""
    return _WORD.findall(words)[-1:] == ["input"]


def _is_asked(words: str) -> bool:
    """Tell whether a label announces what a person asks, not what the chain wants done with it."""
    return not _ASKING_WORDS.isdisjoint(_WORD.findall(words))


def _colons(text: str, start: int, end: int) -> Iterator[Mark]:
    """Yield labels that a colon ends: the beginning of a line, or words inside one."""
    if text.find(":", start, end) < 0 and text.find("：", start, end) < 0:
        return
    after = start  # what a label before it has taken
    colons = list(_COLON.finditer(text, start, end))
    if len(colons) > 2 * _MOST_COLONS:
        colons = colons[:_MOST_COLONS] + colons[-_MOST_COLONS:]
    for colon in colons:
        place = colon.start()
        line = max(text.rfind("\n", start, place) + 1, start)
        tag = text.rfind(">", line, place) + 1
        opens = max(after, tag) <= line and place - line <= _LONGEST_LABEL
        begin = line if opens else max(line, after, tag, place - _NEAR_COLON)
        words = text[begin:place]
        after = colon.end()
        kind = _kind(words.lower())
        if kind is not None and not opens:
            last = _LAST_WORDS.search(SENTENCE.split(words)[-1])
            words = "" if last is None else last[0]
            kind = _kind(words.lower())
            if kind in ("context", "answer") and not words.split()[-1][0].isupper():
                kind = None
        if kind is not None:
            yield Mark(kind, words.lower(), place - len(words), after)


def _kind(words: str) -> str | None:
    """Return what a label announces: its last telling word decides; None if nothing.

    A word for answers tells only at the end: "Answer the following" announces no answer.
    """
    for number, word in enumerate(reversed(_WORD.findall(words))):
        kind = _KINDS.get(word) or (None if word.isascii() else _kind_within(word))
        if kind is not None and (kind != "answer" or number == 0):
            return None if _CODE.search(words) else kind
    return None


def _kind_within(word: str) -> str | None:
    """Return what a word of a script without spaces announces: its last telling part decides."""
    places = {word.rfind(part): kind for part, kind in _UNSPACED.items() if part in word}
    return places[max(places)] if places else None
