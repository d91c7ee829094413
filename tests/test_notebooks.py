"""What objects show in notebooks: their figures, with names as text."""

import re

import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.checks import Check

NAME = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def hostile(table, held_out_table):
    """A router and a table whose experts' names try to be HTML."""
    experts = [NAME, "plain", "</td></table>"]
    library = Library(
        [Expert(name=name, model="m", parameters="1B") for name in experts], name=NAME
    )
    costs = dict(zip(experts, (0.001, 0.002, 0.003), strict=True))

    def scored(measured):
        rows = [
            {"prompt": prompt, "scores": dict(zip(experts, scores, strict=True)), "costs": costs}
            for prompt, scores in zip(measured.prompts, (1 - measured.losses).tolist(), strict=True)
        ]
        return ScoreTable.from_rows(rows)

    return Router.fit(scored(table), library=library, predictor="clusters"), scored(held_out_table)


def shown(hostile):
    router, table = hostile
    check = Check(lambda prompt, answer: True, accepts_right=0.9, accepts_wrong=0.1)
    decision = router.route(table.prompts[0])
    yield "router", router, "clusters"
    yield "library", router.library, "1B"
    yield "table", table, f"{len(table):,} prompts"
    yield "decision", decision, f"{decision.totals.min():.4f}"
    yield "plan", router.route(table.prompts[0], check=check).plan, "90% of right"
    yield "evaluation", router.evaluate(table), "oracle"
    yield "front", router.pareto(table, "cost"), "hypervolume"
    yield "plan front", router.plan_front(table, check), "AIQ"


def test_everything_shows_its_figures_and_no_name_acts(hostile):
    for what, thing, figure in shown(hostile):
        html = thing._repr_html_()
        assert figure in html, what
        assert "<img" not in html, what
        assert "\u202e" not in html, what
        tags = re.findall(r"<(/?\w+)", html)
        assert tags.count("table") == tags.count("/table"), what
        if tags[0] == "table":
            assert "&lt;img" in html or what == "evaluation", what


def test_several_tasks_show_a_table_each(tiny_router, tiny_texts):
    rows = [
        {"prompt": f"New: {text}", "losses": {"code-gpt": 0.1, "prose-gpt": 0.9}}
        for text in tiny_texts["code"]
    ] + [
        {"prompt": f"[MASK] {text}", "losses": {"code-bert": 0.1, "prose-bert": 0.9}}
        for text in tiny_texts["code"]
    ]
    html = tiny_router.evaluate(ScoreTable.from_rows(rows))._repr_html_()
    assert html.count("<table>") == 2
    assert "<h4>fill-mask</h4>" in html


def test_a_decision_draws_losses_and_goals(hostile, tmp_path):
    router, table = hostile
    decision = router.route(f"{table.prompts[0]} [Flag: cost=0.5]")
    spec = decision.plot().to_dict()
    bars = (
        next(data for data in spec["datasets"].values() if "part" in data[0])
        if ("datasets" in spec)
        else spec["layer"][0]["data"]["values"]
    )
    totals = {}
    for bar in bars:
        totals[bar["expert"]] = max(totals.get(bar["expert"], 0.0), bar["end"])
    assert sorted(totals.values()) == pytest.approx(sorted(decision.totals.tolist()), abs=1e-3)
    decision.plot().save(tmp_path / "decision.svg")
    assert "predicted loss" in (tmp_path / "decision.svg").read_text()
