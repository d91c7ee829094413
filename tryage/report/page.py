"""The page: one HTML file that needs no network, and lets no text of a prompt act."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from tryage.drawing.beginnings import beginning, visible
from tryage.drawing.charts import alt, number
from tryage.drawing.names import short_names
from tryage.errors import missing_extra
from tryage.report import plots, tables
from tryage.report.plots.maps import map_of, map_rows
from tryage.report.plots.summaries import regret_of
from tryage.report.values import ReportValues, TaskValues

try:
    import jinja2
    import vl_convert
    from markupsafe import Markup
except ImportError as error:
    raise missing_extra("report", "writing a report") from error

if TYPE_CHECKING:
    from jinja2 import Template

MOST_ROWS = 10_000
"""Prompts whose regret the page holds for its filters; of more, as many at random."""

MOST_COLOURED = 40
"""Experts by whose predicted loss the map can be coloured."""

_UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029\u202a\u202e\x7f"}


@dataclass(frozen=True)
class Figure:
    """A plot of the page.

    Attributes:
        name: key of its specification.
        title: its caption.
        description: read out in its place.
    """

    name: str
    title: str
    description: str


def render(values: ReportValues) -> str:
    """Return a report as an HTML page."""
    sections = [_section(number, task) for number, task in enumerate(values.tasks)]
    data = {"tasks": [section["data"] for section in sections]}
    return template("report.html").render(
        title=beginning(values.title),
        notes=values.notes,
        origins={name: beginning(text, 400) for name, text in values.origins.items()},
        sections=sections,
        **common(data),
    )


def common(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every page holds: styles, scripts, data, and the policy that allows only them."""
    scripts = [_library(), _own("report.js")]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return {
        "created": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "policy": f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        "style": Markup(_own("report.css")),
        "data": Markup(island(data)),
        "scripts": [Markup(script) for script in scripts],
    }


def _section(place: int, values: TaskValues) -> dict[str, Any]:
    specs = dict(_specs(values))
    figures = {name: Figure(name, *titled) for name, titled in _titles(values).items()}
    return {
        "id": f"task-{place}",
        "task": values,
        "verdict": verdict(values),
        "tables": {
            "summary": tables.summary(values),
            "paired": tables.paired(values),
            "groups": tables.by_group(values),
            "experts": tables.experts(values),
            "worst": tables.worst(values),
            "plans": tables.plans(values),
            "separation": tables.separation(values.latent.separation if values.latent else ()),
        },
        "fronts": [
            (placed.front.goals[0], tables.front(values, placed)) for placed in values.fronts
        ],
        "figures": {name: figure for name, figure in figures.items() if name in specs},
        "missing": {name: beginning(reason, 300) for name, reason in values.missing.items()},
        "coloured": _coloured(values),
        "data": {"specs": specs, "rows": _rows(values), "map": _map(values)},
    }


def verdict(values: TaskValues) -> str:
    """Return one sentence: the router against always asking the best single expert."""
    evaluation, measure = values.evaluation, values.measure
    single, pair = evaluation.references.get("best_single"), evaluation.paired.get("best_single")
    own = evaluation.router[measure]
    if single is None or own is None:
        return f"{evaluation.prompts:,} prompts."
    text = f"The router's mean {measure} is {own:.3f}; the best single expert's is "
    text += f"{single[measure]:.3f}."
    if pair is None or pair["difference"] is None or pair["ci95"] is None:
        return text
    low, high = pair["ci95"]
    difference = f"by {abs(pair['difference']):.3f} ({low:+.3f} to {high:+.3f})"
    if low > 0:
        return f"{text} The router is better {difference}, prompt by prompt."
    if high < 0:
        return f"{text} The router is worse {difference}, prompt by prompt."
    if low == high == 0.0:
        return f"{text} The router does as well as that expert on every resample."
    return f"{text} The data do not tell them apart: they differ {difference}."


