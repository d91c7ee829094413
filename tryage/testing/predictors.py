"""`check_predictor`: what the router relies on of a predictor."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import NotFittedError, PredictorError
from tryage.predictors import Prediction, Predictor
from tryage.scores import ScoreTable
from tryage.testing.contracts import (
    ODD_PROMPTS,
    in_threads,
    require,
    require_close,
    require_raises,
    require_unchanged,
    run_contracts,
    snapshot,
)

SAME = 1e-6
"""Distance between predictions that must be the same."""

IN_BATCH = 1e-4
"""Distance between a prediction in a batch and alone; see `Predictor`."""

_TEMPLATES = (
    ("code", "Write a Python function that sorts list number {}."),
    ("law", "May the court of appeal dismiss claim {} without a hearing?"),
    ("food", "How long do I bake {} small loaves of rye bread?"),
)


def small_table(per_kind: int = 16, seed: int = 0) -> ScoreTable:
    """Return a table of three kinds of prompt, four experts, losses and costs, some cells NaN."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(per_kind * len(_TEMPLATES)):
        kind = number % len(_TEMPLATES)
        group, template = _TEMPLATES[kind]
        losses = {f"expert-{j}": 0.6 * (j != kind) + rng.uniform(0, 0.3) for j in range(4)}
        costs = {name: rng.uniform(1e-4, 9e-4) for name in losses}
        if number % 5 == 4:
            missing = f"expert-{number % 4}"
            del losses[missing], costs[missing]
        prompt = template.format(number)
        rows.append({"prompt": prompt, "group": group, "losses": losses, "costs": costs})
    return ScoreTable.from_rows(rows)


def check_predictor(
    predictor: Predictor, *, table: ScoreTable | None = None, skip: Collection[str] = ()
) -> None:
    """Test that a predictor keeps what the router relies on.

    It is copied for every fit, and is itself not changed.

    Args:
        predictor: one that is not fitted.
        table: what it is fitted on; at least two experts and 20 prompts. By default a made-up one
            of 48 prompts and four experts, with losses and costs.
        skip: names of contracts that are not tested, such as ``"permutation of experts"`` for a
            predictor that draws at random.

    Raises:
        ContractError: a contract is broken; the message and `contract` name it.
        OptionError: `skip` names no contract.
    """
    suite = _Suite(predictor, table or small_table())
    run_contracts(
        predictor,
        (
            suite.not_fitted,
            suite.fit,
            suite.shapes,
            suite.finite_numbers,
            suite.no_prompts,
            suite.odd_prompts,
            suite.determinism,
            suite.no_mutation,
            suite.batch_equals_single,
            suite.order_of_prompts,
            suite.permutation_of_experts,
            suite.save_and_load,
            suite.expert_added,
            suite.expert_removed,
            suite.threads,
        ),
        skip,
    )


