"""A score table that gets one line for each scored answer."""

from __future__ import annotations

from numbers import Real
from pathlib import Path

import numpy as np

from tryage.appending import append
from tryage.errors import FeedbackError
from tryage.paths import check_writable, user_path
from tryage.prompts import short
from tryage.scores.feedback_lines import torn_tail
from tryage.scores.files import json_line


class FeedbackFile:
    """Appends whole lines to a JSONL score table; safe from many threads and processes.

    What a crash left of a line is cut off before the next one is written.

    Args:
        path: the file; its ending is ``.jsonl``. It is made at the first line.

    Raises:
        FeedbackError: another ending, no plain file, or a place that may not be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        odd = self.path.exists() and not self.path.is_file()
        if self.path.suffix.lower() != ".jsonl" or odd:
            raise FeedbackError(f"feedback goes to a .jsonl file, not to {str(path)!r}")
        try:
            check_writable(self.path)
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
            raise FeedbackError(f"feedback cannot be kept in {str(path)!r}: {problem}") from error

    def __repr__(self) -> str:
        return f"FeedbackFile({str(self.path)!r})"

    def append(self, prompt: str, task: str, expert: str, score: float) -> None:
        """Write one line: the prompt, and what one expert scored on it.

        Raises:
            FeedbackError: the score is no number in [0, 1], or the prompt is empty.
            OSError: the line cannot be written; nothing is left of it.
        """
        # NumPy counts its truth values among no numbers.
        # Compared before it is converted: a whole number may be larger than any float.
        if not isinstance(score, Real | np.bool_) or not 0 <= score <= 1:
            raise FeedbackError(f"a score is a number in [0, 1], not {short(score)}")
        if not prompt.strip():
            raise FeedbackError("the prompt is empty; nothing can be learned from its score")
        entry = {"prompt": prompt, "task": task, "scores": {expert: float(score)}}
        line = json_line(entry).encode("utf-8") + b"\n"
        append(self.path, line, torn=torn_tail)
