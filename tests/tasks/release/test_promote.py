"""Who becomes champion: decided on paired items by hand-made scores, done in a real registry."""

import pytest

from doubles.local_mlflow import local_store, published
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.tasks.release import registry
from psomerge.tasks.release.promote import Promotion, decide, promote
from psomerge.tasks.tracking import run as track

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]
YES, NO = Promotion(True, "better"), Promotion(False, "worse")


def right(count):
    """40 items of which the first `count` are right: two of these differ in |a - b| items, all in one direction."""
    names = tuple(str(n) for n in range(40))
    return (BenchmarkScore("weekdays", "de", "acc", 1.0, names, names, tuple(float(n < count) for n in range(40))),)


# McNemar's exact test with k items in one direction has p = 2 / 2^k: 0.03 for 6, 0.06 for 5.
@pytest.mark.parametrize(
    ("candidate", "champion", "base", "experts", "promoted", "reason"),
    [
        (26, 20, 10, {}, True, "beats the champion: +0.1500"),
        (25, 20, 10, {}, False, "does not beat the champion: +0.1250"),
        (14, 20, 10, {}, False, "does not beat the champion: -0.1500"),
        (26, None, 20, {}, True, "no champion yet; beats the base: +0.1500"),
        (25, None, 20, {}, False, "does not beat the base: +0.1250"),
        (26, None, 10, {"de": 31, "fr": 5}, True, "not worse than the best expert de: -0.1250"),
        (26, None, 10, {"fr": 5, "de": 32}, False, "worse than the expert de: -0.1500"),
        (26, 20, 10, {"de": 40}, True, "beats the champion"),
    ],
)
def test_the_gate_opens_for_significant_gains_only(candidate, champion, base, experts, promoted, reason):
    others = {name: right(count) for name, count in experts.items()}
    decision = decide(
        right(candidate),
        champion=None if champion is None else right(champion),
        base=right(base),
        experts=others,
        lacks={},
    )
    assert decision.promoted is promoted
    assert reason in decision.reason


def test_a_model_below_a_floor_of_its_suite_is_no_champion_however_good_it_is():
    decision = decide(
        right(40), champion=right(10), base=right(5), experts={}, lacks={"kind-en": 0.0125, "pick-en": 0.5}
    )
    assert decision == Promotion(False, "below the suite's floor on kind-en by 0.0125, pick-en by 0.5000")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return published(tmp_path_factory.mktemp("model"))


@pytest.fixture
def store(tmp_path):
    return local_store(tmp_path)


def register(store, model, key):
    run = track.start(store, "merges", run_key=key, name="n")
    model_id = registry.upload(run, model, run_key=key, name="merged")
    return registry.register(run, "merged", run_key=key, model_id=model_id, tags={}, description="")


def bearers(store):
    return [
        found and found.version
        for found in (registry.bearer(store, "merged", alias) for alias in ("challenger", "champion"))
    ]


def test_a_version_becomes_challenger_and_only_a_better_one_champion(store, model):
    one, two, three = (register(store, model, key) for key in ("a", "b", "c"))
    assert promote(store, one, decision=YES, compared_with=None) == YES
    assert bearers(store) == ["1", "1"]
    assert promote(store, two, decision=NO, compared_with=one) == NO
    assert bearers(store) == ["2", "1"]
    assert promote(store, three, decision=YES, compared_with=one) == YES
    assert bearers(store) == ["3", "3"]


def test_promoting_again_after_a_crash_keeps_the_champion(store, model):
    one = register(store, model, "a")
    promote(store, one, decision=YES, compared_with=None)
    assert promote(store, one, decision=YES, compared_with=None) == Promotion(True, "version 1 is champion already")
    assert bearers(store) == ["1", "1"]


def test_a_champion_that_changed_during_the_comparison_stays(store, model):
    one, two, three = (register(store, model, key) for key in ("a", "b", "c"))
    promote(store, one, decision=YES, compared_with=None)
    promote(store, two, decision=YES, compared_with=one)
    late = promote(store, three, decision=YES, compared_with=one)
    assert not late.promoted
    assert late.reason.startswith("the champion changed from version 1 to 2")
    assert bearers(store) == ["3", "2"]
