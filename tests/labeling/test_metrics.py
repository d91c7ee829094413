import math

import pytest

from tryage.errors import OptionError
from tryage.labeling.answers import score_answer
from tryage.labeling.metrics import METRICS, contains, find_metric, metric_name


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "score"),
    [
        ("exact", " The  river.", "the river", 1),
        ("exact", "the rivers", "the river", 0),
        ("contains", "It is the old River, I think.", "old river", 1),
        ("contains", "It is a cold river.", "old river", 0),
        ("f1", "the old river", "the river", 0.8),
        ("f1", "", "the river", 0),
        ("number", "3 apples and 4 pears make 1,007.50", "so it is 1007.5", 1),
        ("number", "it is -3", "3", 0),
        ("number", "I do not know", "3", None),
    ],
)
def test_metrics_by_name(metric, answer, reference, score) -> None:
    assert METRICS[metric](answer, reference) == (None if score is None else pytest.approx(score))


def test_an_answer_is_measured_beside_its_score() -> None:
    cell = score_answer("The old river.", "river", contains, latency=0.5, cost=0.1, cut_off=True)
    assert (cell.loss, cell.error, cell.latency, cell.cost) == (0.0, None, 0.5, 0.1)
    assert cell.response_chars == 14
    assert math.isfinite(cell.readability)
    assert cell.cut_off
    assert not cell.empty


def refuses(answer, reference):
    raise KeyError("no such key")


@pytest.mark.parametrize(
    ("metric", "reason", "parse_failure"),
    [
        (lambda a, r: None, "the metric could not read the answer", True),
        (lambda a, r: 1.5, "the metric gave 1.5, which is no number in [0, 1]", False),
        (lambda a, r: "good", "the metric gave 'good', which is no number in [0, 1]", False),
        (lambda a, r: math.nan, "the metric gave nan, which is no number in [0, 1]", False),
        (refuses, "the metric failed: KeyError: 'no such key'", False),
        (contains, "the metric failed: ValueError: the prompt has no reference", False),
    ],
)
def test_what_a_metric_does_wrong_fails_the_cell_with_its_reason(
    metric, reason, parse_failure
) -> None:
    cell = score_answer(" ", None, metric)
    assert math.isnan(cell.loss)
    assert (cell.error, cell.parse_failure) == (reason, parse_failure)
    assert cell.empty


def test_a_reason_holds_no_secret_and_is_short() -> None:
    def asks(answer, reference):
        raise ConnectionError("api_key=abcdef1234 was refused")

    refused = "the metric failed: ConnectionError: api_key=*** was refused"
    assert score_answer("x", None, asks).error == refused
    assert len(score_answer("x", None, lambda a, r: "x" * 1000).error) < 120


def test_a_metric_has_a_name_that_tells_it_from_others() -> None:
    assert metric_name("f1") == metric_name(METRICS["f1"]) == "f1"
    assert metric_name(refuses).endswith(".refuses")
    assert find_metric(refuses) is refuses
    with pytest.raises(OptionError, match=r"unknown metric 'exct'; known are contains, exact, f1"):
        find_metric("exct")
