"""The run's figures, as matplotlib Figures for MLflow and as SVG for the page.

Narrow (302 pt), so that text is as large as the page's on a phone. No pyplot, so nothing global and no window. Colours
are from Okabe and Ito's set for colour-blind readers; in the SVG they become CSS variables, so that a page can darken
them.
"""

import html
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from psomerge.evals.significance.intervals import Interval
from psomerge.tasks.report.summary import Row, Summary
from psomerge.tasks.report.wording import directions, plain, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1f2328", "#656d76", "#d0d7de", "#fefefe"
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b7f86"
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    GREY: "grey",
}
LINES = {
    "base": ((GREY, ":"),),
    "expert": ((VERMILLION, "--"),),
    "baseline": ((GREEN, "-."), (PURPLE, (0, (5, 1))), (GREEN, (0, (1, 1))), (PURPLE, "-.")),
}
WIDTH = 4.2
MANY = 8
"""Groups or languages beyond which they are drawn closer together."""
STYLE: dict[Any, Any] = {
    "font.size": 11.0,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "text.parse_math": False,
}


def fitness_figure(summary: Summary) -> "Figure":
    """Returns every particle's fitness by step, the best ever seen, and the baselines that were judged on the same
    items."""
    figure, axes = _figure(4.2, "fitness on optimisation items, points")
    _draw_particles(axes, summary)
    best = [(number, 100 * step.best) for number, step in enumerate(summary.history, 1) if step.best is not None]
    axes.plot(
        [x for x, _ in best],
        [y for _, y in best],
        color=BLUE,
        linewidth=2.5,
        drawstyle="steps-mid",
        label="best so far" + (f" {best[-1][1]:.1f}" if best else ""),
    )
    drawn = dict.fromkeys(LINES, 0)
    for row in _baselines(summary):
        colour, dashes = LINES[row.kind][drawn[row.kind] % len(LINES[row.kind])]
        drawn[row.kind] += 1
        fitness = row.fitness or 0.0
        axes.axhline(
            100 * fitness,
            color=colour,
            linestyle=dashes,
            linewidth=1.6,
            label=f"{_short(row.label, summary)} {points(fitness)}",
        )
    axes.set_xlim(0.5, len(summary.history) + 0.5)
    axes.locator_params(axis="x", integer=True, nbins=10)
    axes.set_xlabel("step")
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    _legend(figure, 2)
    return figure


def _draw_particles(axes: "Axes", summary: Summary) -> None:
    """Particles side by side in their order: equal scores stay apart. Stopped ones stand, small and hollow, at the most
    that they could have reached; failed ones on the floor, where no scale applies."""
    judged, idle, stopped, failed = [], [], [], []
    for number, step in enumerate(summary.history, 1):
        for index, particle in enumerate(step.particles):
            x = number + 0.5 * (index - (len(step.particles) - 1) / 2) / len(step.particles)
            if particle.bound is not None:
                stopped.append((x, 100 * particle.bound))
            elif particle.fitness is None:
                failed.append((x, 0.03))
            else:
                (judged if particle.judged else idle).append((x, 100 * particle.fitness))
    size = 5 if len(summary.history) <= 20 else 2.5
    for places, face, label, large in (
        (judged, BLUE, "a particle", size),
        (idle, PAPER, "… not moved", size),
        (stopped, "none", "… stopped, at most", 0.6 * size),
    ):
        if places:
            axes.plot(
                *zip(*places, strict=True),
                "o",
                markersize=large,
                markerfacecolor=face,
                markeredgecolor=BLUE,
                alpha=0.75,
                label=label,
            )
    if failed:
        axes.plot(
            *zip(*failed, strict=True),
            "x",
            color=INK,
            markersize=7,
            markeredgewidth=2,
            transform=axes.get_xaxis_transform(),
            label="failed, no score",
        )


def _baselines(summary: Summary) -> list[Row]:
    """Base, best expert and static merges with a fitness on optimisation items, highest first."""
    rows = [row for row in summary.rows if row.kind in ("base", "baseline") and row.fitness is not None]
    experts = [row for row in summary.rows if row.kind == "expert" and row.fitness is not None]
    rows += sorted(experts, key=lambda row: -(row.fitness or 0))[:1]
    return sorted(rows, key=lambda row: -(row.fitness or 0))


def _short(label: str, summary: Summary) -> str:
    """A label without its parameters in brackets, where that names one row only."""
    name = label.split(" (")[0]
    alone = sum(row.label.split(" (")[0] == name for row in summary.rows) == 1
    return plain(name if alone else label, 22)


def _legend(figure: "Figure", columns: int) -> None:
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure.legend(
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=10.5,
            labelcolor=INK,
            handlelength=1.8,
            columnspacing=1.0,
        )


