"""From scores to fitness: worked out by hand on four benchmarks in three languages, one of them weighing double."""

from pathlib import Path

import pytest

from evals.fitness import fitness
from evals.scores import BenchmarkScore
from evals.suite import Suite
from evals.suite_file import load_suite

SUITE = """\
name: small
salt: s1
shares: {optimisation: 0.3, validation: 0.2, test: 0.5}
benchmarks:
  - {task: pick, languages: [so, tk], metric: acc}
  - {task: "xcopa_{language}", languages: [et], metric: acc, weight: 2}
  - {task: kind, language: so, metric: acc}
"""


def suite(folder: Path, aggregate: str = "{}") -> Suite:
    path = folder / "small.yaml"
    path.write_text(f"{SUITE}aggregate: {aggregate}\n", encoding="utf-8")
    return load_suite(path)


def score(benchmark: str, *values: float) -> BenchmarkScore:
    names = tuple(str(number) for number in range(len(values)))
    return BenchmarkScore(benchmark, "en", "acc", 1.0, names, names, values)


# Means: kind 1, pick_so 0.5, pick_tk 0, xcopa_et 0.25 (weight 2). In no order that the suite knows.
SCORES = [score("kind", 1.0), score("xcopa_et", 1.0, 0.0, 0.0, 0.0), score("pick_so", 0.0, 1.0), score("pick_tk", 0.0, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("{}", (1 + 0.5 + 0 + 2 * 0.25) / 5),
        ("{worst: 1}", 0.0),
        ("{worst: 3}", (0 + 2 * 0.25 + 0.5) / 4),
        ("{over: languages}", (0.75 + 0 + 0.25) / 3),  # so is the mean of kind and pick; et counts once
        ("{over: languages, worst: 2}", (0 + 0.25) / 2),
        ("{over: languages, worst: 1}", 0.0),
    ],
)
def test_fitness_is_the_mean_of_what_the_aggregate_names(tmp_path, aggregate, expected):
    assert fitness(suite(tmp_path, aggregate), SCORES) == pytest.approx(expected, abs=1e-15)


def test_the_order_of_scores_changes_no_bit(tmp_path):
    for aggregate in ("{}", "{over: languages}", "{worst: 2}"):
        one = suite(tmp_path, aggregate)
        assert len({fitness(one, SCORES[place:] + SCORES[:place]) for place in range(4)}) == 1


def test_fitness_over_fewer_or_other_benchmarks_is_refused(tmp_path):
    for scores in (SCORES[1:], [*SCORES, SCORES[0]], [*SCORES[1:], score("other", 1.0)]):
        with pytest.raises(ValueError, match="expected one score each"):
            fitness(suite(tmp_path), scores)
