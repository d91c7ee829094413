"""Draws the README's picture of a report: open7 on prompts that it has not seen.

Writes docs/report.png, and the sentence with its figures into README.md. Needs the benchmark data.

    python benchmarks/report_picture.py
"""

from __future__ import annotations

from pathlib import Path

from data import data_folder, fill_in

from tryage import Router, ScoreTable
from tryage.drawing.charts import alt
from tryage.report import plots
from tryage.report.values import TaskValues

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "report.png"
MARKS = ("<!-- report: begin -->", "<!-- report: end -->")


def main() -> None:
    folder = data_folder() / "routing"
    router = Router.from_pretrained("open7")
    table = ScoreTable.read(folder / "open7_test.jsonl.gz")
    train = ScoreTable.read(folder / "open7_train.jsonl.gz")
    (values,) = router.report(table, train=train).values.tasks
    latent = plots.latent_map(values).properties(
        width=360, height=300, title="Prompts as the router sees them"
    )
    rows = plots.summary(values.evaluation).properties(
        width=330, height=300, title="Mean score with 95 % intervals"
    )
    picture = alt.hconcat(latent, rows, spacing=30).resolve_scale(
        color="independent", shape="independent"
    )
    plots.write(picture.configure_view(stroke="#d0d7de"), PICTURE)
    fill_in(ROOT / "README.md", caption(values), MARKS)


def caption(values: TaskValues) -> str:
    """Return the figures of the picture as Markdown."""
    purity, silhouette = values.latent.separation
    drawn, prompts = len(values.latent.rows), len(values.prompts)
    low, high = (100 * end for end in purity.ci95)
    share = f"{100 * purity.value:.0f} % ({low:.0f} to {high:.0f} %; shuffled"
    width = (
        f"{silhouette.value:.2f} ({silhouette.ci95[0]:.2f} to {silhouette.ci95[1]:.2f}; shuffled"
    )
    return (
        "![Left: prompts of five benchmarks on a plane, each benchmark by itself. Right: mean "
        "score of the router and of reference rows, with intervals](docs/report.png)\n\n"
        f"Two of its plots, of `open7` on {prompts:,} prompts that it has not seen: it was never "
        f"told the benchmark, yet {share} {100 * purity.shuffled:.0f} %) of the prompts "
        f"lie in a cluster of its vectors that is mostly of their benchmark; silhouette {width} "
        f"{silhouette.shuffled:.2f}), on {drawn:,} of them."
    )


if __name__ == "__main__":
    main()
