"""An item that a task's code cannot take is named, with what to do, wherever the code fails."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from made.models import tiny_llama
from psomerge.errors import ArtefactError
from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness import FailedBenchmark, build, inspect
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

CODE = """\
def text(doc):
    return doc["words"][2]


def target(doc):
    return doc["answers"][1]


def choices(doc):
    return [doc["options"][0], doc["options"][1]]


def ready(docs):
    return docs.map(lambda row: {"last": row["words"][2]})


def none(docs):
    return docs.filter(lambda row: False)


def judged(doc, results):
    return {"exact_match": float(doc["answers"][1] == results[0])}


def picky(doc, results):
    return {"exact_match": 1 / len(results[0])}
"""
TASK: dict[str, Any] = {
    "task": "own",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{words[0]}}",
    "doc_to_target": "{{answers[0]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def suite_of(folder: Path, wrong: int, row: dict[str, Any], more: str, **task: Any) -> Any:
    """Twenty items, of which one is another."""
    rows = [{"words": [f"a{n}", "b", f"c{n}"], "answers": [f"x{n}", "y"], "options": ["o", "p"]} for n in range(20)]
    if wrong >= 0:
        rows[wrong] |= row
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "tasks").mkdir()
    (folder / "tasks" / "code.py").write_text(CODE)
    content = TASK | {"dataset_kwargs": {"data_files": {"test": str(folder / "own.jsonl")}}} | task
    (folder / "tasks" / "own.yaml").write_text(yaml.safe_dump(content) + more)
    (folder / "own.yaml").write_text(
        "name: own\nsalt: own\nshares: {optimisation: 0.3, validation: 0.3, test: 0.4}\ninclude: [tasks]\n"
        "benchmarks: [{task: own, metric: " + ("acc" if "doc_to_choice" in more else "exact_match") + "}]\n"
    )
    return load_suite(folder / "own.yaml")


CHOOSING = {"output_type": "multiple_choice", "doc_to_target": 0, "generation_kwargs": None}


@pytest.mark.parametrize("wrong", [0, 7])
@pytest.mark.parametrize(
    ("row", "more", "task", "text"),
    [
        ({"words": ["a", "b"]}, "doc_to_text: !function code.text\n", {}, "IndexError: list index out of range"),
        ({"answers": ["x"]}, "doc_to_target: !function code.target\n", {}, "IndexError: list index out of range"),
        (
            {"options": ["o"]},
            "doc_to_choice: !function code.choices\n",
            CHOOSING,
            "IndexError: list index out of range",
        ),
        ({"words": ["a", "b"]}, "process_docs: !function code.ready\n", {}, "IndexError: list index out of range"),
        ({"answers": ["x"]}, "process_results: !function code.judged\n", {}, "IndexError: list index out of range"),
        ({"words": []}, "", {}, "UndefinedError: list object has no element 0"),
        ({"words": None}, "", {}, "UndefinedError: None has no element 0"),
    ],
)
def test_an_item_that_a_task_s_code_cannot_take_is_named(tmp_path, model, wrong, row, more, task, text):
    suite = suite_of(tmp_path, wrong, row, more, **task)
    said = []
    for split in SPLITS:
        try:
            build(suite, split, model, cache=tmp_path / "cache", allow_task_code=True)
        except ArtefactError as error:
            said.append(str(error))
    assert said
    assert all(one == said[0] for one in said)
    assert said[0].startswith("suite own: benchmark own: ")
    assert "\n" not in said[0]
    assert "item " in said[0]
    assert f'"{"words" if "words" in row else next(iter(row))}": ' in said[0]
    assert text in said[0]
    if "cannot load task" in said[0]:  # before there are items: the harness tries the first
        assert "leave it out in the task's `process_docs`" in said[0]
    else:
        assert re.search(r"or leave it out by `leave_out: \[[0-9a-f]{16}\]` in the suite's entry", said[0])


def test_data_without_items_are_called_so(tmp_path, model):
    suite = suite_of(tmp_path, -1, {}, "process_docs: !function code.none\n")
    (problem,) = inspect(suite, SPLITS, cache=tmp_path / "cache", allow_task_code=True).problems
    assert "cannot load task own: IndexError" in str(problem)
    assert str(problem).endswith("; its data have no items: expected at least one in the split that it is tested on")


def test_an_answer_that_a_task_s_code_cannot_take_fails_the_judgement_with_its_item(tmp_path, model):
    suite = suite_of(tmp_path, -1, {}, "process_results: !function code.picky\n")
    evaluation = build(suite, "test", model, cache=tmp_path / "cache", allow_task_code=True)
    names = evaluation.items["own"]
    answers = Answers(generation=("x", "", *("x",) * (len(names) - 2)))
    with pytest.raises(FailedBenchmark, match=f"own: item {names[1]}: ZeroDivisionError"):
        evaluation.score(answers)
    tally = evaluation.tally()
    with pytest.raises(FailedBenchmark, match=f"own: item {names[1]}: ZeroDivisionError"):
        tally.add(answers)


def test_a_choice_that_has_no_room_is_named(tmp_path, model):
    more = "doc_to_choice: !function code.choices\n"
    suite = suite_of(tmp_path, 7, {"options": ["o" * 400, "p"]}, more, **CHOOSING)
    said = ""
    for split in SPLITS:
        try:
            build(suite, split, model, cache=tmp_path / "cache", allow_task_code=True)
        except ArtefactError as error:
            said = str(error)
    assert said.startswith("suite own: benchmark own: item ")
    assert '({"words": ["a7", "b", "c7"]' in said
    assert "a continuation of 401 tokens, expected 1 to 255" in said
