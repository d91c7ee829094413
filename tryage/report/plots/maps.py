"""Plots of prompts: the latent map."""

from __future__ import annotations

from typing import Any

import numpy as np

from tryage.drawing.charts import (
    OTHER,
    PALETTE,
    SHAPES,
    Chart,
    alt,
    inline,
    number,
)
from tryage.drawing.names import short_names
from tryage.errors import OptionError, did_you_mean
from tryage.report.values import LatentMap, TaskValues

COLOURS = ("group", "expert", "predicted")
"""What a map may be coloured by."""

_OTHER_COLOUR = "#999999"


def latent_map(values: TaskValues, colour: str = "group", expert: str | None = None) -> Chart:
    """Draw the latent map.

    Args:
        values: of one task.
        colour: "group"; "expert", the chosen one; or "predicted", the predicted loss.
        expert: whose predicted loss; by default the expert that is chosen most.

    Raises:
        OptionError: there is no map, no such colouring or no such expert.
    """
    latent = values.latent
    if latent is None:
        raise OptionError(f"there is no map: {values.missing.get('map', 'nothing to draw')}")
    if colour not in COLOURS:
        raise OptionError(f"colour {colour!r}: it is one of {', '.join(COLOURS)}")
    column = _column(values, expert)
    rows = [
        row | {"predicted": number(float(latent.predicted[place, column]))}
        for place, row in enumerate(map_rows(values, latent))
    ]
    return map_of(inline(rows), values, colour)


def map_rows(values: TaskValues, latent: LatentMap) -> list[dict[str, Any]]:
    """Return the drawn prompts: coordinates, group, chosen expert, beginning, regret."""
    groups, names = short_names(values.groups), [*short_names(values.experts), "nobody"]
    group_names = _named(groups, values.prompts.group)
    expert_names = _named(names, values.prompts.chosen)
    prompts = values.prompts
    rows = []
    for place, row in enumerate(latent.rows.tolist()):
        group, chosen = groups[prompts.group[row]], names[prompts.chosen[row]]
        rows.append(
            {
                "x": number(float(latent.places[place, 0])),
                "y": number(float(latent.places[place, 1])),
                "group": group,
                "expert": chosen,
                "group_colour": group if group in group_names else OTHER,
                "expert_colour": chosen if chosen in expert_names else OTHER,
                "regret": number(float(prompts.regret[row])),
                "prompt": "" if prompts.beginning is None else prompts.beginning[row],
            }
        )
    return rows


def map_of(data: Chart, values: TaskValues, colour: str) -> Chart:
    """Draw a map from data with the fields of `map_rows`, and `predicted`."""
    axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False, title=None)
    chart = alt.Chart(data).mark_point(filled=True, size=26, opacity=0.75)
    tooltip = [
        alt.Tooltip("prompt:N"),
        alt.Tooltip("group:N"),
        alt.Tooltip("expert:N", title="chosen"),
        alt.Tooltip("regret:Q", format=".3f"),
    ]
    encoded = {
        "x": alt.X("x:Q", axis=axis, scale=alt.Scale(zero=False)),
        "y": alt.Y("y:Q", axis=axis, scale=alt.Scale(zero=False)),
    }
    if colour == "predicted":
        tooltip.append(alt.Tooltip("predicted:Q", title="predicted loss", format=".3f"))
        encoded["color"] = alt.Color(
            "predicted:Q",
            title="predicted loss",
            scale=alt.Scale(scheme="cividis"),
            legend=alt.Legend(orient="top", gradientLength=160),
        )
    else:
        shown = _legend(values, colour)
        palette = [_OTHER_COLOUR if name == OTHER else PALETTE[i] for i, name in enumerate(shown)]
        shapes = ["circle" if name == OTHER else SHAPES[i] for i, name in enumerate(shown)]
        title = "group" if colour == "group" else "chosen expert"
        legend = alt.Legend(orient="top", columns=4, labelLimit=200, symbolSize=80)
        encoded["color"] = alt.Color(
            f"{colour}_colour:N",
            title=title,
            scale=alt.Scale(domain=shown, range=palette),
            legend=legend,
        )
        encoded["shape"] = alt.Shape(
            f"{colour}_colour:N",
            title=title,
            scale=alt.Scale(domain=shown, range=shapes),
            legend=legend,
        )
    return chart.encode(**encoded, tooltip=tooltip).properties(
        width=640,
        height=460,
        description="Prompts as the router sees them, in two dimensions: near each other where "
        "they look alike to it.",
    )


def _legend(values: TaskValues, colour: str) -> list[str]:
    names = short_names(values.groups)
    columns = values.prompts.group
    if colour == "expert":
        names, columns = [*short_names(values.experts), "nobody"], values.prompts.chosen
    shown = _named(names, columns)
    everything = {names[column] for column in np.unique(columns).tolist()}
    return shown if everything <= set(shown) else [*shown, OTHER]


def _named(names: list[str], columns: Any) -> list[str]:
    """Return the names with a colour of their own: the most frequent, first first."""
    counts = np.bincount(np.where(columns < 0, len(names) - 1, columns), minlength=len(names))
    most = sorted(range(len(names)), key=lambda column: -counts[column])
    present = [column for column in most if counts[column]]
    if len(present) > len(PALETTE):
        present = present[: len(PALETTE) - 1]
    return [names[column] for column in present]


def _column(values: TaskValues, expert: str | None) -> int:
    if expert is None:
        chosen = values.prompts.chosen
        return int(np.bincount(chosen[chosen >= 0], minlength=len(values.experts)).argmax())
    if expert not in values.experts:
        raise OptionError(f"there is no expert {expert!r}." + did_you_mean(expert, values.experts))
    return values.experts.index(expert)
