"""The result of a run as text for the terminal: who scored what, then what to do next.

Colours and lines only where the stream is a terminal; else plain text of at most 100 columns.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from psomerge.evals.significance.intervals import Interval
from psomerge.tasks.report.summary import Row, Summary
from psomerge.tasks.report.wording import best_cells, count, half_width, plain, points, verdict

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

COLUMNS = 100
LABEL = 28
EXPLANATION = "points of 100 ± half the 95 % interval; * best of its column; tries: judgements to find or tune it"


def show(summary: Summary, next_steps: Sequence[str], stream: TextIO) -> None:
    """Prints verdict, table and what to do next.

    Args:
        next_steps: lines as `flows` words them, such as commands; printed as they are, never cut.
        stream: usually stdout.
    """
    from rich.console import Console
    from rich.text import Text

    terminal = stream.isatty()
    console = Console(
        file=stream, width=None if terminal else COLUMNS, no_color=not terminal, highlight=False, legacy_windows=False
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"
    names = list(dict.fromkeys(name for row in summary.rows for name in row.benchmarks))
    console.print(Text(fit(plain(verdict(summary), 2000), encoding), style="bold"))
    console.print()
    table = result_table(summary, names, encoding)
    if console.measure(table, options=console.options.update(width=10_000)).minimum > console.width:
        # Too many benchmarks, or a narrow window: a table that wraps cannot be read.
        table = result_table(summary, [], encoding)
        console.print(table)
        console.print(Text(f"{len(names)} benchmarks: see the report for each"))
    else:
        console.print(table)
    console.print(Text(fit(EXPLANATION, encoding), style="dim"))
    if next_steps:
        console.print()
        console.print(Text("What to do next", style="bold"))
    for line in next_steps:
        console.print(Text(fit(f"  {plain(line, 2000)}", encoding)), soft_wrap=True)


def result_table(summary: Summary, names: Sequence[str], encoding: str = "utf-8") -> "Table":
    """Returns the rich table: a line per model, columns for the mean, the named benchmarks and the judgements spent;
    last, the number of items."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    best = best_cells(summary)
    lines = box.SIMPLE_HEAD if fit("─", encoding) == "─" else None
    table = Table(box=lines, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("model", min_width=LABEL - 8, max_width=LABEL, overflow="fold")
    table.add_column("mean", justify="right", no_wrap=True)
    for name in names:
        # "pick-so" over two lines keeps the column as narrow as its numbers.
        table.add_column(Text(fit(plain(name, 14).replace("-", "\n", 1), encoding)), justify="right", no_wrap=True)
    table.add_column("tries", justify="right", no_wrap=True)
    for row in summary.rows:
        style = "bold" if row.label == summary.result else ""
        cells = [
            _cell(row.mean, row, best.get(""), 1),
            *(_cell(row.benchmarks.get(name), row, best.get(name), 0) for name in names),
        ]
        table.add_row(
            Text(fit(plain(row.label), encoding)),
            *(_marked(fit(text, encoding)) for text in cells),
            str(row.judgements),
            style=style,
        )
    items = _items(summary.rows)
    table.add_section()
    table.add_row(
        "test items", *(count(items[name]) if name in items else "" for name in ["", *names]), "", style="dim"
    )
    failures = [row for row in summary.rows if row.failure is not None]
    if failures:
        table.caption = Text(
            "\n".join(
                fit(f"{plain(row.label)}: failed: {plain(row.failure or '', 200)}", encoding) for row in failures
            ),
            justify="left",
        )
    return table


def _cell(estimate: Interval | None, row: Row, best: float | None, digits: int) -> str:
    if estimate is None:
        return "failed" if row.failure is not None and digits else "-"
    return f"{points(estimate.mean, digits)}±{half_width(estimate):.{digits}f}{'*' if estimate.mean == best else ' '}"


def _marked(text: str) -> "Text":
    from rich.text import Text

    return Text(text, style="bold green" if text.endswith("*") else "")


def _items(rows: Sequence[Row]) -> Mapping[str, int]:
    """Items by benchmark, and of the mean under the key `""`."""
    return {
        name: estimate.n
        for row in reversed(rows)
        for name, estimate in [*row.benchmarks.items(), *([("", row.mean)] if row.mean else [])]
    }


def fit(text: str, encoding: str) -> str:
    """The text as the stream can write it: `±` and dashes spelled in ASCII where the encoding lacks them."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for letter, ascii_letters in (("±", "+-"), ("–", "-"), ("−", "-"), ("…", "..."), ("·", "/")):
            text = text.replace(letter, ascii_letters)
        return text.encode(encoding, "replace").decode(encoding)
    return text
