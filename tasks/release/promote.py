"""Which version serves: `challenger` is the newest verified one, `champion` the best so far. Alone the test split
decides."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psomerge.errors import ArtefactError, EngineError, VerificationError
from psomerge.evals.harness import FailedBenchmark
from psomerge.evals.significance.intervals import Difference, paired
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.files.locking import exclusive
from psomerge.tasks.release import registry
from psomerge.tasks.release.registry import Version
from psomerge.tasks.search.table import Result, by_kind
from psomerge.tasks.tracking.store import Store

CHALLENGER, CHAMPION = "challenger", "champion"
SIGNIFICANT = 0.05
"""Two-sided p value below which a difference counts."""
Scores = Sequence[BenchmarkScore]


@dataclass(frozen=True)
class Promotion:
    """Whether a version became champion, and why."""

    promoted: bool
    reason: str

    @property
    def alias(self) -> str:
        """The highest that the version bears."""
        return CHAMPION if self.promoted else CHALLENGER


def contend(
    store: Store,
    version: Version,
    table: Sequence[Result],
    label: str,
    *,
    lacks: Callable[[Scores], Mapping[str, float]],
    judge: Callable[[Version], Scores],
) -> Promotion:
    """Returns what became of a verified version: challenger, and champion if it deserves to be by `decide`.

    Args:
        store: of the registry.
        version: that contends.
        table: of the run that made it, on the test items.
        label: of the version's model in the table.
        lacks: tells how far scores are below the suite's floors, by benchmark.
        judge: tells the scores of the champion that there is, on the same items.
    """
    champion = registry.bearer(store, version.name, CHAMPION)
    if champion is not None and champion.version == version.version:
        champion = None  # a run that was interrupted after the alias was given
    decision = _by_table(table, label, lacks, lambda: judge(champion) if champion else None)
    return promote(store, version, decision=decision, compared_with=champion)


def _by_table(
    table: Sequence[Result],
    label: str,
    lacks: Callable[[Scores], Mapping[str, float]],
    champion: Callable[[], Scores | None],
) -> Promotion:
    result, base = by_kind(table, "search").get(label), by_kind(table, "base").get("base")
    if result is None or base is None:
        failed = "the base" if result else "the model"
        return Promotion(False, f"{failed} could not be judged on the test items")
    experts = {one.label.removeprefix("expert "): one.test.scores for one in by_kind(table, "expert").values()}
    try:
        scores = champion()
    except (ArtefactError, EngineError, FailedBenchmark, VerificationError) as error:
        return Promotion(False, f"the champion could not be judged: {error}")
    own = result.test.scores
    return decide(own, champion=scores, base=base.test.scores, experts=experts, lacks=lacks(own))


def decide(
    candidate: Scores,
    *,
    champion: Scores | None,
    base: Scores,
    experts: Mapping[str, Scores],
    lacks: Mapping[str, float],
) -> Promotion:
    """Returns whether the candidate deserves to be champion, by paired tests on the items of the test split.

    It must keep every floor of the suite (`lacks`: by benchmark, how far it is below one; see
    `evals.suites.fitness.missing`) and beat the current champion; while there is none, it must beat the base and must
    not be significantly worse than the best expert.
    """
    if lacks:
        return Promotion(
            False, f"below the suite's floor on {', '.join(f'{name} by {lack:.4f}' for name, lack in lacks.items())}"
        )
    if champion is not None:
        difference = paired(candidate, champion)
        return Promotion(
            _beats(difference),
            f"{'beats' if _beats(difference) else 'does not beat'} the champion: {_words(difference)}",
        )
    difference = paired(candidate, base)
    if not _beats(difference):
        return Promotion(False, f"does not beat the base: {_words(difference)}")
    reason = f"no champion yet; beats the base: {_words(difference)}"
    if experts:
        # The expert that does best against the candidate; weights of benchmarks are in the paired mean.
        against = {name: paired(candidate, scores) for name, scores in experts.items()}
        best = min(against, key=lambda name: against[name].mean)
        if against[best].mean < 0 and against[best].p_value < SIGNIFICANT:
            return Promotion(False, f"worse than the expert {best}: {_words(against[best])}")
        reason += f"; not worse than the best expert {best}: {_words(against[best])}"
    return Promotion(True, reason)


def _beats(difference: Difference) -> bool:
    return difference.mean > 0 and difference.p_value < SIGNIFICANT


def _words(difference: Difference) -> str:
    return (
        f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}], p = {difference.p_value:.2g}, n = "
        f"{difference.n}"
    )


def promote(store: Store, version: Version, *, decision: Promotion, compared_with: Version | None) -> Promotion:
    """Returns what happened: the verified version becomes challenger, then champion if `decision` says so and the
    champion is still the one compared with.

    MLflow's aliases have no compare-and-set. Where the store is a local file, a lock beside it keeps other promoters
    out; elsewhere the alias is read again after writing, so that a lost race is at least told.
    """
    with _alone(store):
        registry.give_alias(store, version, CHALLENGER)
        current = registry.bearer(store, version.name, CHAMPION)
        if current and current.version == version.version:
            return Promotion(True, f"version {version.version} is champion already")
        if not decision.promoted:
            return decision
        if (current and current.version) != (compared_with and compared_with.version):
            now, then = current.version if current else "none", compared_with.version if compared_with else "none"
            return Promotion(
                False,
                f"the champion changed from version {then} to {now} during the comparison; it keeps the alias, this "
                "version stays challenger",
            )
        registry.give_alias(store, version, CHAMPION)
        after = registry.bearer(store, version.name, CHAMPION)
        if after is None or after.version != version.version:
            return Promotion(
                False,
                f"version {after.version if after else 'none'} was made champion at the same time; it keeps the "
                "alias, this version stays challenger",
            )
        return decision


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    if store.database is None:
        yield
        return
    with exclusive(store.database.with_suffix(".promote.lock")):
        yield
