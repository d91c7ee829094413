"""Rounds of routing, training, measuring and refitting, each resumed where it was left."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.cotraining.assigning import (
    Assigned,
    best,
    by_chance,
    by_group,
    explored,
    within_shares,
)
from tryage.cotraining.fine_tuning import fine_tune, stored_dtype
from tryage.cotraining.folder import CotrainingFolder, read_json
from tryage.cotraining.guarding import forgotten
from tryage.cotraining.measuring import loaded, measured_losses, read_losses, write_losses
from tryage.cotraining.options import CotrainingOptions
from tryage.cotraining.parts import Parts, group_names, table_of
from tryage.cotraining.results import Round, figures
from tryage.errors import ExpertError
from tryage.experts import Expert
from tryage.files import write_text
from tryage.folders import Folders
from tryage.labeling.rows import Row
from tryage.library import Library
from tryage.progress import Progress
from tryage.router import Router

Floats = NDArray[np.float64]

OnRound = Callable[[Round], None]
"""Called with the figures of each round as it is finished."""

_ASSIGN, _TRAIN = 1, 2
"""Numbers that keep the random draws of one purpose from those of another."""


class Rounds:
    """One co-training by rounds.

    Args:
        folder: where everything goes; open already.
        router: the starting router.
        sources: name → folder of the starting models, of all experts of the task.
        task: the task.
        parts: the prompts.
        options: how.
        folders: folders outside that the router's encoder may lie in.
        progress: called with the work at hand, units done and all units.
    """

    def __init__(
        self,
        folder: CotrainingFolder,
        router: Router,
        sources: Mapping[str, Path],
        task: str,
        parts: Parts,
        options: CotrainingOptions,
        *,
        folders: Folders = (),
        progress: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.start = router
        self.sources = dict(sources)
        self.task = task
        self.parts = parts
        self.options = options
        self.folders = folders
        self.progress = progress

    @property
    def names(self) -> tuple[str, ...]:
        """The experts' names, in the order of columns."""
        return tuple(self.sources)

    @functools.cached_property
    def library(self) -> Library:
        """The trained experts, with the attributes of the starting ones."""
        experts = []
        for name in self.names:
            row = self.start.library[name].model_dump(exclude={"revision", "gated"})
            model = self.folder.expert(name).relative_to(self.folder.folder).as_posix()
            experts.append(Expert(**{**row, "model": model}))
        return Library(experts, name=self.start.library.name, root=self.folder.folder)

    def run(self, on_round: OnRound | None = None) -> list[Round]:
        """Do the rounds that are missing; return all of them, from 0.

        Args:
            on_round: called with every round, finished before or now.
        """
        done = [Round.from_dict(row) for row in self.folder.finished()]
        if done:
            self.folder.publish(len(done) - 1, self.library)
        for round_ in done:
            if on_round is not None:
                on_round(round_)
        for number in range(len(done), self.options.rounds + 1):
            started = time.perf_counter()
            self.folder.round(number).clear()
            round_ = self._first() if number == 0 else self._next(number)
            round_ = replace(round_, seconds=round(time.perf_counter() - started, 3))
            text = json.dumps(round_.to_dict(), indent=1)
            write_text(self.folder.round(number).figures, text + "\n")
            self.folder.publish(number, self.library)
            done.append(round_)
            if on_round is not None:
                on_round(round_)
        return done

    def _first(self) -> Round:
        """Copy and measure the starting experts.

        They are routed by the starting router; by one fitted on these losses where that one knows
        none, as `Router.from_library` makes it.
        """
        for name, source in self.sources.items():
            self.folder.adopt(name, source)
            path = self.folder.round(0).losses(name)
            if not path.is_file():
                losses = self.measure(name, self.folder.expert(name))
                if np.isnan(losses[: len(self.parts.labelled)]).all():
                    raise ExpertError(f"expert {name!r} could not be measured on any prompt")
                write_losses(path, losses)
        router = self.start
        if np.isnan(self.predicted(router, self.parts.labelled)).all():
            router = self._refitted(0, self.start)
        return self._figures(0, router)

    def _next(self, number: int) -> Round:
        round_ = self.folder.round(number)
        router = self.router_of(number)
        counts = self.train_round(number, router)
        updates = {name: read_json(round_.update(name)) for name in self.names}
        fitted = self._refitted(number, router)
        reasons = {name: row["reason"] for name, row in updates.items() if row.get("reason")}
        return self._figures(
            number,
            fitted,
            trained=counts,
            rolled_back=tuple(reasons),
            reasons=reasons,
            steps={
                name: row["trained"]["steps"] for name, row in updates.items() if "trained" in row
            },
        )

    def _refitted(self, number: int, router: Router) -> Router:
        """Return the router fitted on a round's losses; save it."""
        labelled, _ = self.losses(number)
        table = table_of(self.parts.labelled, self.names, labelled)
        fitted = router.refit(table, library=self.library, seed=self.options.seed, progress=False)
        fitted.save_pretrained(self.folder.round(number).router)
        return fitted

    def router_of(self, number: int) -> Router:
        """Return the router that a round begins with."""
        if not self.folder.router.is_dir():
            return self.start
        return Router.from_pretrained(self.folder.router, folders=self.folders)

    def train_round(self, number: int, router: Router) -> dict[str, int]:
        """Assign the round's prompts, train and settle each expert.

        Returns:
            How many prompts each expert got.
        """
        rows = self.parts.of_round(number, self.options.per_round)
        columns = self._assigned(number, router, rows)
        served = best(self.predicted(router, self.parts.labelled))
        counts = np.bincount(columns, minlength=len(self.names))
        for column, name in enumerate(self.names):
            if self.folder.round(number).update(name).is_file():
                continue
            own = [row for row, at in zip(rows, columns.tolist(), strict=True) if at == column]
            frozen = self.options.assign == "frozen" or not own
            outcome = {} if frozen else self._train(number, column, own)
            self.settle(number, name, outcome, judged=served == column)
        frozen_all = self.options.assign == "frozen"
        return {n: 0 if frozen_all else int(counts[i]) for i, n in enumerate(self.names)}

    def _train(self, number: int, column: int, rows: Sequence[Row]) -> dict[str, Any]:
        """Train an expert, if its new weights are not there; return what `settle` takes."""
        name = self.names[column]
        target = self.folder.round(number).expert(name)
        notes = self.folder.round(number).notes(name)
        if target.is_dir() and notes.is_file():
            return {"trained": read_json(notes)}
        source = self.folder.expert(name)
        try:
            with loaded(self.library[name], source, self.options.device) as pipeline:
                trained = fine_tune(
                    pipeline,
                    rows,
                    target,
                    self.options,
                    dtype=stored_dtype(source),
                    seed=(self.options.seed, number, column, _TRAIN),
                    advance=self.advance(f"training {name}"),
                )
        except ExpertError as error:
            return {"reason": f"training failed: {error}"}
        write_text(notes, json.dumps(asdict(trained)) + "\n")
        return {"trained": asdict(trained)}

    def settle(
        self, number: int, name: str, outcome: Mapping[str, Any], *, judged: NDArray[np.bool_]
    ) -> None:
        """Measure an expert's new weights, keep them or roll them back, and note which.

        Args:
            number: of the round.
            name: the expert; its new weights are in the round's folder if it was trained.
            outcome: ``trained``, figures of the training, if there was one; ``reason``, if it
                failed. Both are kept.
            judged: (n,) rows of the labelling sample that the expert serves.
        """
        round_ = self.folder.round(number)
        before = read_losses(self.folder.round(number - 1).losses(name))
        losses, note = before, dict(outcome)
        if "trained" in outcome:
            after = self.measure(name, round_.expert(name))
            n = len(self.parts.labelled)
            everything = np.ones(n, dtype=bool)
            reason = forgotten(
                group_names(self.parts.labelled),
                judged if self.options.guard == "served" else everything,
                before[:n],
                after[:n],
                self.options.max_rise,
            )
            if reason is None:
                losses = after
            else:
                note["reason"] = reason
        write_losses(round_.losses(name), losses)
        if "reason" in note:
            round_.discard(name)
        write_text(round_.update(name), json.dumps(note) + "\n")

    def measure(self, name: str, folder: Path) -> Floats:
        """Return an expert's losses on all measured rows; NaN throughout if it cannot run."""
        rows = self.parts.measured
        try:
            with loaded(self.library[name], folder, self.options.device) as pipeline:
                return measured_losses(
                    pipeline, rows, self.options, self.advance(f"measuring {name}")
                )
        except ExpertError:
            if folder == self.folder.expert(name):
                raise
            return np.full(len(rows), np.nan)

    def losses(self, number: int) -> tuple[Floats, Floats]:
        """Return a round's losses on the labelling sample and held out, (n, m) each."""
        round_ = self.folder.round(number)
        columns = [read_losses(round_.losses(name)) for name in self.names]
        losses = np.stack(columns, axis=1)
        n = len(self.parts.labelled)
        return losses[:n], losses[n:]

    def predicted(self, router: Router, rows: Sequence[Row]) -> Floats:
        """Return the router's predictions, (n, m) over the experts of the task."""
        columns = [router.library.index(name) for name in self.names]
        losses: Floats = router.predict([row.prompt for row in rows], task=self.task)[:, columns]
        return losses

    def _figures(self, number: int, router: Router, **more: Any) -> Round:
        labelled, held_out = self.losses(number)
        rows = self.parts.held_out
        return figures(
            number,
            self.names,
            (labelled, best(self.predicted(router, self.parts.labelled))),
            (held_out, best(self.predicted(router, rows))),
            group_names(rows),
            **more,
        )

    def _assigned(self, number: int, router: Router, rows: Sequence[Row]) -> NDArray[np.int64]:
        """Return the column of each row's expert, (n,); decided once and kept in a file."""
        path = self.folder.round(number).assigned
        if not path.is_file():
            assigned = self._assign(number, router, rows)
            lines = [
                {
                    "id": row.id,
                    "expert": self.names[assigned.expert[i]],
                    "chosen": self.names[assigned.chosen[i]],
                    "probability": float(assigned.probability[i]),
                    "explored": bool(assigned.explored[i]),
                }
                for i, row in enumerate(rows)
            ]
            write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return np.array([self.names.index(line["expert"]) for line in lines], dtype=np.int64)

    def _assign(self, number: int, router: Router, rows: Sequence[Row]) -> Assigned:
        options = self.options
        rng = np.random.default_rng([options.seed, number, _ASSIGN])
        if options.assign == "random":
            return by_chance(len(rows), len(self.names), rng)
        if options.assign == "groups":
            chosen = by_group([row.group for row in rows], self.names, options.groups or {})
        else:
            chosen = within_shares(
                self.predicted(router, rows), least=options.min_share, most=options.max_share
            )
        return explored(chosen, len(self.names), options.explore, rng)

    def advance(self, what: str) -> Callable[[int, int], None] | None:
        """Return what is called with the units done of a piece of work."""
        if self.progress is None:
            return None
        return functools.partial(self.progress, what)
