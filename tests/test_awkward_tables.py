"""Tables and prompts that could break a fit or a decision: an answer or a named error."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import Expert, Library, Router, ScoreTable
from tryage.errors import PredictorError, PromptError, ScoreTableError, TryageError
from tryage.predictors import PREDICTORS

pytestmark = pytest.mark.filterwarnings(
    "ignore:the router was fitted on these very prompts",
    "ignore:.*one text stands under several ids",
    "ignore:.*have one measured expert",
)

KINDS = ["auto", *sorted(kind for kind in PREDICTORS if not PREDICTORS[kind].slow)]
STRANGE = [
    "日本語のテキストです。",
    "Привет, как дела?",
    "مرحبا بالعالم",
    "👩‍🚀" * 40,
    "\x00\x01\x02\x7f",
    "\u202e\u200b\ufeff",
    "\ud800 a lone surrogate",
    "\udfff",
    "x" * 1_000_000,
    "word " * 50_000,
    "?",
]
NOT_TEXT_TO_ROUTE = ["", " ", "\n\t", "[Flag: smallest model]"]


def library_of(names):
    return Library(
        [Expert(name=name, model=name, parameters=1 + i) for i, name in enumerate(names)]
    )


def table_of(prompts, losses, kind="losses", names=None, **targets):
    losses = np.asarray(losses, dtype=float)
    n, m = losses.shape
    nothing = (None,) * n
    return ScoreTable(
        prompts=tuple(prompts),
        ids=tuple(str(i) for i in range(n)),
        groups=nothing,
        tasks=nothing,
        references=nothing,
        experts=tuple(names or (f"e{j}" for j in range(m))),
        losses=losses,
        kind=kind,
        targets=targets,
    )


def texts(n):
    return [f"def f{i}(x): return x + {i}" if i % 2 else f"How many is {i} + 1?" for i in range(n)]


def holes(n, m, share, seed=0):
    rng = np.random.default_rng(seed)
    losses = rng.random((n, m))
    losses[rng.random((n, m)) < share] = np.nan
    losses[np.arange(m) % n, np.arange(m)] = 0.5
    return losses


RNG = np.random.default_rng(0)
TABLES = {
    "constant columns": table_of(texts(60), np.tile([0.2, 0.7, 0.7], (60, 1))),
    "one constant column": table_of(texts(60), np.column_stack([np.full(60, 0.4), RNG.random(60)])),
    "all losses 0": table_of(texts(60), np.zeros((60, 3))),
    "a single prompt": table_of(["only one"], [[0.2, 0.4]]),
    "two prompts": table_of(["one", "two"], [[0.2, 0.4], [0.5, 0.1]]),
    "a single expert": table_of(texts(60), RNG.random((60, 1))),
    "one prompt, one expert": table_of(["only one"], [[0.3]]),
    "the same prompt, other labels": table_of(["again"] * 60, RNG.random((60, 3))),
    "duplicates among others": table_of(texts(20) * 3, RNG.random((60, 3))),
    "nearly nothing measured": table_of(texts(60), holes(60, 4, 0.97)),
    "half measured": table_of(texts(60), holes(60, 4, 0.5)),
    "one label a prompt": table_of(
        texts(60), np.where(np.arange(60)[:, None] % 3 == np.arange(3), 0.5, np.nan)
    ),
    "experts measured on different prompts": table_of(
        texts(60), np.where(np.arange(60)[:, None] < 30, [0.1, np.nan], [np.nan, 0.9])
    ),
    "strange prompts": table_of(STRANGE * 6, RNG.random((6 * len(STRANGE), 3))),
    "a prompt of blanks": table_of([" ", *texts(59)], RNG.random((60, 3))),
    "scores of 0 and 1": table_of(texts(60), RNG.integers(2, size=(60, 3)), kind="scores"),
    "huge and tiny losses": table_of(texts(60), RNG.random((60, 2)) * [1e-12, 1e12]),
    "a cost measured of nobody": table_of(
        texts(60), RNG.random((60, 2)), cost=np.full((60, 2), np.nan)
    ),
    "a cost measured of one": table_of(
        texts(60), RNG.random((60, 2)), cost=np.tile([1e-3, np.nan], (60, 1))
    ),
}


def check(router, prompts):
    """Every decision names an expert whose total is a number and the lowest."""
    for prompt in prompts:
        decision = router.route(prompt, flags=False)
        eligible = decision.totals[np.isfinite(decision.totals)]
        assert len(eligible)
        chosen = decision.totals[decision.names.index(decision.expert)]
        assert chosen <= eligible.min() + 1e-9
        assert np.isfinite(decision.losses).all()
        assert np.isfinite(decision.std).all()
        assert "nan" not in decision.explain().lower().split()


# Of the strange prompts the encoder reads hardly one.
@pytest.mark.filterwarnings("ignore:.*knows fewer than half of the tokens")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_an_awkward_table_gives_a_router_that_decides(name, kind, tmp_path):
    table = TABLES[name]
    router = Router.fit(table, library=library_of(table.experts), predictor=kind)
    check(router, [*texts(2), *STRANGE])
    router.save_pretrained(tmp_path / "router")
    again = Router.from_pretrained(tmp_path / "router")
    for prompt in STRANGE:
        assert again.route(prompt, flags=False).expert == router.route(prompt, flags=False).expert
    report = router.evaluate(table, train=table if kind == "auto" else None)
    assert 0.0 <= report.choices.entropy <= 1.0
    complete = not np.isnan(table.losses).any()
    assert report.router["regret"] is None or report.router["regret"] >= 0.0 or not complete


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", NOT_TEXT_TO_ROUTE)
def test_nothing_to_route_is_a_named_error(prompt, kind):
    table = TABLES["half measured"]
    router = Router.fit(table, library=library_of(table.experts), predictor=kind)
    with pytest.raises(PromptError, match="there is nothing to route"):
        router.route(prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_all_missing_is_named(kind):
    losses = np.column_stack([RNG.random(60), np.full(60, np.nan)])
    table = table_of(texts(60), losses)
    with pytest.raises((ScoreTableError, PredictorError), match="e1"):
        Router.fit(table, library=library_of(table.experts), predictor=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_in_which_nothing_was_measured_is_a_named_error(kind):
    table = table_of(texts(4), np.full((4, 2), np.nan))
    with pytest.raises(TryageError):
        Router.fit(table, library=library_of(table.experts), predictor=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_expert_with_awkward_probes_joins_or_is_refused_by_name(kind):
    table = TABLES["half measured"]
    router = Router.fit(table, library=library_of(table.experts), predictor=kind)
    new_expert = Expert(name="new", model="new", parameters=9)
    for losses in ([[0.5]], [[0.0]] * 30, np.where(np.arange(30)[:, None] % 2, 0.1, np.nan)):
        probes = table_of((STRANGE * 3)[: len(losses)], losses, names=["new"])
        check(router.add_expert(new_expert, probes), [*texts(2), *STRANGE])
    nobody = table_of(["p"], [[np.nan]], names=["new"])
    with pytest.raises(TryageError):
        router.add_expert(new_expert, nobody)


@settings(max_examples=40, deadline=None)
@given(
    prompts=st.lists(
        st.text(st.characters(exclude_categories=()), min_size=1, max_size=30),
        min_size=1,
        max_size=12,
    ),
    data=st.data(),
)
def test_any_text_at_all_can_be_fitted_on_and_routed(prompts, data):
    """Surrogates, control characters and what Unicode has not named yet."""
    cell = st.one_of(st.just(np.nan), st.floats(0, 1))
    rows = st.lists(st.tuples(cell, cell), min_size=len(prompts), max_size=len(prompts))
    losses = np.array(data.draw(rows))
    losses[0] = 0.5
    table = table_of(prompts, losses)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doubts = "several ids|one measured expert|of the tokens|the same [0-9]+ characters"
        warnings.filterwarnings("ignore", f".*({doubts})")
        router = Router.fit(table, library=library_of(table.experts), predictor="clusters")
        check(router, [prompt for prompt in prompts if prompt.strip()])