class _Suite:
    def __init__(self, predictor: Predictor, table: ScoreTable) -> None:
        self.predictor = predictor
        self.table = table
        self.prompts = list(table.prompts)
        self._fitted: Predictor | None = None

    @property
    def fitted(self) -> Predictor:
        if self._fitted is None:
            self._fitted = self.fit_on(self.table)
        return self._fitted

    def fit_on(self, table: ScoreTable) -> Predictor:
        return copy.deepcopy(self.predictor).fit(list(table.prompts), copy.deepcopy(table))

    def not_fitted(self) -> None:
        new = copy.deepcopy(self.predictor)
        require_raises(lambda: new.predict(self.prompts), NotFittedError, what="predict before fit")
        require_raises(new.state, NotFittedError, what="state before fit")

    def fit(self) -> None:
        new = copy.deepcopy(self.predictor)
        own = copy.deepcopy(self.table)
        require(new.fit(list(self.prompts), own) is new, "fit must return self")
        require(
            tuple(new.experts_) == tuple(self.table.experts),
            f"experts_ is {new.experts_}; the table's columns are {self.table.experts}",
        )
        require(new.targets_[:1] == ("loss",), f"targets_ is {new.targets_}; 'loss' goes first")
        for target in new.targets_:
            shape = new.averages_[target].shape
            m = len(self.table.experts)
            require(shape == (m,), f"averages_[{target!r}] has the shape {shape}, not ({m},)")
        require_raises(
            lambda: copy.deepcopy(self.predictor).fit(self.prompts[:-1], copy.deepcopy(own)),
            PredictorError,
            what="fit with one prompt fewer than the table has rows",
        )

    def shapes(self) -> None:
        for prompts in (self.prompts, self.prompts[:1]):
            _require_shapes(self.fitted.predict(prompts), prompts, self.fitted)

    def finite_numbers(self) -> None:
        _require_finite(self.fitted.predict(self.prompts), "the training prompts")

    def no_prompts(self) -> None:
        _require_shapes(self.fitted.predict([]), [], self.fitted)

    def odd_prompts(self) -> None:
        prediction = self.fitted.predict(list(ODD_PROMPTS))
        _require_shapes(prediction, ODD_PROMPTS, self.fitted)
        _require_finite(prediction, "empty, long and unusual prompts")

    def determinism(self) -> None:
        once, again = (self.fitted.predict(self.prompts) for _ in range(2))
        _require_same(once, again, "the same prompts, predicted twice", within=0.0)
        refitted = self.fit_on(self.table).predict(self.prompts)
        _require_same(once, refitted, "two fits with the same seed", within=SAME)

    def batch_equals_single(self) -> None:
        prompts = self.prompts[:6]
        batch = self.fitted.predict(prompts)
        for row, prompt in enumerate(prompts):
            alone = self.fitted.predict([prompt])
            what = "a prompt in a batch and alone"
            _require_same(_rows(batch, [row]), alone, what, within=IN_BATCH)

    def order_of_prompts(self) -> None:
        order = list(range(len(self.prompts)))[::-1]
        turned = self.fitted.predict([self.prompts[row] for row in order])
        expected = _rows(self.fitted.predict(self.prompts), order)
        _require_same(expected, turned, "prompts in another order", within=IN_BATCH)

    def permutation_of_experts(self) -> None:
        names = list(self.table.experts)
        turned = self.fit_on(self.table.reorder(names[::-1])).predict(self.prompts)
        straight = self.fitted.predict(self.prompts)
        what = "fits on a table and on the same with its experts in another order"
        for target, mean in straight.mean.items():
            require_close(mean[:, ::-1], turned.mean[target], what, within=IN_BATCH)
            require_close(straight.std[target][:, ::-1], turned.std[target], what, within=IN_BATCH)

    def no_mutation(self) -> None:
        table, prompts = copy.deepcopy(self.table), list(self.prompts)
        before = snapshot(table.losses, dict(table.targets), prompts)
        fitted = copy.deepcopy(self.predictor).fit(prompts, table)
        require_unchanged(before, table.losses, dict(table.targets), prompts, what="fit")
        state = snapshot(*fitted.state())
        fitted.predict(prompts).mean["loss"][:] = -1.0
        require_unchanged(before[2:], prompts, what="predict")
        config, arrays = fitted.state()
        require_unchanged(state, config, arrays, what="predict, or the caller of predict,")

    def save_and_load(self) -> None:
        config, arrays = self.fitted.state()
        try:
            stored = json.loads(json.dumps(config))
        except (TypeError, ValueError) as error:
            require(False, f"the configuration of state() is not JSON: {error}")
        for name, array in arrays.items():
            require(
                isinstance(array, np.ndarray) and array.dtype != object,
                f"state() gives {name!r} as {type(array).__name__}, not as an array of numbers",
            )
        encoder = self.fitted.encoder
        loaded = type(self.predictor).from_state(stored, copy.deepcopy(arrays), encoder)
        one, other = self.fitted.predict(self.prompts), loaded.predict(self.prompts)
        _require_same(one, other, "predictions before and after state() and from_state()", SAME)
        require(
            tuple(loaded.experts_) == tuple(self.fitted.experts_), "from_state forgot the experts"
        )

    def expert_added(self) -> None:
        *old, new = self.table.experts
        smaller = self.fit_on(self.table.reorder(old))
        before = smaller.predict(self.prompts)
        probes = self.table.select(np.flatnonzero(~np.isnan(self.table.losses[:, -1])))
        grown = smaller.with_expert(list(probes.prompts), probes)
        require(grown.experts_ == (*old, new), f"with_expert made the experts {grown.experts_}")
        after = grown.predict(self.prompts)
        _require_shapes(after, self.prompts, grown)
        _require_finite(after, "prompts after with_expert")
        require(tuple(smaller.experts_) == tuple(old), "with_expert changed the predictor itself")
        what = "predictions of the other experts before and after with_expert"
        require_close(before.mean["loss"], after.mean["loss"][:, :-1], what, within=SAME)

    def expert_removed(self) -> None:
        gone = self.table.experts[0]
        before = self.fitted.predict(self.prompts)
        smaller = self.fitted.without_expert(gone)
        require(gone not in smaller.experts_, f"without_expert kept {gone!r}")
        require(gone in self.fitted.experts_, "without_expert changed the predictor itself")
        after = smaller.predict(self.prompts)
        what = "predictions of the other experts before and after without_expert"
        require_close(before.mean["loss"][:, 1:], after.mean["loss"], what, within=SAME)

    def threads(self) -> None:
        prompts = self.prompts[:8]
        expected = self.fitted.predict(prompts)
        for prediction in in_threads(lambda: self.fitted.predict(prompts)):
            _require_same(expected, prediction, "predictions of several threads", within=0.0)


def _require_shapes(prediction: Prediction, prompts: Sequence[str], fitted: Predictor) -> None:
    shape = (len(prompts), len(fitted.experts_))
    for part, name in ((prediction.mean, "mean"), (prediction.std, "std")):
        require(
            set(part) == set(fitted.targets_),
            f"{name} holds {sorted(part)}; targets_ is {fitted.targets_}",
        )
        for target, values in part.items():
            require(
                values.shape == shape and values.dtype.kind == "f",
                f"{name}[{target!r}] is {values.dtype} of shape {values.shape}; it must be "
                f"floating point of shape {shape}",
            )
    ood: NDArray[Any] = prediction.ood
    require(
        ood.shape == shape[:1] and ood.dtype == np.bool_,
        f"ood is {ood.dtype} of shape {ood.shape}; it must be bool of shape {shape[:1]}",
    )


def _require_finite(prediction: Prediction, what: str) -> None:
    for target, values in prediction.mean.items():
        require(bool(np.isfinite(values).all()), f"mean[{target!r}] is not finite on {what}")
    for target, values in prediction.std.items():
        require(
            bool(np.isfinite(values).all() and (values >= 0).all()),
            f"std[{target!r}] is negative or not finite on {what}",
        )


def _require_same(one: Prediction, other: Prediction, what: str, within: float) -> None:
    require(one.mean.keys() == other.mean.keys(), f"{what}: the targets differ")
    for target in one.mean:
        require_close(one.mean[target], other.mean[target], f"mean of {what}", within=within)
        require_close(one.std[target], other.std[target], f"std of {what}", within=within)
    require(np.array_equal(one.ood, other.ood), f"{what}: ood differs")


def _rows(prediction: Prediction, rows: list[int]) -> Prediction:
    return Prediction(
        {target: values[rows] for target, values in prediction.mean.items()},
        {target: values[rows] for target, values in prediction.std.items()},
        prediction.ood[rows],
    )
