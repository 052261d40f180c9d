"""What is being done, how far it is and how long it will take, on stderr: a bar on a terminal, a line every few seconds
elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import cast

from psomerge.tasks.report.wording import duration

EVERY = 5.0
"""Seconds between two lines where stderr is no terminal."""


class Progress:
    """Progress of one phase at a time. Use as a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar = None
        self._phase, self._start, self._first, self._said = "", 0.0, 0.0, 0.0
        if sys.stderr.isatty() and not quiet:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            # It goes when the work is done: what stays on the terminal is the result.
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=1.0, visible=False)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        if self._bar:
            self._bar.console.print(text, highlight=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def show(self, phase: str, share: float, note: str = "", *, found: bool = False) -> None:
        """Shows that `share` in [0, 1] of a phase is done; a new phase starts its own clock.

        Args:
            phase: what is done.
            share: of it.
            note: more about it.
            found: whether what was added was done earlier: then it says nothing of the time that the rest takes.
        """
        if self._quiet:
            return
        now = time.monotonic()
        if begins := phase != self._phase:
            self._phase, self._said = phase, now - EVERY
        if begins or found:
            self._start, self._first = now, share
            if self._bar:  # a bar that was full once stands still for ever
                self._bar.reset(self._task, completed=cast(int, share))  # rich takes any number
        if self._bar:
            self._bar.update(self._task, description=f"{phase} {note}".strip(), completed=share, visible=share < 1)
            return
        if now - self._said < EVERY and share < 1:
            return
        self._said, gained = now, share - self._first
        left = (
            f", about {duration((now - self._start) / gained * (1 - share))} left" if gained > 0 and share < 1 else ""
        )
        print(f"{phase} {share:.0%}{left} {note}".rstrip(), file=sys.stderr, flush=True)

    def fetching(self, what: str, share: float) -> None:
        """Shows that `share` of what `tasks.sources.fetch` is doing is done."""
        self.show("fetching", share, f"({what})")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Says what begins, for a phase whose share is not known, and how long it took."""
        start = time.monotonic()
        self.show(name, 0.0)
        yield
        self.say(f"{name}: {duration(time.monotonic() - start)}")
