"""Judging with a scripted engine: what fails is written down with its reason, what is known is not asked again, what is pooled counts every item once."""

import math
from pathlib import Path

import pytest

from evals.engine import Batch, Continuation, EngineSettings, Loglikelihood, ModelError, ScriptedEngine
from evals.harness import EvaluationSet, build
from evals.scores import BenchmarkScore, Judgement
from evals.suite import Benchmark, Suite
from evals.supervisor import SupervisedEngine
from models import tiny_llama
from psomerge.journal import Journal
from psomerge.recipe import Recipe, Source
from tasks.judge import Judging, Label, pooled
from tasks.track import step_metrics

KEY = "k" * 16
SPLITS = ("optimisation", "validation")
SUITE = Suite(
    "countries",
    "countries",
    {"optimisation": 0.4, "validation": 0.3, "test": 0.3},
    tuple(Benchmark(f"pick-{language}", "cldr_pick", language, "acc", template=True, limits=dict.fromkeys(SPLITS, 5)) for language in ("so", "eu")),
    ("cldr",),
    shipped=True,
)
RECIPE = Recipe(Source("base", "", "", {"model.safetensors": "a"}), (Source("one", "", "", {"model.safetensors": "b"}),), coefficients=((0.0,),))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvaluationSet]:
    tokenizer = tiny_llama(tmp_path_factory.mktemp("tiny"))
    return {split: build(SUITE, split, tokenizer) for split in SPLITS}
