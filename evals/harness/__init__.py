"""lm-evaluation-harness as the source of benchmarks, by its own Task methods: requests built once, scored many
times."""

from evals.harness.building import build, build_all
from evals.harness.evaluation_set import EvaluationSet
from evals.harness.prepared import FailedBenchmark
from evals.harness.tally import Drawn, Tally

__all__ = ["Drawn", "EvaluationSet", "FailedBenchmark", "Tally", "build", "build_all"]
