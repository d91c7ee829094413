"""The contract suites pass on Tryage's own parts, and catch a broken one of every kind."""

import dataclasses
import itertools

import numpy as np
import pytest

from tryage import checks
from tryage.encoders import CachedEncoder, StaticEncoder, load_encoder
from tryage.errors import ContractError, OptionError, TryageError
from tryage.goals import GOALS, Goal
from tryage.predictors import PREDICTORS, BestSinglePredictor, NearestPredictor
from tryage.testing import check_check, check_encoder, check_goal, check_predictor

QUICK = sorted(kind for kind in PREDICTORS if not PREDICTORS[kind].slow)


def fails(contract, match=""):
    """Expect an error that names the contract, as an AssertionError for people who test theirs."""
    return pytest.raises(ContractError, match=f"breaks the contract '{contract}'.*{match}")


def encoder():
    return StaticEncoder.bundled()


@pytest.mark.parametrize("kind", QUICK)
def test_predictors_of_tryage_pass(kind):
    depends_on_others = {"permutation of experts", "expert added", "expert removed"}
    skip = depends_on_others if kind == "random" else ()
    check_predictor(PREDICTORS[kind](encoder()), skip=skip)


def test_a_predictor_that_draws_at_random_breaks_what_it_says(table):
    with fails("permutation of experts", "in another order"):
        check_predictor(PREDICTORS["random"](), table=table)


class Average(BestSinglePredictor):
    """A predictor that the tests break in one place."""

    def changed(self, prediction, **parts):
        return dataclasses.replace(prediction, **parts)


class Unfitted(Average):
    def predict(self, prompts):
        return super().predict(prompts) if hasattr(self, "experts_") else None


class ReturnsNothing(Average):
    def fit(self, prompts, table):
        super().fit(prompts, table)


class Narrow(Average):
    def predict(self, prompts):
        whole = super().predict(prompts)
        return self.changed(whole, mean={k: v[:, :1] for k, v in whole.mean.items()})


class Undecided(Average):
    def predict(self, prompts):
        whole = super().predict(prompts)
        return self.changed(whole, std={k: v - 9 for k, v in whole.std.items()})


class NeedsPrompts(Average):
    def predict(self, prompts):
        return super().predict(prompts) if prompts else super().predict(["none"])


class Picky(Average):
    def predict(self, prompts):
        for prompt in prompts:
            prompt.encode("utf-8")
        return super().predict(prompts)


class Drifting(Average):
    count = itertools.count()

    def predict(self, prompts):
        whole = super().predict(prompts)
        return self.changed(whole, mean={k: v + next(self.count) for k, v in whole.mean.items()})


class OfTheBatch(Average):
    def predict(self, prompts):
        whole = super().predict(prompts)
        return self.changed(whole, mean={k: v + len(prompts) for k, v in whole.mean.items()})


class OfTheRow(Average):
    def predict(self, prompts):
        whole = super().predict(prompts)
        rows = np.arange(len(prompts))[:, None] * (len(prompts) > 6)
        return self.changed(whole, mean={k: v + rows for k, v in whole.mean.items()})


class Writes(Average):
    def fit(self, prompts, table):
        table.losses.flags.writeable = True
        table.losses[0, 0] += 1
        return super().fit(prompts, table)


class Shares(Average):
    def predict(self, prompts):
        whole = super().predict(prompts)
        if len(prompts) < 30:
            return whole
        mean = {k: np.broadcast_to(v, whole.mean[k].shape) for k, v in self.averages_.items()}
        for values in mean.values():
            values.flags.writeable = True
        return self.changed(whole, mean=mean)


class Forgets(Average):
    def _restore(self, config, arrays):
        super()._restore(config, arrays)
        self.averages_ = {name: values + 1 for name, values in self.averages_.items()}


class Refits(Average):
    def _add_expert(self, prompts, measured, others):
        super()._add_expert(prompts, measured, others)
        self.averages_ = {name: values * 0.5 for name, values in self.averages_.items()}


class TakesTheWrongOne(Average):
    def without_expert(self, name):
        smaller = super().without_expert(name)
        smaller.averages_ = {k: v[::-1] for k, v in smaller.averages_.items()}
        return smaller


class Scratchpad(Average):
    """Keeps what it works on in itself: one thread writes over another's."""

    def predict(self, prompts):
        self.shift = 0.0
        whole = super().predict(prompts)
        for _ in range(20_000):
            self.shift += 1e-6
        return self.changed(whole, mean={k: v + self.shift for k, v in whole.mean.items()})


@pytest.mark.parametrize(
    ("kind", "contract"),
    [
        (Unfitted, "not fitted"),
        (ReturnsNothing, "fit"),
        (Narrow, "shapes"),
        (Undecided, "finite numbers"),
        (NeedsPrompts, "no prompts"),
        (Picky, "odd prompts"),
        (Drifting, "determinism"),
        (OfTheBatch, "batch equals single"),
        (OfTheRow, "order of prompts"),
        (Writes, "no mutation"),
        (Shares, "no mutation"),
        (Forgets, "save and load"),
        (Refits, "expert added"),
        (TakesTheWrongOne, "expert removed"),
    ],
)
def test_a_broken_predictor_is_caught(kind, contract):
    with fails(contract):
        check_predictor(kind())


