"""An item whose label no answer can match is refused by name, before anybody is asked; what can be matched never is."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from made.models import tiny_llama
from psomerge.errors import ArtefactError
from psomerge.evals.engines.engine import Answers, Continuation
from psomerge.evals.harness import build_all, inspect
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

CHOOSE: dict[str, Any] = {
    "task": "own",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [
        {"metric": one, "aggregation": "mean", "higher_is_better": True} for one in ("acc", "acc_norm", "exact_match")
    ],
}
WRITE: dict[str, Any] = {
    "task": "own",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "label",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 32},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def suite_of(folder: Path, task: dict[str, Any], changed: dict[str, Any], metric: str) -> Any:
    """Twenty items of which the eighth is changed, in all splits together."""
    rows = [{"question": f"Q{n}?", "choices": [f"A{n}", f"B{n}", "C"], "label": n % 3} for n in range(20)]
    if task["output_type"] == "generate_until":
        rows = [row | {"label": f"A{n}"} for n, row in enumerate(rows)]
    rows[7] |= changed
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "tasks").mkdir()
    content = task | {"dataset_kwargs": {"data_files": {"test": str(folder / "own.jsonl")}}}
    (folder / "tasks" / "own.yaml").write_text(yaml.safe_dump(content))
    entry = {"task": "own", "metric": metric}
    if "filter_list" in task:
        entry["filter"] = task["filter_list"][0]["name"]
    suite = {
        "name": "own",
        "salt": "own",
        "shares": {"optimisation": 0.3, "validation": 0.3, "test": 0.4},
        "include": ["tasks"],
        "benchmarks": [entry],
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(suite))
    return load_suite(folder / "own.yaml")


def sets_of(folder: Path, model: Path, *changes: Any) -> Any:
    settings = {"cache": folder / "cache", "allow_task_code": True}
    return build_all(suite_of(folder, *changes), SPLITS, model, **settings)


REGEX = {
    "filter_list": [
        {"name": "number", "filter": [{"function": "regex", "regex_pattern": "(A[0-9]+)"}, {"function": "take_first"}]}
    ]
}
SAID = {
    "filter_list": [
        {
            "name": "said",
            "filter": [{"function": "regex", "regex_pattern": "the answer is (.+)"}, {"function": "take_first"}],
        }
    ]
}
PLACE = "{{4 if question == 'Q7?' else 0}}"
UNMATCHED = [
    (CHOOSE, {"label": 3}, "acc", "its label is 3 of 3 choices"),
    (CHOOSE, {"label": -1}, "acc", "its label is -1 of 3 choices"),
    (CHOOSE, {"label": -1}, "exact_match", "its label is -1 of 3 choices"),
    (CHOOSE, {"choices": ["A", "A", "C"], "label": 1}, "acc", "its label is 1 of 3 choices"),
    (CHOOSE, {"choices": ["A", "", "C"]}, "acc_norm", "its label is 1 of 3 choices"),
    (CHOOSE, {"label": None}, "acc", "its label is None of 3 choices"),
    (
        CHOOSE | {"doc_to_target": "{{choices[label] if label < 3 else 'D'}}"},
        {"label": 3},
        "acc",
        "its label is 'D' of 3",
    ),
    (WRITE, {"label": None}, "exact_match", "its label is None"),
    (WRITE, {"label": " "}, "exact_match", "its label is ' '"),
    (WRITE, {"label": "A7\nB"}, "exact_match", r"the answer 'A7\nB', its own label, is 'A7' once it is cut at ['\n']"),
    (WRITE | REGEX, {"label": "Z7"}, "exact_match", "is '[invalid]' once it is cut at"),
    (WRITE | REGEX, {"label": "A7 8"}, "exact_match", "is 'A7' once it is cut at"),
    (WRITE | SAID, {"label": ""}, "exact_match", "its label is ''"),
    (WRITE | {"doc_to_choice": "choices", "doc_to_target": PLACE}, {}, "exact_match", "its label is 4"),
]


@pytest.mark.parametrize(("task", "changed", "metric", "text"), UNMATCHED)
def test_a_label_that_no_answer_can_match_is_refused_with_its_item(tmp_path, model, task, changed, metric, text):
    with pytest.raises(ArtefactError) as caught:
        sets_of(tmp_path, model, task, changed, metric)
    message = str(caught.value)
    assert message.startswith("suite own: benchmark own: no answer can match the label of 1 of ")
    assert '"question": "Q7?"' in message
    assert text in message
    assert "leave it out in the task's `process_docs`" in message


def test_it_is_known_before_there_is_a_tokenizer(tmp_path):
    suite = suite_of(tmp_path, CHOOSE, {"label": 9}, "acc")
    (problem,) = inspect(suite, SPLITS, cache=tmp_path / "cache", allow_task_code=True).problems
    assert "its label is 9 of 3 choices" in str(problem)


@pytest.mark.parametrize(
    ("task", "changed", "metric"),
    [
        (CHOOSE, {}, "acc"),
        (CHOOSE, {"choices": ["A", "A", "C"], "label": 0}, "acc"),
        (CHOOSE | {"doc_to_target": "{{choices[label]}}"}, {}, "acc"),
        (CHOOSE | {"doc_to_target": "{{[0, 1]}}"}, {}, "acc"),
        (
            CHOOSE | {"output_type": "loglikelihood", "doc_to_choice": None, "doc_to_target": "{{choices[label]}}"},
            {},
            "acc",
        ),
        (WRITE, {"label": "Lomé"}, "exact_match"),
        (WRITE | REGEX, {"label": "A77"}, "exact_match"),
        (WRITE | SAID, {"label": "of two words"}, "exact_match"),
        (WRITE | {"doc_to_target": "{{[label, 'x\\ny']}}"}, {}, "exact_match"),
        (WRITE | {"doc_to_target": "{{question|length}}"}, {}, "exact_match"),
        (
            WRITE | {"metric_list": [{"metric": "chrf", "aggregation": "chrf", "higher_is_better": True}]},
            {"label": "x\ny"},
            "chrf",
        ),
    ],
)
def test_a_label_that_some_answer_matches_is_taken_and_scores_1(tmp_path, model, task, changed, metric):
    task = {key: value for key, value in task.items() if value is not None}
    if task["output_type"] == "loglikelihood":
        task |= {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
    for one in sets_of(tmp_path, model, task, changed, metric).values():
        batch = one.batch
        right = tuple(Continuation(-1.0, True) for _ in batch.loglikelihood)
        assert one.score(Answers(right, ("",) * len(batch.generation)))[0].score >= 0
        assert all(not i.resps and not i.filtered_resps for i in one.prepared[0].task.instances)
