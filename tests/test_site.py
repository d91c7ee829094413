"""The documentation site: its map names every page, and its reference every public name."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("tryage", "langchain_tryage", "llama_index_tryage")

INNER = {
    "tryage.binding",  # what both adapters share
    "tryage.quickstart",  # what `tryage quickstart` runs
}
"""Packages that export names to other rooms, not to users."""


def files_of_the_map(entries):
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from files_of_the_map(value) if isinstance(value, list) else [value]


def test_the_map_of_the_site_names_every_page():
    named = list(files_of_the_map(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert sorted(named) == sorted(pages)


def exporting_modules():
    """Yield the packages, and the modules right under them, that say what they export."""
    for package in PACKAGES:
        folder = ROOT / package
        for path in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            names = [n.targets[0] for n in body if isinstance(n, ast.Assign)]
            if any(isinstance(name, ast.Name) and name.id == "__all__" for name in names):
                parts = path.relative_to(ROOT).with_suffix("").parts
                yield ".".join(parts).removesuffix(".__init__")


def test_the_reference_holds_every_module_that_exports_names():
    """`make docs` then checks that each of their names is in the built pages."""
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("reference/*.md"))
    shown = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert len(shown) == len(set(shown))
    exporting = set(exporting_modules())
    assert exporting >= INNER
    assert exporting - INNER <= set(shown)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_pages_begin_with_their_only_title(page):
    lines = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^# .+$", lines, re.MULTILINE)
    assert len(titles) == 1
    assert page.read_text().startswith(titles[0])


def test_terms_of_the_glossary_stand_in_order_and_are_short():
    parts = re.split(r"^## (.+)$", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE)
    terms = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(terms) == sorted(terms, key=str.lower)
    expected = {"Regret", "Selection accuracy", "Oracle", "Group best", "AIQ", "Hypervolume"}
    expected |= {"Bits per byte", "Macro average", "Cold start", "Out of distribution", "Plan"}
    assert expected <= terms.keys()
    assert {term for term, text in terms.items() if len(text) > 330} == set()
