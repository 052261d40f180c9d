"""A run's report: one HTML page that needs nothing but itself. What it says comes from a
`tasks.report.summary.Summary`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psomerge.evals.significance.intervals import Interval
from psomerge.files.durable import write_atomic, writing
from psomerge.tasks.report import figures, wording
from psomerge.tasks.report.summary import Row, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERHEAD = ("merge", "load", "reset", "canary")
"""Phases that a judgement spends beyond pure scoring."""


@dataclass(frozen=True)
class Cell:
    """One score in the table as the page prints it."""

    score: str
    interval: str
    best: bool


@dataclass(frozen=True)
class TableLine:
    """One model in the table; `cells` has the mean first, None where there is no score."""

    row: Row
    cells: tuple[Cell | None, ...]
    coefficients: str
    result: bool


def render(summary: Summary) -> str:
    """Returns the page. Equal summaries give equal text; every name in it is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("psomerge.tasks.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        summary=summary,
        say=wording,
        verdict=wording.verdict(summary),
        benchmarks=benchmarks(summary),
        lines=table(summary),
        pictures=pictures(summary),
        phases=phases(summary),
        overhead=overhead(summary),
        saved=wording.saved(summary),
        failures=failures(summary),
        recipe=json.dumps(dict(summary.recipe), indent=2, ensure_ascii=False),
    )


def write(summary: Summary, folder: Path) -> Path:
    """Writes `index.html` into the folder, whole or not at all, and returns its path.

    Raises:
        SpaceError: the folder cannot be made or written.
    """
    page = folder / "index.html"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(page, render(summary).encode())
    return page


def benchmarks(summary: Summary) -> dict[str, int]:
    """Returns the benchmarks of all rows in order, with the number of test items of each."""
    return {name: estimate.n for row in reversed(summary.rows) for name, estimate in row.benchmarks.items()}


def table(summary: Summary) -> list[TableLine]:
    """Returns the lines of the result table: mean, then each benchmark, the best of each column marked."""
    best = wording.best_cells(summary)
    names = list(benchmarks(summary))
    lines = []
    for row in summary.rows:
        cells = [
            _cell(row.mean, best.get(""), 1),
            *(_cell(row.benchmarks.get(name), best.get(name), 0) for name in names),
        ]
        lines.append(TableLine(row, tuple(cells), _coefficients(row, summary), row.label == summary.result))
    return lines


def _cell(estimate: Interval | None, best: float | None, digits: int) -> Cell | None:
    if estimate is None:
        return None
    return Cell(wording.points(estimate.mean, digits), wording.interval(estimate), estimate.mean == best)


def _coefficients(row: Row, summary: Summary) -> str:
    """`so 0.61 · tk 0.55`, without those that round to 0; of several groups only how many: the figure and the recipe
    have them."""
    if len(row.coefficients) > 1:
        return f"{len(row.coefficients)} groups"
    names = [model.name for model in summary.provenance.experts]
    names += [f"{name} (DARE)" for name in names]
    values = [pair for coefficients in row.coefficients for pair in zip(names, coefficients, strict=False)]
    return " · ".join(f"{name}\N{NO-BREAK SPACE}{value:.2f}" for name, value in values if abs(value) >= 0.005)


def pictures(summary: Summary) -> list[dict[str, Any]]:
    """Returns the figures that the run has data for, each with heading, SVG and a sentence that tells how to read
    it."""
    from markupsafe import Markup

    chosen: list[tuple[str, Figure, str]] = []
    if summary.history:
        told = (
            "A dot is a particle, a line a baseline. Selection looked only at these items; the table above has the "
            "test items."
        )
        if any(particle.bound is not None for step in summary.history for particle in step.particles):
            told += " A small circle is a particle that was judged no further, at the most that it could have reached."
        chosen.append(("Fitness by step", figures.fitness_figure(summary), told))
    if summary.recipe.get("method") == "coefficients":
        told = (
            "How much of each expert's difference from the base is in the merged model. A plain average of n experts "
            "has 1/n each, sum 1."
        )
        chosen.append(("Coefficients of the merged model", figures.coefficients_figure(summary), told))
    scored = [row for row in summary.rows if row.mean is not None]
    if any(row.languages for row in scored):
        chosen.append(
            (
                "Languages, before and after",
                figures.languages_figure(summary),
                "Intervals that overlap do not settle a difference: see the paired tests.",
            )
        )
    # With one benchmark a language the two pictures would be one.
    if any(len(row.benchmarks) > len(row.languages) for row in scored):
        chosen.append(
            ("Benchmarks, before and after", figures.benchmarks_figure(summary), "The same models on each benchmark.")
        )
    return [
        {"heading": heading, "svg": Markup(figures.svg(figure, heading)), "told": told}
        for heading, figure, told in chosen
    ]


def phases(summary: Summary) -> list[dict[str, Any]]:
    """Returns the seconds by phase and what the wall time holds beyond them, each with its length in percent of the
    longest."""
    seconds = dict(summary.seconds)
    rest = summary.wall_seconds - sum(seconds.values())
    if rest > 0.01 * summary.wall_seconds:
        seconds["everything else"] = rest
    longest = max(seconds.values(), default=0.0)
    return [
        {"name": name, "seconds": value, "length": 100 * value / longest if longest else 0.0}
        for name, value in seconds.items()
    ]


def overhead(summary: Summary) -> float | None:
    """Returns what a judgement costs beyond scoring (merge, load, reset, canary), in percent of scoring, or None if not
    measured."""
    score = summary.seconds.get("score", 0.0)
    return 100 * sum(summary.seconds.get(name, 0.0) for name in OVERHEAD) / score if score else None


def failures(summary: Summary) -> Sequence[tuple[str, str]]:
    """Returns each judgement that failed: which one, and why."""
    search = [
        (f"step {number}, particle {index}", particle.failure)
        for number, step in enumerate(summary.history, 1)
        for index, particle in enumerate(step.particles)
        if particle.failure is not None
    ]
    return search + [(row.label, row.failure) for row in summary.rows if row.failure is not None]
