"""Find the user's question in a prompt that a chain has built around it.

Retrieval chains and agents put instructions, documents and history around what the user asked. A
router fitted on bare questions finds such a prompt unlike all of them. `question_spans` yields the
parts that may be the question, the likeliest first; the router takes the first that is like its
training prompts. A template may be familiar itself: `shown_questions` finds the question in any
prompt whose labels or rulers show that a chain has put documents or earlier turns beside it.

The order follows from where a part stands and how the chain labels it, never from its content:

1. a section labelled as the question ("Question:", "## Query", "<question>") before any documents;
2. the last paragraph, where no label opens it, and the last labelled section that has no answer
   yet, whichever stands later;
3. the other labelled sections without an answer, the first paragraph, quoted text near both ends;
4. lines and sentences near both ends.
"""

from tryage.questions.pieces import Span
from tryage.questions.spans import (
    MOST_CHARACTERS,
    MOST_SPANS,
    ShownQuestion,
    question_spans,
    shown_questions,
)

__all__ = [
    "MOST_CHARACTERS",
    "MOST_SPANS",
    "ShownQuestion",
    "Span",
    "question_spans",
    "shown_questions",
]
