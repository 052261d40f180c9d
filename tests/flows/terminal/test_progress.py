"""How far the work is, as a terminal shows it and as a log keeps it."""

import io

import pytest

from psomerge.flows.terminal import progress as module
from psomerge.flows.terminal.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stands in for the clock of both, this program's and the bar's."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def terminal(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, clock: Clock | None = None) -> Progress:
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    progress = Progress()
    if clock and progress._bar:
        progress._bar.get_time = progress._bar.tasks[0]._get_time = clock
    return progress


def shown(progress: Progress) -> tuple[float, float | None, float | None]:
    """Percentage, seconds that went by, seconds left, as the columns of the bar get them."""
    assert progress._bar is not None
    task = progress._bar.tasks[0]
    return round(task.percentage), task.elapsed, task.time_remaining


def test_a_phase_after_a_full_one_has_a_clock_that_goes_on(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, Terminal(), clock) as progress:
        progress.show("training", 0.0)
        clock.now += 60
        progress.show("training", 1.0)
        clock.now += 1
        progress.show("judging", 0.0)
        for step in range(1, 4):
            clock.now += 10
            progress.show("judging", step / 10)
        assert shown(progress) == (30, 30, 70)


def test_what_was_found_is_no_work_and_says_nothing_of_the_time_left(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch, Terminal(), clock) as progress:
        for found in range(1, 6):
            progress.show("judging", found / 10, found=True)
        assert shown(progress) == (50, 0, None)
        for made in (6, 7, 8):
            clock.now += 20
            progress.show("judging", made / 10)
        assert shown(progress) == (80, 60, 40)


def test_in_a_log_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    progress = terminal(monkeypatch, stream)
    for found in range(1, 6):
        progress.show("judging", found / 10, found=True)
    clock.now += 20
    progress.show("judging", 0.6)
    assert stream.getvalue().splitlines() == ["judging 10%", "judging 60%, about 1 min 20 s left"]


def test_the_bar_is_gone_when_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    with terminal(monkeypatch, stream) as progress:
        progress.show("judging", 0.5)
        progress.say("a line that stays")
    text = stream.getvalue()
    assert "a line that stays" in text
    assert text.rstrip().endswith("\x1b[2K")  # the row is erased
