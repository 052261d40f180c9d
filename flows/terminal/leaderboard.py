"""A leaderboard as text for the terminal: who scored what, what is significant and what is noise, then two models
language by language.

Colours and lines only where the stream is a terminal; else plain text of at most 100 columns.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from psomerge.evals.significance.comparisons import Contrast
from psomerge.evals.significance.intervals import Interval
from psomerge.flows.terminal.leaderboard_words import QUIET, by_fitness, explanation, headline, remainder, span
from psomerge.flows.terminal.table import COLUMNS, LABEL, fit
from psomerge.tasks.report.leaderboard import Leaderboard, Line
from psomerge.tasks.report.wording import count, difference, half_width, plain, points, probability

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SHOWN = 24
"""Languages up to which each has a line; of more, only the significant ones are printed, several a line."""
SIDE_BY_SIDE = 3


def show(board: Leaderboard, stream: TextIO) -> None:
    """Prints the leaderboard: a sentence, the table of models, and the two models of `board.versus` by benchmark and by
    language.

    Args:
        stream: usually stdout.
    """
    from rich.console import Console

    terminal = stream.isatty()
    console = Console(
        file=stream, width=None if terminal else COLUMNS, no_color=not terminal, highlight=False, legacy_windows=False
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"
    _say(console, headline(board), encoding, "bold")
    console.print()
    _put(console, models_table(board, encoding))
    for label, failure in board.failures.items():
        _say(console, f"{plain(label)}: failed: {plain(failure, 200)}", encoding)
    for line in explanation(board):
        _say(console, line, encoding, "dim")
    if board.versus is None:
        for noun, found in (("benchmark", board.lines[0].benchmarks), ("language", board.lines[0].languages)):
            if noun == "benchmark" or len(board.lines[0].languages) < len(board.lines[0].benchmarks):
                console.print()
                _put(console, scores_grid(found, noun, encoding))
        return
    apart = len(board.versus.benchmarks) > len(board.versus.languages)
    for noun, tested in (("benchmark", board.versus.benchmarks if apart else {}), ("language", board.versus.languages)):
        if len(tested) < 2:
            continue
        console.print()
        overall = _tested(board.versus.overall)[0]
        _say(
            console,
            f"{plain(board.versus.first, LABEL)} − {plain(board.versus.second, LABEL)} by {noun} (all: {overall})",
            encoding,
            "bold",
        )
        if len(tested) <= SHOWN:
            _put(console, breakdown_table(board, noun, encoding))
        elif any(one.verdict != QUIET for one in tested.values()):
            grids = [significant_grid(tested, columns, encoding) for columns in (SIDE_BY_SIDE, 2, 1)]
            _put(console, next((grid for grid in grids if _width(console, grid) <= console.width), grids[-1]))
        _say(console, remainder(tested, noun), encoding)


def models_table(board: Leaderboard, encoding: str = "utf-8") -> "Table":
    """Returns the rich table of models: open ranks, mean, fitness where it is another number, and the difference to the
    first."""
    fitness = by_fitness(board)
    table = _table()
    table.add_column("rank", no_wrap=True)
    table.add_column("model", min_width=12, max_width=LABEL, overflow="fold")
    for name in (
        *(["fitness"] if fitness else []),
        "mean",
        *(["vs best", "p", "verdict", "could\nshow"] if len(board.lines) > 1 else []),
    ):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for line in board.lines:
        cells = [_ranks(line), plain(line.label), *([points(line.fitness)] if fitness else []), _estimate(line.mean)]
        if len(board.lines) > 1:
            cells += _tested(line.against_best) if line.against_best else ["best", "", "", ""]
        _add(table, cells, encoding, "" if line.against_best else "bold")
    return table


def breakdown_table(board: Leaderboard, noun: str, encoding: str = "utf-8") -> "Table":
    """Returns the rich table of the two models by `noun` (`benchmark` or `language`), a line each, the significant ones
    first.

    Raises:
        ValueError: the leaderboard has one model only.
    """
    versus = board.versus
    if versus is None:
        raise ValueError(f"expected a leaderboard of two models or more, found {len(board.lines)}; compare two models")
    one, other = board.line(versus.first), board.line(versus.second)
    means = (one.benchmarks, other.benchmarks) if noun == "benchmark" else (one.languages, other.languages)
    table = _table()
    table.add_column(noun, min_width=8, max_width=LABEL, overflow="fold")
    table.add_column("items", justify="right", no_wrap=True)
    for label in (versus.first, versus.second):
        table.add_column(_text(plain(label, 10), encoding), justify="right", no_wrap=True)
    for name in ("difference", "p", "verdict", "could\nshow"):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    tested = versus.benchmarks if noun == "benchmark" else versus.languages
    for name, found in sorted(tested.items(), key=_order):
        cells = [plain(name), count(found.difference.n), *(points(mean[name].mean) for mean in means), *_tested(found)]
        _add(table, cells, encoding, _style(found))
    return table


def scores_grid(found: Mapping[str, Interval], noun: str, encoding: str = "utf-8") -> "Table":
    """Returns the rich table of one model's scores, the lowest first, read down its columns: name, mean, items."""
    names = sorted(found.items(), key=lambda pair: pair[1].mean)
    columns = 1 if len(names) < SHOWN else SIDE_BY_SIDE
    table, rows = _table(), -(-len(names) // columns)
    for _ in range(columns):
        table.add_column(noun, max_width=LABEL, overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("items", justify="right", no_wrap=True)
    for start in range(rows):
        cells: list[str] = []
        for name, one in names[start::rows]:
            cells += [plain(name, LABEL), _estimate(one), count(one.n)]
        _add(table, cells + [""] * (3 * columns - len(cells)), encoding, "")
    return table


def significant_grid(tested: Mapping[str, Contrast], columns: int = SIDE_BY_SIDE, encoding: str = "utf-8") -> "Table":
    """Returns the rich table of the significant ones alone, gains first, read down its `columns` columns: name,
    difference, p."""
    names = [(name, found) for name, found in sorted(tested.items(), key=_order) if found.verdict != QUIET]
    table = _table()
    rows = -(-len(names) // columns)
    for _ in range(min(columns, len(names))):
        table.add_column("", max_width=14, overflow="fold")
        table.add_column("difference", justify="right", no_wrap=True)
        table.add_column("p", justify="right", no_wrap=True)
    for start in range(rows):
        cells: list[Text] = []
        for name, found in names[start::rows]:
            cells += [_text(cell, encoding, _style(found)) for cell in (plain(name, 14), *_tested(found)[:2])]
        table.add_row(*cells)
    return table


def _order(entry: tuple[str, Contrast]) -> tuple[bool, float]:
    return entry[1].verdict == QUIET, -entry[1].difference.mean


def _ranks(line: Line) -> str:
    return span([line.ranks.best, line.ranks.worst])


def _estimate(estimate: Interval) -> str:
    return f"{points(estimate.mean)}±{half_width(estimate):.1f}"


def _tested(tested: Contrast) -> list[str]:
    """Difference, corrected p, verdict, and what could have been shown."""
    found = tested.difference
    verdict = "noise" if tested.verdict == QUIET else "significant"
    could = "none" if tested.detectable_corrected is None else points(tested.detectable_corrected)
    return [
        f"{difference(found.mean)}±{50 * (found.high - found.low):.1f}",
        probability(tested.corrected),
        verdict,
        could,
    ]


def _style(tested: Contrast) -> str:
    return {"better": "bold green", "worse": "bold red"}.get(tested.verdict, "dim")


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)


def _text(text: str, encoding: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(fit(text, encoding), style=style)


def _add(table: "Table", cells: Sequence[str], encoding: str, style: str) -> None:
    table.add_row(*(_text(cell, encoding) for cell in cells), style=style)


def _width(console: "Console", table: "Table") -> int:
    return console.measure(table, options=console.options.update(width=10_000)).maximum


def _put(console: "Console", table: "Table") -> None:
    """Prints the table, with narrower gaps where it would have to fold names otherwise."""
    if _width(console, table) > console.width:
        table.padding = 0
    console.print(table)


def _say(console: "Console", text: str, encoding: str, style: str = "") -> None:
    console.print(_text(text, encoding, style))