def _titles(values: TaskValues) -> dict[str, tuple[str, str]]:
    measure = values.measure
    titles = {
        "summary": (
            f"Mean {measure} with 95 % intervals",
            "The same figures stand in the table above.",
        ),
        "mean": (f"Mean {measure} of each expert on each group", "Darker is better."),
        "chosen": (
            "Share of each group that the router sends to each expert",
            "Darker is more often.",
        ),
        "reliability": (
            f"Predicted against measured {measure}",
            "On the dashed line, predictions are right on average.",
        ),
        "regret": ("Regret of the router's choices", "0 is the best measured choice."),
        "map": ("Latent map", "Near each other: alike to the router."),
        "plans": ("Plans with a check: score against cost", "The table holds the ends."),
    }
    for placed in values.fronts:
        goal = placed.front.goals[0]
        titles[f"front-{goal}"] = (
            f"{measure.capitalize()} against {goal}",
            "Every point of the router's line is a weight of the goal.",
        )
    return titles


def _specs(values: TaskValues) -> Iterator[tuple[str, Any]]:
    yield "summary", page_spec(plots.summary(values.evaluation))
    yield "mean", page_spec(plots.heat_map(values, "mean"))
    yield "chosen", page_spec(plots.heat_map(values, "chosen"))
    if values.reliability is not None:
        yield "reliability", page_spec(plots.reliability(values.reliability, scored=values.scored))
    for placed in values.fronts:
        yield f"front-{placed.front.goals[0]}", page_spec(placed.plot())
    if values.plan_front is not None:
        yield "plans", page_spec(values.plan_front.plot())
    shared = alt.NamedData("prompts")
    yield "regret", page_spec(regret_of(shared))
    if values.latent is not None:
        for colour in plots.COLOURS:
            name = "map" if colour == "group" else f"map-{colour}"
            yield name, page_spec(map_of(shared, values, colour))


def page_spec(chart: Any) -> dict[str, Any]:
    """Return a chart's specification; the page's own colours replace its configuration."""
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)
    return spec


def _rows(values: TaskValues) -> dict[str, Any]:
    """Return group, chosen expert and regret of the prompts, by column."""
    prompts = values.prompts
    rows = np.arange(len(prompts))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(8).permutation(rows)[:MOST_ROWS])
    return {
        "total": len(prompts),
        "group": prompts.group[rows].tolist(),
        "chosen": prompts.chosen[rows].tolist(),
        "regret": [number(float(regret)) for regret in prompts.regret[rows]],
        "ood": np.flatnonzero(prompts.ood[rows]).tolist(),
    }


def _map(values: TaskValues) -> dict[str, Any] | None:
    """Return the drawn prompts by column, each text once."""
    latent = values.latent
    if latent is None:
        return None
    rows = map_rows(values, latent)
    columns: dict[str, Any] = {
        name: [row[name] for row in rows]
        for name in ("x", "y", "regret", "prompt", "group_colour", "expert_colour")
    }
    columns["group"] = values.prompts.group[latent.rows].tolist()
    columns["chosen"] = values.prompts.chosen[latent.rows].tolist()
    columns["ood"] = values.prompts.ood[latent.rows].astype(int).tolist()
    columns["predicted"] = [
        [number(round(float(loss), 3)) for loss in latent.predicted[:, column]]
        for column, _ in _coloured(values)
    ]
    columns["group_names"] = short_names(values.groups)
    columns["expert_names"] = short_names(values.experts)
    return columns


def _coloured(values: TaskValues) -> list[tuple[int, str]]:
    """Return columns and names of the experts that are chosen most, `MOST_COLOURED` at most."""
    shares = values.evaluation.choices.chosen
    order = sorted(range(len(values.experts)), key=lambda c: -shares.get(values.experts[c], 0.0))
    return [(column, values.experts[column]) for column in order[:MOST_COLOURED]]


def island(data: Any) -> str:
    """Return JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate({ord(character): escape for character, escape in _UNSAFE.items()})


@functools.cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from vl-convert's own files."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("the bundle of vl-convert cannot stand in a script element")
    return script


def _own(name: str) -> str:
    folder = resources.files("tryage.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _visible(value: Any) -> Any:
    """Return what a template prints, with nothing hidden in plain text; markup stays."""
    return visible(value) if type(value) is str else value


@functools.cache
def template(name: str) -> Template:
    """Return a template of the package; what it prints is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tryage.report"),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