def coefficients_figure(summary: Summary) -> "Figure":
    """Returns bars of the merged model's coefficients: one bar a direction, or with several groups one panel a
    direction.

    Raises:
        ValueError: the recipe's method has no coefficients.
    """
    rows = summary.recipe.get("coefficients") or []
    if summary.recipe.get("method") != "coefficients" or not rows or not rows[0]:
        raise ValueError(
            f"method {summary.recipe.get('method')!r} has no coefficients to draw; draw them only for `coefficients`"
        )
    names = [plain(name, 18) for name in directions(summary)]
    if len(rows) == 1:
        total = sum(rows[0])
        figure, axes = _figure(1.0 + 0.36 * len(names), f"coefficients, sum {total:.2f}")
        _bars(axes, list(rows[0]), names)
        return figure
    groups = (
        [plain(group, 18) for group in summary.groups]
        if len(summary.groups) == len(rows)
        else [f"group {number}" for number in range(1, len(rows) + 1)]
    )
    many = len(rows) > MANY
    figure, panels = _panels(len(names), 1.3 if many else 0.5 + 0.24 * len(rows))
    for direction, (axes, name) in enumerate(zip(panels, names, strict=True)):
        axes.set_title(name, loc="left", fontsize=11, color=INK, parse_math=False)
        values = [row[direction] for row in rows]
        if many:
            axes.bar(range(1, len(rows) + 1), values, color=[BLUE if value >= 0 else VERMILLION for value in values])
        else:
            _bars(axes, values, groups)
    if many:
        panels[-1].locator_params(axis="x", integer=True)
        panels[-1].set_xlabel("group, in the model's order")
    return figure


def _bars(axes: "Axes", values: list[float], names: list[str]) -> None:
    places = range(len(values))
    axes.barh(places, values, color=[BLUE if value >= 0 else VERMILLION for value in values], height=0.62)
    axes.axvline(0, color=MUTED, linewidth=1)
    for place, value in zip(places, values, strict=True):
        left = value < 0
        axes.annotate(
            f"{value:.2f}",
            (value, place),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            va="center",
            ha="right" if left else "left",
            color=INK,
        )
    axes.set_yticks(list(places), names, color=INK, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def languages_figure(summary: Summary) -> "Figure":
    """Returns each language's test score before (base, best expert) and after, with 95 % intervals."""
    return _before_after(
        summary, {row.label: dict(row.languages) for row in summary.rows}, "test score, points, 95 % interval"
    )


def benchmarks_figure(summary: Summary) -> "Figure":
    """Returns each benchmark's test score before (base, best expert) and after, with 95 % intervals."""
    return _before_after(
        summary, {row.label: dict(row.benchmarks) for row in summary.rows}, "test score, points, 95 % interval"
    )


def _before_after(summary: Summary, estimates: dict[str, dict[str, Interval]], title: str) -> "Figure":
    expert = summary.best_expert()
    shown = [(row.label, GREY, "s") for row in summary.rows if row.kind == "base"]
    shown += [(expert.label, VERMILLION, "D")] if expert else []
    shown += [(summary.result, BLUE, "o")] if summary.row(summary.result) else []
    names = list(dict.fromkeys(name for label, _, _ in shown for name in estimates[label]))
    figure, axes = _figure(1.5 + (0.32 if len(names) > MANY else 0.5) * len(names), title)
    for index, (label, colour, marker) in enumerate(shown):
        found = [(place, estimates[label][name]) for place, name in enumerate(names) if name in estimates[label]]
        means = [100 * e.mean for _, e in found]
        spread = [
            [max(0.0, 100 * (e.mean - e.low)) for _, e in found],
            [max(0.0, 100 * (e.high - e.mean)) for _, e in found],
        ]
        places = [place + 0.22 * (index - (len(shown) - 1) / 2) for place, _ in found]
        axes.errorbar(
            means,
            places,
            xerr=spread,
            fmt=marker,
            color=colour,
            markersize=6,
            linewidth=1.8,
            label=_short(label, summary),
        )
    axes.set_yticks(range(len(names)), [plain(name, 16) for name in names], color=INK, parse_math=False)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    if shown:
        _legend(figure, 3 if sum(len(_short(label, summary)) for label, _, _ in shown) < 36 else 1)
    return figure


def _figure(height: float, title: str) -> "tuple[Figure, Axes]":
    figure, panels = _panels(1, height)
    panels[0].set_title(title, loc="left", fontsize=11, color=INK)
    return figure, panels[0]


def _panels(number: int, height: float) -> "tuple[Figure, list[Axes]]":
    """An empty figure of `number` panels below one another, each `height` inches, in the project's style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, number * height), layout="constrained", facecolor="none")
        panels = list(figure.subplots(number, 1, sharex=True, squeeze=False)[:, 0])
        for axes in panels:
            axes.set_facecolor("none")
            axes.spines[["top", "right"]].set_visible(False)
            axes.spines[["left", "bottom"]].set_color(MUTED)
            axes.tick_params(colors=MUTED, labelcolor=INK)
            axes.xaxis.label.set_color(INK)
    return figure, panels


def svg(figure: "Figure", name: str) -> str:
    """Returns the figure as an `<svg>` element for a page: no size, no identifiers that clash, no dates, colours as CSS
    variables.

    Args:
        name: told to screen readers, and keeps the identifiers of several figures on one page apart.
    """
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # A script that matplotlib's font lacks only costs exact widths: the text is drawn by the browser's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = out.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    frame = box.group() if box else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {frame} role="img" '
        f'aria-label="{html.escape(name)}">{body}'
    )
