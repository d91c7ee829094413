"""A report on decisions: figures by hand, hostile lines, the page."""

import datetime
import json

import pytest

from tryage.errors import DecisionError
from tryage.report import RoutingReport
from tryage.report.routing_page import alone_table, kinds_table

START = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC)
NAME = "org/<script>window.owned = 1</script>"


def line(day, expert, *, strange=False, prompt=None, costs=(0.001, 0.004), **more):
    names = ("cheap", NAME)
    rows = [
        {"expert": name, "loss": loss, "eligible": True, "values": {"cost": cost}}
        for name, loss, cost in zip(names, (0.4, 0.1), costs, strict=True)
    ]
    rows.sort(key=lambda row: row["expert"] != expert)
    record = {
        "time": (START + datetime.timedelta(days=day)).isoformat().replace("+00:00", "Z"),
        "expert": expert,
        "ranking": rows,
        "weights": {"cost": 0.2} if day < 5 else {},
        "flags": [],
        "out_of_distribution": strange,
    }
    return record | ({} if prompt is None else {"prompt": prompt}) | more


@pytest.fixture
def week(tmp_path):
    """Ten days of ten decisions: three in four cheap; ever more prompts out of distribution."""
    lines = []
    for day in range(10):
        for number in range(10):
            expert = NAME if number % 4 == 3 else "cheap"
            text = (
                f"Translate the sentence number {number} of day {day}: river garden winter"
                if number % 2
                else f"def function_{number}_{day}(value): return the python value"
            )
            lines.append(line(day, expert, strange=number < day, prompt=text))
    path = tmp_path / "week.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in reversed(lines)))
    return path


def test_figures_are_those_of_the_lines(week):
    values = RoutingReport.read(week).values
    assert values.decisions == 100
    assert [(one.expert, one.count) for one in values.experts] == [("cheap", 80), (NAME, 20)]
    assert values.experts[1].loss == pytest.approx(0.1)
    dear, cheap = values.alone
    assert dear.expert == NAME
    assert dear.compared == 100
    assert dear.saved == pytest.approx(0.8 * 0.003)
    assert dear.saved_share == pytest.approx(0.6)
    assert dear.loss == pytest.approx(0.8 * 0.3)
    assert cheap.loss == pytest.approx(0.2 * -0.3)
    assert cheap.saved == pytest.approx(-0.2 * 0.003)
    assert values.weights == {"cost": 0.5}
    assert values.other_answered is None
    assert values.span[0] == START


def test_time_is_cut_into_days_in_order_whatever_the_order_of_the_lines(week):
    values = RoutingReport.read(week).values
    assert [period.name for period in values.periods] == [f"2026-03-{d:02}" for d in range(2, 12)]
    assert [period.strange for period in values.periods] == [day / 10 for day in range(10)]
    assert all(p.strange_ci95[0] <= p.strange <= p.strange_ci95[1] for p in values.periods)
    change, (low, high) = values.drift
    assert change == pytest.approx(0.5)
    assert 0.3 < low < change < high < 0.7


def test_no_drift_is_seen_where_there_is_none(tmp_path):
    path = tmp_path / "even.jsonl"
    lines = [line(day, "cheap", strange=number < 2) for day in range(6) for number in range(10)]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    change, (low, high) = RoutingReport.read(path).values.drift
    assert change == 0.0
    assert low < 0 < high


def test_prompts_become_kinds_with_typical_words_unless_they_are_private(week):
    values = RoutingReport.read(week).values
    words = [set(kind.words) for kind in values.kinds]
    assert any("translate" in one for one in words)
    assert any("python" in one for one in words)
    assert sum(kind.prompts for kind in values.kinds) == 100
    for kind in values.kinds:
        assert sum(kind.chosen.values()) == pytest.approx(1.0)
    shown = [row[0].text for row in kinds_table(values).rows]
    assert all(text in RoutingReport.read(week).html() for text in shown)
    private = RoutingReport.read(week, prompts=False)
    assert private.values.kinds is None
    html = private.html()
    assert not [text for text in shown if text in html]


def test_plans_and_answers_of_others_are_counted(tmp_path):
    plan = {"loss": 0.05, "cost": 0.002, "attempts": [{"expert": "cheap"}, {"expert": NAME}]}
    lines = [line(0, "cheap", plan=plan, answered_by=NAME), line(0, "cheap", answered_by="cheap")]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    values = RoutingReport.read(path).values
    assert values.planned == values.other_answered == 0.5
    assert values.experts[0].cost == pytest.approx((0.002 + 0.001) / 2)
    assert {one.expert: one.answered for one in values.experts} == {"cheap": 1, NAME: 1}


def test_what_routers_write_is_read(router, held_out_table, tmp_path):
    logged = router.with_log(tmp_path / "log.jsonl", prompts=True)
    logged.route_batch(held_out_table.prompts)
    values = RoutingReport.read(tmp_path / "log.jsonl").values
    assert values.decisions == len(held_out_table)
    assert {one.expert for one in values.experts} == {"coder", "writer"}
    assert values.kinds


def test_lines_without_times_are_cut_by_number(router, held_out_table, tmp_path):
    path = tmp_path / "d.jsonl"
    decisions = router.route_batch(held_out_table.prompts)
    path.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in decisions))
    values = RoutingReport.read(path).values
    assert values.span is None
    assert [period.name for period in values.periods] == [
        "1 to 10",
        "11 to 20",
        "21 to 30",
        "31 to 40",
    ]
    assert alone_table(values) is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there are no decisions"),
        ("{}\n", "line 1: no decision"),
        ('{"expert": "a"}\nnot json\n', "line 2: not JSON"),
        ('{"expert": "a", "time": "yesterday"}\n', "line 1: ValueError"),
        ('{"expert": "a", "ranking": [1]}\n', "line 1: AttributeError"),
        ('{"expert": "a", "plan": {"loss": 1}}\n', "line 1: KeyError"),
    ],
)
def test_a_line_that_is_no_decision_is_named(tmp_path, text, words):
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with pytest.raises(DecisionError, match=words):
        RoutingReport.read(path)


@pytest.mark.enable_socket
def test_the_page_draws_everything_and_no_name_acts(week, tmp_path, browser):
    from tests.report.test_browser import opened

    path = tmp_path / "week.html"
    RoutingReport.read(week).write(path)
    opened(browser, path, width=390)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('[data-plot]')].filter("
        "e => e.querySelector('svg')).map(e => e.dataset.plot)"
    )
    assert drawn == ["shares", "costs", "strange"]
    assert browser.execute_script("return window.owned") is None
    assert browser.get_log("browser") == []