def test_a_predictor_that_is_not_safe_in_threads_is_caught(monkeypatch):
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with fails("threads"):
            check_predictor(Scratchpad())
    finally:
        sys.setswitchinterval(before)


def test_a_table_and_skips_of_one_s_own(table):
    check_predictor(NearestPredictor(encoder()), table=table)
    check_predictor(Narrow(), skip=everything_of(Narrow()))
    with pytest.raises(OptionError, match=r"no contract 'shape'.*Did you mean 'shapes'"):
        check_predictor(Average(), skip=["shape"])


def everything_of(predictor):
    """Names of the contracts that a predictor breaks."""
    skipped = []
    while len(skipped) == len(set(skipped)):
        try:
            check_predictor(predictor, skip=skipped)
        except ContractError as error:
            skipped.append(error.contract)
        else:
            return skipped
    pytest.fail(f"skipped and tested nevertheless: {skipped[-1]}")


def test_the_error_is_an_assertion_and_one_of_tryage_s():
    assert issubclass(ContractError, AssertionError)
    assert issubclass(ContractError, TryageError)
    with pytest.raises(AssertionError) as caught:
        check_predictor(Narrow())
    assert caught.value.contract == "shapes"


@pytest.mark.parametrize("name", sorted(GOALS))
def test_goals_of_tryage_pass(name):
    check_goal(GOALS[name])


class Hops(Goal):
    """A goal that the tests break in one place."""

    name, unit = "hops", "network hops"

    def value(self, expert):
        return float(len(expert.name) % 3 + ord(expert.name[-1]) % 4)


class Nameless(Hops):
    unit = ""


class Infinite(Hops):
    def value(self, expert):
        return float("inf")


class Long(Hops):
    def values(self, library, inputs):
        return np.zeros(len(library) + 1)


class Wandering(Hops):
    count = itertools.count()

    def value(self, expert):
        return float(next(self.count))


class Batched(Hops):
    def values(self, library, inputs):
        return np.broadcast_to(
            inputs.prompt_tokens.max(), (len(inputs.prompt_tokens), len(library))
        )


class Numbered(Hops):
    def values(self, library, inputs):
        return np.arange(float(len(library)))


class Remembers(Hops):
    def value(self, expert):
        self.last = expert.name
        return super().value(expert)


class Refund(Hops):
    adds_up = True

    def value(self, expert):
        return -super().value(expert)


class Fancy(Hops):
    def scaled(self, values, scale):
        return np.sin(5 * super().scaled(values, scale))


class Trusting(Hops):
    def scaled(self, values, scale):
        return np.nan_to_num(super().scaled(np.nan_to_num(values, nan=scale.low), scale))


class Reversed(Hops):
    """Prefers the higher values, though a goal is minimised; it hides it from `scaled` alone."""

    def scaled(self, values, scale):
        scaled = super().scaled(values, scale)
        return scaled if (np.diff(values) >= 0).all() or np.isnan(values).any() else 1 - scaled


class Mute(Hops):
    def format(self, value):
        return value


@pytest.mark.parametrize(
    ("kind", "contract"),
    [
        (Nameless, "names"),
        (Infinite, "shapes"),
        (Long, "shapes"),
        (Wandering, "determinism"),
        (Batched, "batch equals single"),
        (Numbered, "permutation of experts"),
        (Remembers, "no mutation"),
        (Refund, "sums"),
        (Fancy, "monotone scale"),
        (Trusting, "not stated is worst"),
        (Reversed, "monotone weights"),
        (Mute, "formatting"),
    ],
)
def test_a_broken_goal_is_caught(kind, contract):
    check_goal(Hops())
    with fails(contract):
        check_goal(kind())


def test_a_goal_is_tested_on_a_library_of_one_s_own(table_library):
    check_goal(Hops(), library=table_library)
    with pytest.raises(OptionError, match="no contract"):
        check_goal(Hops(), skip=["nothing"])


def test_encoders_of_tryage_pass():
    check_encoder(encoder(), load=load_encoder)
    check_encoder(CachedEncoder(encoder(), ["How long do I bake rye bread?"]))


class Own:
    """An encoder that the tests break in one place."""

    name, dim = "own", StaticEncoder.bundled().dim

    def encode(self, prompts):
        return encoder().encode(prompts)

    def save(self, folder):
        return {"kind": "own"}


class Vague(Own):
    dim = 0


class Double(Own):
    def encode(self, prompts):
        return super().encode(prompts).astype(float)


class Unscaled(Own):
    def encode(self, prompts):
        return super().encode(prompts) * np.float32(2)


