"""The pages are written in short paragraphs, so that a reader gets through them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 110


def paragraphs(text):
    """Yield the paragraphs and list items of a page, without code, tables and headings."""
    lines, in_code = [], False
    for line in [*text.split("\n"), ""]:
        is_fence = line.lstrip().startswith("```")
        is_item = re.match(r"\s*([-*]|\d+\.) ", line) is not None
        is_apart = is_fence or not line.strip() or line.startswith(("#", "|", "<!--"))
        if lines and (is_apart or is_item):
            yield " ".join(lines)
            lines = []
        in_code ^= is_fence
        if not in_code and not is_apart:
            lines.append(line.strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paragraphs_are_short(page):
    lengths = {text[:60]: len(text.split()) for text in paragraphs(page.read_text("utf-8"))}
    assert {text: words for text, words in lengths.items() if words > MOST_WORDS} == {}


def test_paragraphs_end_at_items_code_and_tables():
    page = "# Title\n\nOne\ntwo.\n- a\n  b\n- c\n\n```\ncode\n\ncode\n```\n| x |\nthree"
    assert list(paragraphs(page)) == ["One two.", "- a b", "- c", "three"]
