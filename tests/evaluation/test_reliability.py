import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tryage.evaluation import evaluate
from tryage.evaluation.reliability import calibration_error, rank_correlations
from tryage.scores import ScoreTable

NAN = np.nan


def table(losses, groups=None):
    rows = [
        {
            "prompt": f"p{i}",
            "group": None if groups is None else groups[i],
            "losses": {f"e{j}": loss for j, loss in enumerate(row) if loss == loss},
        }
        for i, row in enumerate(losses)
    ]
    return ScoreTable.from_rows(rows)


def quality(losses, predicted, groups=None):
    made = table(losses, groups)
    return evaluate(made, [0] * len(losses), predicted=predicted, resamples=0).prediction


def test_absolute_errors_are_averaged_over_measured_cells_and_then_groups():
    losses = [[1.0, 2.0], [0.5, NAN], [4.0, 4.0]]
    predicted = [[2.0, 2.0], [0.5, 99.0], [1.0, 4.0]]
    assert quality(losses, predicted, ["a", "a", "b"])["mae"] == pytest.approx((0.25 + 1.5) / 2)


def test_ranks_are_compared_across_the_experts_of_each_prompt():
    losses = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    predicted = np.array([[0.1, 0.2, 0.9], [3.0, 2.0, 1.0], [7.0, 7.0, 7.0], [1.0, 2.0, 3.0]])
    correlations = rank_correlations(predicted, losses)
    np.testing.assert_allclose(correlations, [1.0, -1.0, 0.0, NAN])
    assert quality(losses, predicted)["spearman"] == pytest.approx(0.0)


def test_the_rank_correlation_of_ties_is_that_of_average_ranks():
    losses = np.array([[1.0, 1.0, 2.0, 3.0]])
    predicted = np.array([[1.0, 2.0, 2.0, 3.0]])
    left, right = np.array([1.5, 1.5, 3, 4]), np.array([1, 2.5, 2.5, 4])
    expected = np.corrcoef(left, right)[0, 1]
    np.testing.assert_allclose(rank_correlations(predicted, losses), [expected])


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), min_size=1, max_size=8
    )
)
def test_unmeasured_cells_do_not_enter_the_rank_correlation(values):
    predicted = np.array([[float(p) for p, _, _ in values]])
    losses = np.array([[float(loss) if measured else NAN for _, loss, measured in values]])
    columns = [i for i, (_, _, measured) in enumerate(values) if measured]
    correlations = rank_correlations(predicted, losses)
    alone = rank_correlations(predicted[:, columns], losses[:, columns])
    if columns:
        np.testing.assert_allclose(correlations, alone)
    assert np.isnan(correlations[0]) or -1 - 1e-9 <= correlations[0] <= 1 + 1e-9


def test_brier_and_calibration_are_given_where_losses_are_zero_or_one():
    losses = [[0.0, 1.0], [1.0, 1.0], [0.5, 0.0]]
    predicted = [[0.25, 0.5], [0.5, 1.0], [0.5, 0.0]]
    figures = quality(losses, predicted, ["plain", "plain", "partial"])
    assert figures["brier"] == pytest.approx((0.0625 + 0.25 + 0.25 + 0.0) / 4)
    assert figures["expected_calibration_error"] == pytest.approx((0.25 + 2 * 0.5) / 4)
    assert set(quality([[0.5, 0.0]], [[0.5, 0.0]])) == {"mae", "spearman"}


def test_the_calibration_error_is_zero_for_observed_frequencies_and_clips_predictions():
    losses = np.array([[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]])
    assert calibration_error(np.array([[0.25, 0.25, 0.25, 0.25, 1.0, 7.0]]), losses) == 0.0
    assert calibration_error(np.array([[0.0] * 6]), losses) == pytest.approx(0.5)
