import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tryage import Goals, Policy, Router, ScoreTable
from tryage.errors import GoalError, ScoreTableError, TryageWarning
from tryage.evaluation.fronts import (
    Gathered,
    Points,
    hull_area,
    hypervolume,
    non_dominated,
    zero_router,
)
from tryage.evaluation.measured import estimated
from tryage.evaluation.pareto import pareto
from tryage.evaluation.sweeps import Means, over_two
from tryage.ties import TIE


def table_of(losses, groups=None):
    n, m = losses.shape
    experts = tuple(f"e{i}" for i in range(m))
    none = (None,) * n
    return ScoreTable(
        prompts=tuple(f"p{i}" for i in range(n)),
        ids=tuple(map(str, range(n))),
        groups=tuple(groups) if groups else none,
        tasks=none,
        references=none,
        experts=experts,
        losses=losses,
        kind="scores",
    )


def front_of(losses, predicted, values, groups=None):
    penalty = values
    return pareto(
        table_of(losses, groups),
        ["cost"],
        predicted=predicted,
        penalties=[penalty],
        values=[values],
        realised=[penalty],
    )


@st.composite
def problems(draw):
    n, m = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    numbers = st.integers(0, 20).map(lambda value: value / 20)
    matrix = st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n)
    return tuple(np.array(draw(matrix)) for _ in range(3))


def test_the_weight_of_a_point_is_past_the_crossing_by_more_than_a_tie():
    """A router that is given the weight makes the choices of the point, tie-break or not."""
    predicted, values = np.array([[0.0, 0.5]]), np.array([[1.0, 0.0]])
    front = front_of(predicted, predicted, values)
    first, second = sorted(front.points.weights[:, 0].tolist())
    assert first == 0.0
    assert second == pytest.approx(0.5, abs=1e-5)
    dear_total, cheap_total = (predicted + second * values)[0]
    assert dear_total - cheap_total > TIE


@given(problems())
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_no_point_dominates_another_and_every_weight_is_covered(problem):
    losses, predicted, values = problem
    front = front_of(losses, predicted, values)
    axes = np.column_stack([front.points.losses, front.points.values])
    for i, point in enumerate(axes):
        others = np.delete(axes, i, axis=0)
        assert not ((others <= point).all(axis=1) & (others < point).any(axis=1)).any()
    row = np.arange(len(losses))
    for weight in (0.0, 0.0337, 0.31, 1.77, 4.9, 60.1):
        chosen = (predicted + weight * values).argmin(axis=1)
        reached = np.array([losses[row, chosen].mean(), values[row, chosen].mean()])
        # Ties aside, whatever a weight attains is on the front or dominated by it.
        totals = np.sort(predicted + weight * values, axis=1)
        if (totals[:, 1] - totals[:, 0] > 1e-9).all():
            assert ((axes <= reached + 1e-9).all(axis=1)).any()


@given(problems())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_the_weight_of_a_point_attains_it(problem):
    losses, predicted, values = problem
    front = front_of(losses, predicted, values)
    for k in range(len(front.points)):
        totals = predicted + front.points.weights[k, 0] * values
        near = totals <= totals.min(axis=1, keepdims=True) + 1e-9
        # Where totals tie within rounding, either of the tied may have been chosen.
        low = np.where(near, values, np.inf).min(axis=1).mean()
        high = np.where(near, values, -np.inf).max(axis=1).mean()
        assert low - 1e-9 <= front.points.values[k, 0] <= high + 1e-9


@st.composite
def problems_of_two(draw):
    losses, predicted, first = draw(problems())
    n, m = losses.shape
    numbers = st.integers(0, 20).map(lambda value: value / 20)
    second = draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
    return losses, predicted, first, np.array(second)


def sweep_two(losses, predicted, first, second, **options):
    held = np.stack([first, second], axis=-1)
    means = Means(losses, held, np.full(len(losses), 1 / len(losses)))
    return over_two(predicted, [first, second], means, **options)


def choices_at(weights, predicted, first, second):
    """Return the choice at each pair of weights, (pairs, n), and how clear the closest one was."""
    first, second = first[None], second[None]
    totals = predicted[None] + weights[:, :1, None] * first + weights[:, 1:, None] * second
    ranked = np.sort(totals, axis=2)
    return totals.argmin(axis=2), (ranked[..., 1] - ranked[..., 0]).min(axis=1)


def attained(chosen, losses, *values):
    row = np.arange(len(losses))
    return np.column_stack([axis[row, chosen].mean(axis=1) for axis in (losses, *values)])


