"""Answers to a batch in the order in which an engine finds them, as those without a gap from the first on that a watch
hears."""

from psomerge.evals.engines.engine import Answers, Batch, Continuation, Watch


class Prefix:
    """The answers to a batch as an engine finds them, in any order, and those among the first that are without a
    gap."""

    def __init__(self, batch: Batch, watch: Watch | None = None) -> None:
        self._scored = len(batch.loglikelihood)
        self._answers: list[Continuation | str | None] = [None] * (self._scored + len(batch.generation))
        self._done = 0
        self._watch, self._stops = watch, list(watch.start()) if watch else []
        self.open = True
        """Whether the rest is wanted."""

    def put(self, place: int, answer: Continuation | str) -> None:
        """Notes the answer to the request at `place` of the batch, log-likelihoods first."""
        self._answers[place] = answer

    def go_on(self) -> bool:
        """Returns whether the rest is wanted, after asking the watch if it was to be asked by now; about a batch that
        is done nobody is asked."""
        while self._done < len(self._answers) and self._answers[self._done] is not None:
            self._done += 1
        passed = [stop for stop in self._stops if stop <= self._done]
        self._stops = self._stops[len(passed) :]
        if self._watch and passed and self._done < len(self._answers):
            self.open = self._watch.go_on(self.answers())
        return self.open

    def answers(self) -> Answers:
        """Returns the answers without a gap so far."""
        known = self._answers[: self._done]
        return Answers(tuple(known[: self._scored]), tuple(known[self._scored :]))  # pyright: ignore[reportArgumentType]
