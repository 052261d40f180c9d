"""An item whose label no answer can match is refused by name, before anybody is asked; what can be matched never is."""

import re
from pathlib import Path
from typing import Any

import pytest

from made.models import tiny_llama
from made.own_task import CHOOSE, WRITE, rows_of, suite_of
from psomerge.errors import ArtefactError
from psomerge.evals.engines.engine import Answers, Continuation
from psomerge.evals.harness import build_all, inspect
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def changed_suite(folder: Path, task: dict[str, Any], changed: dict[str, Any], metric: str) -> Any:
    """Twenty items of which the eighth is changed, in all splits together."""
    rows = rows_of(task)
    rows[7] |= changed
    return suite_of(folder, task, rows, metric)


def sets_of(folder: Path, model: Path, *changes: Any) -> Any:
    settings = {"cache": folder / "cache", "allow_task_code": True}
    return build_all(changed_suite(folder, *changes), SPLITS, model, **settings)


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
    assert re.search(r"or leave it out by `leave_out: \[[0-9a-f]{16}\]` in the suite's entry", message)


def test_it_is_known_before_there_is_a_tokenizer(tmp_path):
    suite = changed_suite(tmp_path, CHOOSE, {"label": 9}, "acc")
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
