"""Checks of the built documentation site: every public name is there, and nothing is fetched."""

from __future__ import annotations

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.exceptions import PluginError

_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_FETCHED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src")}
_NAVIGATION = {"canonical", "next", "prev"}


class _Page(HTMLParser):
    """Collects the ids of a page, and what a browser fetches from elsewhere for it."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        if tag == "link" and values.get("rel") in _NAVIGATION:
            return
        for name, value in attrs:
            if (tag, name) in _FETCHED and re.match(r"(https?:)?//", value or ""):
                self.fetched.add(value or "")


def public_names(docs: Path) -> set[str]:
    """Return the names that the pages of the reference promise, such as "tryage.Router"."""
    names: set[str] = set()
    for page in sorted((docs / "reference").glob("*.md")):
        for name in _DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError:
                names.add(name)  # a function that has the name of its module
            else:
                names |= {f"{name}.{public}" for public in _public(module)}
    return names


def _public(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if name.isidentifier()
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]


def on_post_build(config: Any) -> None:
    """Refuse a site that lacks a public name or fetches something from elsewhere."""
    ids: set[str] = set()
    fetched: set[str] = set()
    for file in Path(config["site_dir"]).rglob("*.html"):
        page = _Page()
        page.feed(file.read_text(encoding="utf-8"))
        ids |= page.ids
        fetched |= page.fetched
    names = public_names(Path(config["docs_dir"]))
    missing = sorted(name for name in names if not {name, _doubled(name)} & ids)
    if missing:
        raise PluginError(f"the reference lacks {len(missing)} names: {', '.join(missing)}")
    if fetched:
        raise PluginError(f"pages fetch {', '.join(sorted(fetched))}")


def _doubled(name: str) -> str:
    """Return the id of a function that has the name of its module."""
    return f"{name}.{name.rpartition('.')[2]}"
