"""What a run tells while it goes on: how far it is, and what its parts cost."""

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from psomerge.evals.suites.scores import Judgement
from psomerge.flows.terminal.progress import Progress
from psomerge.tasks.report.summarise import Costs
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.inputs import Inputs
from psomerge.tasks.step import Bar, check_cancelled

CANCELLED_S = 1.0
"""Judgements of tiny models take less than asking whether the run was cancelled."""


class Monitor:
    """Counts a run's judgements and seconds, and shows them on stderr and on the flow's Prefect page."""

    def __init__(self, progress: Progress, inputs: Inputs, fetched: float) -> None:
        """Begins to count.

        Args:
            progress: to show it on.
            inputs: of the run.
            fetched: seconds that fetching the models took.
        """
        self.progress, self._begin, self._expected = progress, monotonic() - fetched, inputs.judgements
        self._steps = {one.name: one.steps for one in inputs.searches}
        self._bar: Bar | None = None
        self._judgements, self._best = 0, -math.inf
        self.seconds: dict[str, float] = {"fetch": fetched}
        """Wall seconds by phase; judgements' own phases are added up as they are made or found."""
        self.peak_bytes = 0
        """Resident memory of the engine's process."""

    def costs(self) -> Costs:
        """Returns what fetching, and the run since it was opened, took so far."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Costs(self.seconds, monotonic() - self._begin, engine_bytes=self.peak_bytes, main_bytes=own)

    def begin_judgements(self) -> None:
        """Puts a bar on the flow's Prefect page."""
        self._bar = Bar("judgements", "judgements made, of all that the run may ask for")

    def judged(self, label: Label, judgement: Judgement, made: bool) -> None:
        """Adds a judgement's seconds up and shows how far the run is. Raises CancelledError where it goes no further.

        Args:
            label: what it is for.
            judgement: the judgement.
            made: whether it was made now, not found in the journal.
        """
        self._judgements += 1
        for phase, seconds in (judgement.seconds or {}).items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        self.peak_bytes = max(self.peak_bytes, judgement.peak_bytes)
        place = label.phase
        if label.step is not None:
            place += f" step {label.step + 1} of {self._steps[label.phase]}"
            self._best = max(self._best, -math.inf if judgement.fitness is None else judgement.fitness)
        share = min(1.0, self._judgements / self._expected)
        with self.time("bookkeeping"):
            best = "" if self._best == -math.inf else f", best fitness {self._best:.3f}"
            note = f"({self._judgements} of at most {self._expected}: {place}{best})"
            self.progress.show("judging", share, note, found=not made)
            if self._bar:
                self._bar.show(share)
            check_cancelled(every_s=CANCELLED_S)

    def say(self, text: str) -> None:
        """Says a line on stderr and on the flow's Prefect page."""
        from prefect import get_run_logger

        self.progress.say(text)
        get_run_logger().info(text)

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Adds the wall time of a block to a phase."""
        start = monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + monotonic() - start
