"""The leaderboard's figure: models with their intervals, and below them two models' differences by language. Style as
in `tasks.report.figures`."""

from typing import TYPE_CHECKING

from psomerge.tasks.report.figures import BLUE, GRID, INK, MUTED, PAPER, STYLE, VERMILLION, WIDTH
from psomerge.tasks.report.leaderboard import Leaderboard, Versus
from psomerge.tasks.report.wording import plain, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MANY = 24
"""Languages beyond which they are drawn closer together, in smaller letters."""
FRAME = 0.95
"""Inches of a panel beyond its rows: title, scale, its name."""


def leaderboard_figure(board: Leaderboard) -> "Figure":
    """Returns the figure: each model's mean with its 95 % interval; then, if there are two, the forest of their
    differences by language.

    A filled dot is a difference that is significant after correction for all languages, an empty one is noise.
    """
    import matplotlib
    from matplotlib.figure import Figure

    versus = board.versus
    languages = len(versus.languages) if versus else 0
    close = languages > MANY
    heights = [FRAME + 0.32 * len(board.lines)] + (
        [2 * FRAME + (0.15 if close else 0.28) * languages] if versus else []
    )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained", facecolor="none")
        # Parts of their own: names of models are longer than those of languages, and would push the forest aside.
        parts = list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
        _draw_models(_panel(parts[0], f"{plain(board.suite, 26)}: mean score, points"), board)
        if versus:
            title = f"{plain(versus.first, 32)}\nminus {plain(versus.second, 32)}, points"
            _draw_forest(_panel(parts[1], title), versus, 7.5 if close else 10.5)
            parts[1].legend(
                loc="outside lower center",
                ncols=3,
                frameon=False,
                fontsize=9.5,
                labelcolor=INK,
                handlelength=0.8,
                columnspacing=1.0,
            )
    return figure


def _draw_models(axes: "Axes", board: Leaderboard) -> None:
    means = [line.mean for line in board.lines]
    spread = [
        [max(0.0, 100 * (mean.mean - mean.low)) for mean in means],
        [max(0.0, 100 * (mean.high - mean.mean)) for mean in means],
    ]
    axes.errorbar(
        [100 * mean.mean for mean in means],
        range(len(means)),
        xerr=spread,
        fmt="o",
        color=BLUE,
        markersize=6,
        linewidth=1.8,
    )
    for place, mean in enumerate(means):
        axes.annotate(
            points(mean.mean),
            (100 * mean.high, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=INK,
        )
    axes.margins(x=0.2)
    names = [f"{plain(line.label, 22)}  {_ranks(line.ranks.best, line.ranks.worst)}" for line in board.lines]
    _rows(axes, names, 10.5)


def _draw_forest(axes: "Axes", versus: Versus, size: float) -> None:
    """Gains first. Scales stand above and below: the panel may be longer than a screen."""
    tested = sorted(versus.languages.items(), key=lambda entry: -entry[1].difference.mean)
    for verdict, colour, label in (
        ("better", BLUE, "better"),
        ("worse", VERMILLION, "worse"),
        ("no difference shown", MUTED, "noise"),
    ):
        found = [(place, one.difference) for place, (_, one) in enumerate(tested) if one.verdict == verdict]
        if not found:
            continue
        means = [100 * one.mean for _, one in found]
        spread = [
            [max(0.0, 100 * (one.mean - one.low)) for _, one in found],
            [max(0.0, 100 * (one.high - one.mean)) for _, one in found],
        ]
        face = PAPER if label == "noise" else colour
        axes.errorbar(
            means,
            [place for place, _ in found],
            xerr=spread,
            fmt="o",
            color=colour,
            markerfacecolor=face,
            markersize=size / 2,
            linewidth=size / 7,
            label=label,
        )
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    _rows(axes, [plain(name, 14) for name, _ in tested], size)
    axes.tick_params(axis="x", top=True, labeltop=True)


def _ranks(best: int, worst: int) -> str:
    return f"#{best}" if best == worst else f"#{best}–{worst}"


def _rows(axes: "Axes", names: list[str], size: float) -> None:
    """Names the rows, the first on top."""
    axes.set_yticks(range(len(names)), names, color=INK, fontsize=size, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=GRID, linewidth=0.7)


def _panel(part: "SubFigure", title: str) -> "Axes":
    part.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK, parse_math=False)
    axes = part.subplots()
    part.set_facecolor("none")
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    return axes
