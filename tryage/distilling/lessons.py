"""What a teacher predicts of prompts, kept in a file so that an interrupted run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.appending import append
from tryage.errors import OptionError, PredictorError
from tryage.paths import read_bytes, user_path
from tryage.predictors import Predictor
from tryage.predictors.targets import LOSS, Targets
from tryage.progress import Progress

CHUNK = 256
"""Prompts that a teacher predicts, and a file takes, at once."""

_KEYS = {"teacher", "task", "prompt", "mean", "ood"}


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """A teacher's predictions for prompts of one task.

    Attributes:
        prompts: n different texts.
        mean: target → predicted values, (n, n_experts), in the target's unit.
        ood: (n,) whether the teacher has seen nothing like the prompt, so that its prediction
            should not be learned.
    """

    prompts: tuple[str, ...] = field(repr=False)
    mean: Targets
    ood: NDArray[np.bool_]

    def select(self, rows: NDArray[Any]) -> Lessons:
        """Return some prompts: indices, or a boolean mask."""
        index = np.arange(len(self.prompts))[rows]
        return Lessons(
            tuple(self.prompts[row] for row in index.tolist()),
            {target: values[index] for target, values in self.mean.items()},
            self.ood[index],
        )


def teacher_fingerprint(predictor: Predictor) -> str:
    """Return the SHA-256 of a fitted predictor: its configuration, arrays and encoder's name."""
    config, arrays = predictor.state()
    encoder = None if predictor.encoder is None else predictor.encoder.name
    text = json.dumps([config, encoder], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class PredictionFile:
    """A JSONL file of a teacher's predictions; it holds hashes of prompts and no texts.

    Args:
        path: the file; it is made with the first predictions.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)

    def read(self, teacher: str, task: str) -> dict[str, tuple[dict[str, list[float]], bool]]:
        """Return the prompts that a teacher has predicted: hash → means by target, and `ood`.

        A line that was cut is left out, so its prompt is predicted again.

        Raises:
            OptionError: the file holds something else, or another teacher's predictions.
        """
        if not self.path.exists():
            return {}
        predicted = {}
        for line in read_bytes(self.path).splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if not isinstance(entry, dict) or entry.keys() != _KEYS:
                raise OptionError(
                    f"{str(self.path)!r} is no file of a teacher's predictions; name another one"
                )
            if entry["task"] != task:
                continue
            if entry["teacher"] != teacher:
                raise OptionError(
                    f"{str(self.path)!r} holds predictions of the teacher "
                    f"{entry['teacher'][:12]}, and this one is {teacher[:12]}; name another file, "
                    "or remove it"
                )
            predicted[entry["prompt"]] = (entry["mean"], bool(entry["ood"]))
        return predicted

    def add(self, teacher: str, task: str, lessons: Lessons) -> None:
        """Append predictions.

        Raises:
            OSError: they cannot be written; nothing is left of them.
        """
        lines = []
        for row, prompt in enumerate(lessons.prompts):
            mean = {target: values[row].tolist() for target, values in lessons.mean.items()}
            entry = {
                "teacher": teacher,
                "task": task,
                "prompt": _hash(prompt),
                "mean": mean,
                "ood": bool(lessons.ood[row]),
            }
            lines.append(json.dumps(entry, separators=(",", ":")) + "\n")
        append(self.path, "".join(lines).encode())


def _hash(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def teach(
    predictor: Predictor,
    prompts: Sequence[str],
    task: str,
    *,
    file: PredictionFile | None = None,
    progress: Progress | None = None,
) -> Lessons:
    """Return what a teacher predicts of prompts, each different text once, in order.

    Args:
        predictor: the teacher's, of one task.
        prompts: texts.
        task: names the progress and the lines of the file.
        file: predictions that it holds are not made again, and new ones are added.
        progress: called with what is done after every `CHUNK` prompts.

    Raises:
        EncoderError, MissingExtraError: the teacher's encoder is not there.
        PredictorError: it predicts something that is no number.
        OptionError: as `PredictionFile.read`.
    """
    texts = tuple(dict.fromkeys(prompts))
    teacher = teacher_fingerprint(predictor)
    done = {} if file is None else file.read(teacher, task)
    # Texts of like length share a chunk, so that little is padded.
    waiting = sorted((text for text in texts if _hash(text) not in done), key=len)
    name, ended = f"teacher: {task}", len(texts) - len(waiting)
    if progress is not None:
        progress(name, ended, len(texts))
    for start in range(0, len(waiting), CHUNK):
        lessons = _predicted(predictor, tuple(waiting[start : start + CHUNK]))
        if file is not None:
            file.add(teacher, task, lessons)
        for row, text in enumerate(lessons.prompts):
            mean = {target: values[row].tolist() for target, values in lessons.mean.items()}
            done[_hash(text)] = (mean, bool(lessons.ood[row]))
        ended += len(lessons.prompts)
        if progress is not None:
            progress(name, ended, len(texts))
    rows = [done[_hash(text)] for text in texts]
    mean = {
        target: np.array([means[target] for means, _ in rows], dtype=np.float64).reshape(
            len(texts), len(predictor.experts_)
        )
        for target in predictor.targets_
    }
    return Lessons(texts, mean, np.array([ood for _, ood in rows], dtype=np.bool_))


def _predicted(predictor: Predictor, texts: tuple[str, ...]) -> Lessons:
    prediction = predictor.predict(texts)
    if not np.isfinite(prediction.mean[LOSS]).all():
        raise PredictorError("the teacher predicts a loss that is no number; fit it again")
    return Lessons(texts, dict(prediction.mean), prediction.ood)
