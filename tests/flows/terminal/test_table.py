"""The terminal's table: every number, within 100 columns, plain where it is piped."""

import io
import re
from dataclasses import replace

import pytest

from made.summaries import ITEMS, SCORES, estimate, example
from psomerge.flows.terminal.table import show
from psomerge.tasks.report.summary import Summary


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(summary: Summary, next_steps: tuple[str, ...] = ()) -> str:
    stream = io.StringIO()
    show(summary, next_steps, stream)
    return stream.getvalue()


def test_seven_benchmarks_fit_into_100_columns() -> None:
    assert max(len(line) for line in printed(example()).splitlines()) <= 100


def test_every_score_has_its_interval_and_the_best_its_mark() -> None:
    lines = printed(example()).splitlines()
    for label, scores in SCORES.items():
        line = next(line for line in lines if line.strip().startswith(label))
        assert re.findall(r"(\d+)±\d+\*?(?= )", line.split("±", 1)[1]) == [str(score) for score in scores]
    # 1.96 * sqrt(.5786 * .4214 / 1105) = .0291 and 1.96 * sqrt(.64 * .36 / 141) = .079.
    assert "57.9±2.9*" in next(line for line in lines if "PSO star" in line)
    assert " 64±8 " in next(line for line in lines if "PSO star" in line)


def test_the_number_of_items_of_each_column_is_given() -> None:
    line = next(
        line
        for line in printed(example()).splitlines()
        if "test items" in line and "1,105" in line and "merged" not in line
    )
    assert line.split() == ["test", "items", "1,105", *(str(n) for n in ITEMS)]


def test_the_verdict_comes_first_and_what_to_do_next_last() -> None:
    lines = printed(example(), ("psomerge ui", "vllm serve " + "x" * 150)).splitlines()
    assert lines[0].startswith("The merged model scores 57.9")
    assert lines[-3:] == ["What to do next", "  psomerge ui", "  vllm serve " + "x" * 150]


def test_a_pipe_gets_no_escape_codes() -> None:
    assert "\x1b" not in printed(example())


def test_a_terminal_gets_the_best_in_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    stream = Terminal()
    show(example(), (), stream)
    assert "\x1b[1;32m57.9±2.9*" in stream.getvalue()


def test_markup_and_control_characters_in_names_are_only_text() -> None:
    rows = tuple(replace(row, label="[red]x[/red]\x1b[2J") if row.label == "base" else row for row in example().rows)
    text = printed(replace(example(), rows=rows))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_a_stream_without_unicode_gets_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(example(), ("psomerge ui",), stream)
    stream.seek(0)
    text = stream.read()
    assert "57.9+-2.9*" in text
    assert "55-61" in text


def test_a_failed_model_is_said_to_have_failed() -> None:
    rows = tuple(
        replace(r, mean=None, benchmarks={}, languages={}, failure="engine died twice") if r.label == "PSO paper" else r
        for r in example().rows
    )
    text = printed(replace(example(), rows=rows))
    assert "PSO paper: failed: engine died twice" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("PSO paper "))
    assert line.split()[2:] == ["failed", *["-"] * 7, "45"]


def test_more_benchmarks_than_fit_leave_the_mean_and_a_word() -> None:
    many = {f"belebele-{number:03d}": estimate(0.5, 100) for number in range(122)}
    text = printed(replace(example(), rows=tuple(replace(row, benchmarks=many) for row in example().rows)))
    assert "122 benchmarks: see the report for each" in text
    assert "57.9±2.9*" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_run_without_rows_still_prints() -> None:
    assert "no score on test items" in printed(replace(example(), rows=(), registration=None))
