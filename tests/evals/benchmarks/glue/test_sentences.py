"""The shipped config of PSO-Merging's Flan-T5 setting: what it says, and that it can be planned and judged with models
of that form."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from doubles.hub_server import serving
from made.architectures import tiny_t5
from places import SHIPPED
from psomerge.flows.config.loading import load_config
from runs.engine_cases import SETTINGS, plain
from runs.small_run import Small

pytestmark = pytest.mark.heavy

TASKS = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"]


def test_its_numbers_are_the_papers() -> None:
    config = load_config("pso_glue")
    swarm = config.swarm
    assert (swarm.initial, swarm.steps, swarm.inertia, swarm.cognitive, swarm.social, swarm.drop_rate) == (
        "paper",
        50,
        0.2,
        2.0,
        2.0,
        0.8,
    )
    assert config.base == "hf://google/flan-t5-base"
    assert config.experts == {task: f"hf://tanganke/flan-t5-base_glue-{task}" for task in TASKS}
    assert config.engine.kind == "transformers"


def test_its_plan_tells_what_would_be_fetched_and_judged(tmp_path: Path) -> None:
    model = tiny_t5(tmp_path / "model")
    with serving() as hub:
        for name in ("google/flan-t5-base", *(f"tanganke/flan-t5-base_glue-{task}" for task in TASKS)):
            hub.push(name, model)
        done = Small(tmp_path).psomerge("plan", "pso_glue", "--json", HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads(done.stdout)
    assert plan["to_fetch"] == ["base", *TASKS]
    # 17 particles; 50 steps of them, 3 re-ranked; 1 + 8 + 3 + 1 rows of the table, and the baselines' own search.
    assert (plan["experts"], plan["particles"], plan["steps"]) == (8, 17, 50)
    assert 50 * 17 + 3 + 13 < plan["judgements"] <= 50 * 17 + 3 + 13 + 3 * 9
    assert [name.removeprefix("glue_") for name in plan["suite"]["benchmarks"]] == TASKS


def test_its_suite_is_scored_on_a_model_of_that_form_task_by_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    from doubles import hub_data
    from psomerge.evals.engines.transformers_engine import TransformersEngine
    from psomerge.evals.harness import build
    from psomerge.evals.suites.file import load_suite

    monkeypatch.setattr(datasets, "load_dataset", hub_data.load_dataset)
    model = tiny_t5(tmp_path / "model", steps=30)
    evaluation = build(load_suite("glue", SHIPPED), "optimisation", model)
    engine = TransformersEngine({"base": model}, SETTINGS)
    engine.load(plain())
    answers = engine.answer(evaluation.batch)
    assert len(answers.generation) == 8 * 18
    scored = evaluation.examine(answers)
    assert [score.benchmark for score, _ in scored] == [f"glue_{task}" for task in TASKS]
    assert [score.corpus for score, _ in scored] == [None] * 7 + ["spearman_fifths"]
    # It says neither the words nor numbers.
    assert [score.score for score, _ in scored] == [0.0] * 8
    right = tuple(example.reference for _, examples in scored for example in examples)
    assert [score.score for score, _ in evaluation.examine(replace(answers, generation=right))] == pytest.approx(
        [1.0] * 8
    )
