"""lm-evaluation-harness as the source of benchmarks, by its own Task methods: requests built once, scored many
times."""

from psomerge.evals.harness.building import build, build_all
from psomerge.evals.harness.evaluation_set import EvaluationSet
from psomerge.evals.harness.inspection import Inspection, inspect
from psomerge.evals.harness.prepared import FailedBenchmark
from psomerge.evals.harness.tally import Drawn, Tally

__all__ = ["Drawn", "EvaluationSet", "FailedBenchmark", "Inspection", "Tally", "build", "build_all", "inspect"]
