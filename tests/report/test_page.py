import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tryage import ScoreTable
from tryage.report.page import island


class Page(HTMLParser):
    """Elements, their attributes, and the text of scripts and of everything else."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.text = [], [], []
        self._inside = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def html(report):
    return report.html()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_of_a_prompt_or_a_name_becomes_an_element(page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3
    assert not {"img", "svg", "iframe", "object", "embed", "link", "base"} & set(tags)
    handlers = [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert handlers == []
    shown = "".join(page.text)
    assert "<script>window.owned = 1</script>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "\u202e" not in shown


def test_the_policy_allows_the_pages_own_scripts_alone(page):
    [policy] = [a["content"] for t, a in page.elements if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    _, *scripts = page.scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_no_element_names_a_place_outside(page):
    for _, attrs in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attrs.get(name, "#").startswith("#")


def test_the_data_are_json_that_cannot_end_its_element(page):
    assert json.loads(page.scripts[0])["tasks"]
    hostile = {"a": "</script><!--&\u2028\u202e", "b": float(1)}
    written = island(hostile)
    assert not set("<>&\u2028\u202e") & set(written)
    assert json.loads(written) == hostile
    with pytest.raises(ValueError, match="JSON compliant"):
        island(np.nan)


def test_without_prompts_no_prompt_is_in_the_file(report_router, report_table):
    html = report_router.report(report_table, prompts=False).html()
    plain = [prompt[:30] for prompt in report_table.prompts if prompt.startswith("The ")]
    assert len(plain) == 20
    assert not [prompt for prompt in plain if prompt in html]
    assert "window.owned = 1" not in html
    assert "(left out)" in html


def test_tables_have_captions_and_heads_and_buttons_that_sort(page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") >= 7
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    assert tags.count("h1") == 1
    assert {a["aria-sort"] for _, a in page.elements if "aria-sort" in a} == {"none"}
    identifiers = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    named = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(named) <= set(identifiers)


def test_ten_thousand_prompts_stay_under_six_megabytes(router, monkeypatch):
    monkeypatch.setattr("tryage.report.latent._placed", lambda v, _: (v[:, :2], "two dimensions"))
    rng = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"{number} " + "漢字" * 200,
            "group": f"group {number % 60}",
            "losses": dict(zip(("coder", "writer", "giant"), rng.random(3).tolist(), strict=True)),
        }
        for number in range(10_000)
    ]
    html = router.report(ScoreTable.from_rows(rows)).html()
    assert len(html.encode()) < 6_000_000


def test_several_tasks_have_a_part_each(tiny_router, tiny_texts):
    rows = [
        {"prompt": t.replace(" ", mask, 1), "losses": dict.fromkeys(names, 0.5)}
        for t in tiny_texts["code"]
        for mask, names in (
            (" ", ("code-gpt", "prose-gpt")),
            (" [MASK] ", ("code-bert", "prose-bert")),
        )
    ]
    page = Page(tiny_router.report(ScoreTable.from_rows(rows)).html())
    assert [tag for tag, _ in page.elements].count("article") == 2


def test_a_table_of_losses_without_groups(router, held_out_table):
    plain = replace(held_out_table, groups=(None,) * len(held_out_table))
    html = router.report(plain).html()
    assert "mean loss is" in html
    assert "(all prompts)" in html