def test_a_line_from_large_weights_to_none_tells_no_negative_weight():
    """Four equal experts; one prompt's costs tie along a line that runs into the origin."""
    losses, predicted, first, second = (np.zeros((7, 4)) for _ in range(4))
    losses[1, 0] = first[1, 3] = first[4, 3] = 0.05
    second[4, :3] = 0.05
    points, exact = sweep_two(losses, predicted, first, second)
    assert exact
    assert (points.weights >= 0).all()
    for weights in points.weights.tolist():
        Goals(cost=weights[0], verbosity=weights[1])


@given(problems_of_two(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_two_weights_are_swept_exactly(problem, seed):
    losses, predicted, first, second = problem
    points, exact = sweep_two(*problem)
    assert exact
    assert (points.weights >= 0).all()
    axes = np.column_stack([points.losses, points.values])
    for i, point in enumerate(axes):
        others = np.delete(axes, i, axis=0)
        assert not (others <= point).all(axis=1).any()
    weights = np.exp(np.random.default_rng(seed).uniform(-7, 7, size=(500, 2)))
    chosen, clear = choices_at(weights, predicted, first, second)
    for reached in attained(chosen, losses, first, second)[clear > 1e-6]:
        assert (axes <= reached + 1e-9).all(axis=1).any()


@given(problems_of_two())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_weights_of_a_point_of_two_goals_attain_it(problem):
    losses, predicted, first, second = problem
    points, _ = sweep_two(*problem)
    chosen, clear = choices_at(points.weights, predicted, first, second)
    axes = np.column_stack([points.losses, points.values])
    values = attained(chosen, losses, first, second)
    assert values[clear > 1e-9] == pytest.approx(axes[clear > 1e-9], abs=1e-9)


def test_rays_miss_points_and_say_so():
    rng = np.random.default_rng(0)
    problem = tuple(rng.random((30, 4)) for _ in range(4))
    points, exact = sweep_two(*problem)
    fewer, is_exact = sweep_two(*problem, most_work=0)
    assert (exact, is_exact) == (True, False)
    assert len(fewer) < len(points)
    axes = np.column_stack([points.losses, points.values])
    for point in np.column_stack([fewer.losses, fewer.values]):
        assert (axes <= point + 1e-12).all(axis=1).any()


def test_many_points_are_gathered_in_parts(monkeypatch):
    monkeypatch.setattr(Gathered, "_MOST", 100)
    axes = np.random.default_rng(0).random((3000, 3))
    every = Points(axes[:, :2], axes[:, 0], axes[:, 1:], np.arange(len(axes)))
    gathered = Gathered()
    for start in range(0, 3000, 50):
        gathered.add(every.take(np.arange(start, start + 50)))
    rest = [
        not (np.delete(axes, i, axis=0) <= point).all(axis=1).any() for i, point in enumerate(axes)
    ]
    expected = np.flatnonzero(rest)[np.argsort(axes[rest, 0])]
    assert gathered.points().losses.tolist() == axes[expected, 0].tolist()
    assert gathered.points().weights.tolist() == axes[expected, :2].tolist()


@given(problems_of_two())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_the_hypervolume_of_two_goals_counts_a_grid(problem):
    """All numbers are twentieths, so that the middles of a grid's cells tell the volume exactly."""
    losses, _, first, second = (np.unique(array) for array in problem)
    corners = points(*np.column_stack([np.resize(axis, 6) for axis in (losses, first, second)]))
    box = points((1.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    middle = (np.arange(20) + 0.5) / 20
    grid = np.stack(np.meshgrid(middle, middle, middle), axis=-1).reshape(-1, 1, 3)
    axes = np.column_stack([corners.losses, corners.values])
    covered = (axes[None] <= grid).all(axis=2).any(axis=1).mean()
    assert hypervolume(corners, box) == pytest.approx(covered)


@given(problems())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_the_oracle_is_never_below_the_router(problem):
    losses, predicted, values = problem
    front = front_of(losses, predicted, values)
    router, oracle = front.aiq(front.points), front.aiq(front.oracle)
    if router is None:
        return
    assert oracle >= router - 1e-9
    assert front.aiq(front.zero) <= oracle + 1e-9
    assert 0 <= front.hypervolume <= 1


def points(*pairs):
    axes = np.array(pairs, dtype=float)
    return Points(np.zeros((len(axes), 1)), axes[:, 0], axes[:, 1:], np.zeros(len(axes), int))


def test_the_aiq_is_the_area_under_the_hull():
    singles = points((0.8, 1.0), (0.4, 3.0))
    # Losses 0.8 at 1 falling to 0.4 at 3, so minus 0.6 on average.
    assert hull_area(singles, singles) == pytest.approx(-0.6)
    better = points((0.8, 1.0), (0.4, 2.0), (0.9, 2.5))
    assert hull_area(better, singles) == pytest.approx(-(0.6 + 0.4) / 2)
    cheap = points((0.4, 2.0))
    assert hull_area(cheap, singles) == pytest.approx(-(0.6 + 0.4) / 2)
    assert hull_area(points((0.5, 1.0)), points((0.5, 1.0), (0.6, 1.0))) is None


def test_mixtures_are_made_of_the_corners_of_the_hull():
    """The second lies on the line between the first and the last, the third above it."""
    hull = zero_router(points((1.0, 0.0), (0.5, 1.0), (0.4, 1.5), (0.0, 2.0)))
    assert hull.losses.tolist() == [1.0, 0.0]
    assert zero_router(points((1.0, 0.0), (0.4, 1.0), (0.0, 2.0))).losses.tolist() == [
        1.0,
        0.4,
        0.0,
    ]


def test_left_of_the_first_point_counts_the_line_to_the_cheapest_single_expert():
    """Two are as cheap; the better of them begins the line, from 0.6 at 1 to 0.2 at 3."""
    singles = points((0.2, 3.0), (0.9, 1.0), (0.6, 1.0))
    assert hull_area(points((0.2, 3.0)), singles) == pytest.approx(-0.4)


def test_dominated_points_are_left_out():
    front = non_dominated(points((0.5, 2.0), (0.5, 1.0), (0.4, 3.0), (0.6, 1.0), (0.5, 1.0)))
    assert front.losses.tolist() == [0.4, 0.5]
    assert front.values[:, 0].tolist() == [3.0, 1.0]


def test_the_hypervolume_by_hand():
    singles = points((1.0, 0.0), (1.0, 4.0))
    assert hypervolume(points((0.5, 2.0)), singles) == pytest.approx(0.25)
    assert hypervolume(points((0.5, 2.0), (0.0, 3.0)), singles) == pytest.approx(0.25 + 0.125)
    cube = points((1.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert hypervolume(points((0.5, 0.5, 0.5)), cube) == pytest.approx(0.125)
    two = points((0.5, 0.5, 0.5), (0.25, 0.75, 0.5))
    assert hypervolume(two, cube) == pytest.approx(0.5 * (0.25 + 0.25 * 0.25))


def test_the_box_of_the_hypervolume_ends_at_the_worst_single_expert():
    singles = points((0.2, 4.0), (0.8, 1.0), (0.5, 2.0))
    # From loss 0 to 0.8 and from value 1 to 4: the point leaves 0.4 of 0.8 and 2 of 3.
    assert hypervolume(points((0.4, 2.0)), singles) == pytest.approx(0.5 * 2 / 3)
    assert hypervolume(points((0.8, 1.0)), singles) == 0.0
    assert hypervolume(points((0.2, 0.5)), singles) == pytest.approx(0.75)


def test_weights_of_two_goals_are_no_larger_than_they_need_to_be():
    """The choice changes for the last time where a goal weighs 0.5 or the other 0.25."""
    losses = predicted = np.array([[0.0, 0.5]])
    first, second = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]])
    choices, _ = sweep_two(losses, predicted, first, second)
    assert len(choices) == 2
    assert choices.weights.max() < 2.0


def test_means_are_over_groups():
    losses = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    values = np.array([[1.0, 0.0]] * 3)
    front = front_of(losses, losses, values, groups=["a", "a", "b"])
    assert front.singles.losses.tolist() == [0.5, 1.0]
    assert front.prompts == 3


def test_prompts_that_lack_a_measurement_count_too():
    losses = np.array([[0.0, 1.0], [np.nan, 1.0], [0.5, 0.0]])
    predicted = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    with pytest.warns(TryageWarning, match=r"e0 on \(no group\) \(2 measured\)"):
        front = front_of(losses, predicted, np.ones((3, 2)))
    assert front.prompts == 3
    assert front.cells.to_dict() == {"measured": 5, "possible": 6}
    assert front.singles.cells.tolist() == [2, 3]
    assert front.singles.losses[1] == pytest.approx(2 / 3)
    assert [point["cells"] for point in front.to_dict()["points"]] == [2]
    # On the second prompt the best measured expert failed.
    assert front.oracle.losses.tolist() == [pytest.approx(1 / 3)]
    assert front.oracle.cells.tolist() == [3]


def test_points_are_means_of_estimates_and_singles_those_of_the_whole_table_on_average():
    rng = np.random.default_rng(0)
    n = 150
    hard = rng.random((n, 1)) < 0.5
    losses = (rng.random((n, 3)) < np.where(hard, [0.8, 0.5, 0.3], [0.4, 0.2, 0.1])).astype(float)
    values = np.array([1.0, 3.0, 10.0]) * rng.uniform(0.5, 2.0, (n, 1))
    predicted = losses.mean(axis=0) + rng.normal(0.0, 0.2, (n, 3)) + 0.3 * losses
    group = np.arange(n) % 3 // 2
    shares = np.where(group == 0, 0.5 / 100, 0.5 / 50)
    penalty = np.array([0.0, 0.1, 0.5])

    def front_with(holes):
        return pareto(
            table_of(np.where(holes, np.nan, losses), ["ab"[place] for place in group]),
            ["cost"],
            predicted=predicted,
            penalties=[penalty],
            values=[np.where(holes, np.nan, values)],
            realised=[penalty],
        )

    errors = []
    for _ in range(60):
        holes = rng.random((n, 3)) < [0.1, 0.4, 0.3]
        holes[holes.all(axis=1), 0] = False
        front = front_with(holes)
        singles = np.stack([front.singles.losses, front.singles.values[:, 0]])
        errors.append(singles - np.stack([shares @ losses, shares @ values]))
    chance = np.std(errors, axis=0) / np.sqrt(len(errors))
    assert (np.abs(np.mean(errors, axis=0)) < 3.5 * chance).all()
    cells = [estimated(np.where(holes, np.nan, axis), group, 2) for axis in (losses, values)]
    row = np.arange(n)
    for weight, loss, value, count in zip(
        front.points.weights[:, 0],
        front.points.losses,
        front.points.values[:, 0],
        front.points.cells,
        strict=True,
    ):
        chosen = (predicted + weight * penalty).argmin(axis=1)
        attained = [shares @ cell[row, chosen] for cell in cells]
        assert attained == pytest.approx([loss, value])
        assert count == (~holes)[row, chosen].sum()
    whole = front_with(np.zeros((n, 3), dtype=bool))
    assert (whole.points.cells == n).all()
    assert (whole.singles.losses == shares @ losses).all()


@pytest.mark.filterwarnings("ignore:too few results")
def test_two_goals_choose_the_oracle_among_the_measured():
    rng = np.random.default_rng(1)
    losses, first, second = (rng.random((12, 3)) for _ in range(3))
    holes = rng.random((12, 3)) < 0.3
    holes[holes.all(axis=1), 0] = False
    front = pareto(
        table_of(np.where(holes, np.nan, losses)),
        ["cost", "size"],
        predicted=losses,
        penalties=[first, second],
        values=[first, second],
        realised=[first, second],
    )
    lowest = np.where(holes, np.inf, losses).min(axis=1).mean()
    assert front.oracle.losses.min() == pytest.approx(lowest)
    assert (front.oracle.cells == 12).all()
    assert front.cells.measured == (~holes).sum()


def test_an_expert_without_results_has_no_front():
    losses = np.array([[np.nan, 1.0], [np.nan, 0.0]])
    with pytest.raises(ScoreTableError, match="loss and cost of e0 measured"):
        front_of(losses, np.zeros((2, 2)), np.ones((2, 2)))
    priceless = np.array([[1.0, np.nan], [1.0, np.nan]])
    with pytest.raises(ScoreTableError, match="loss and cost of e1 measured"):
        front_of(np.ones((2, 2)), np.zeros((2, 2)), priceless)


@pytest.fixture(scope="module")
def fitted(targets_table, table_library):
    return Router.fit(targets_table, library=table_library)


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_a_router_draws_its_front(fitted, targets_table):
    front = fitted.pareto(targets_table, "cost").to_dict()
    assert front["goal"] == "cost"
    assert front["points"][0]["weight"] == 0.0
    assert front["points"][-1]["value"] == pytest.approx(1e-4)
    assert front["aiq"] > front["references"]["zero_router"]["aiq"]
    assert set(front["experts"]) == {"coder", "writer", "giant"}
    limited = fitted.with_policy(Policy(limits={"parameters": "<=10B"}))
    assert limited.pareto(targets_table, "size").to_dict()["aiq"] is not None


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_two_goals_at_once(fitted, targets_table):
    front = fitted.pareto(targets_table, "cost", "readability")
    figures = front.to_dict()
    assert figures["goal"] == ["cost", "readability"]
    assert figures["aiq"] is None
    assert 0 < figures["hypervolume"] <= 1
    assert figures["exact"] is True
    assert figures["points"][0]["weight"].keys() == {"cost", "readability"}


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_wrong_goals(fitted, targets_table):
    with pytest.raises(GoalError, match="Did you mean 'cost'"):
        fitted.pareto(targets_table, "cots")
    with pytest.raises(ScoreTableError, match="one goal or two"):
        fitted.pareto(targets_table, "cost", "size", "recency")