class Refuses(Own):
    def encode(self, prompts):
        if not len(prompts):
            raise ValueError("nothing to encode")
        return super().encode(prompts)


class Splits(Own):
    def encode(self, prompts):
        return super().encode([prompt.split()[0] + prompt for prompt in prompts])


class Lenient(Own):
    def encode(self, prompts):
        return super().encode([str(prompt) for prompt in prompts])


class Noisy(Own):
    rng = np.random.default_rng(0)

    def encode(self, prompts):
        vectors = super().encode(prompts) + np.float32(self.rng.uniform(0, 1e-4))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class Centred(Own):
    def encode(self, prompts):
        vectors = super().encode(prompts)
        vectors = vectors - vectors.mean(axis=0) * np.float32(0.1) if len(prompts) > 1 else vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


class Sorts(Own):
    def encode(self, prompts):
        if len(prompts) == 4:
            prompts = sorted(prompts)
        return super().encode(prompts)


class Blind(Own):
    def encode(self, prompts):
        super().encode(prompts)
        vectors = np.zeros((len(prompts), self.dim), np.float32)
        vectors[:, 0] = 1
        return vectors


class Lends(Own):
    def __init__(self):
        self.cache = {}

    def encode(self, prompts):
        key = tuple(prompts)
        if key not in self.cache:
            self.cache[key] = super().encode(prompts)
        return self.cache[key]


class Unsaved(Own):
    def save(self, folder):
        return {"kind": "own", "folder": folder}


@pytest.mark.parametrize(
    ("kind", "contract"),
    [
        (Vague, "protocol"),
        (Double, "shapes"),
        (Unscaled, "unit length"),
        (Refuses, "no prompts"),
        (Splits, "unit length"),
        (Lenient, "wrong input"),
        (Noisy, "determinism"),
        (Centred, "batch equals single"),
        (Sorts, "order of prompts"),
        (Blind, "tells texts apart"),
        (Lends, "no mutation"),
        (Unsaved, "save and load"),
    ],
)
def test_a_broken_encoder_is_caught(kind, contract):
    check_encoder(Own())
    with fails(contract):
        check_encoder(kind())


def test_what_an_encoder_saved_must_load_as_the_same():
    class Other(Own):
        def encode(self, prompts):
            return -super().encode(prompts)

    check_encoder(Own(), load=lambda config, folder: Own())
    with fails("save and load", "before save and after loading"):
        check_encoder(Own(), load=lambda config, folder: Other())


CHECKS = {
    "valid_json": checks.valid_json(),
    "matches": checks.matches("Paris"),
    "agrees_with": checks.agrees_with("other"),
    "judged_by": checks.judged_by("other"),
    "confident": checks.confident(-1.0),
    "all_of": checks.all_of(checks.valid_json(), checks.matches("Paris")),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_tryage_pass(name):
    check_check(CHECKS[name])


def short(prompt, answer):
    return len(str(answer)) < 99


async def awaited(prompt, answer):
    return 0.9 if "Paris" in str(answer) else None


def test_checks_of_one_s_own_pass():
    examples = {"accepts": [("q", "Paris")], "rejects": [("q", "x" * 100)]}
    check_check(short, **examples)
    check_check(checks.Check(short, accepts_right=0.9, accepts_wrong=0.1), **examples)
    check_check(awaited, accepts=[("q", "Paris")])
    with fails("accepted and rejected", r"rejected the answer 'xx"):
        check_check(short, accepts=[("q", "x" * 100)])
    with fails("accepted and rejected", "accepted the answer 'Paris'"):
        check_check(short, rejects=[("q", "Paris")])


def says_a_word(prompt, answer):
    return "yes"


def expects_text(prompt, answer):
    return "Paris" in answer


TOSSES = itertools.cycle([True, False])


def tosses(prompt, answer):
    return next(TOSSES)


def empties(prompt, answer):
    if isinstance(answer, list):
        answer.clear()
    return True


class ByLoop:
    """Says another thing on an event loop, as a function that looks at its surroundings may."""

    def __call__(self, prompt, answer):
        import threading

        return threading.current_thread() is threading.main_thread()


class Wrong:
    asks = "giant"

    def examine(self, checked):
        return True


@pytest.mark.parametrize(
    ("check", "contract"),
    [
        (Wrong(), "can be called"),
        (7, "can be called"),
        (says_a_word, "findings"),
        (expects_text, "findings"),
        (tosses, "determinism"),
        (empties, "no mutation"),
        (ByLoop(), "sync equals async"),
    ],
)
def test_a_broken_check_is_caught(check, contract):
    with fails(contract):
        check_check(check)


def test_a_check_that_is_not_safe_in_threads_is_caught():
    import threading

    local = threading.local()

    def first_in_its_thread(prompt, answer):
        fresh = not hasattr(local, "answers")
        local.answers = True
        return not fresh or threading.current_thread().name.startswith("MainThread")

    local.answers = True
    with fails("threads"):
        check_check(first_in_its_thread, skip=["sync equals async"])
