"""A null field is asked of no model as the text "None"; a template that looks whether there is a value is taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from made.models import tiny_llama
from made.own_task import CHOOSE, WRITE, rows_of, suite_of
from psomerge.errors import ArtefactError
from psomerge.evals.harness import build_all, inspect
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
THREE = '{{["a" ~ passage, "b", "c"]}}'
FUNCTIONS = """
def ask(doc):
    return f"{doc['passage']}: {doc['question']}"

def ask_if(doc):
    return doc["question"] if doc["passage"] is None else doc["passage"] + doc["question"]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def made_of(folder: Path, task: dict[str, Any], changed: dict[str, Any], **entry: Any) -> Any:
    """Twenty items of which the eighth has a null somewhere."""
    rows = [row | {"passage": "A text.", "table": ["x", "y"], "numbers": {"n": 1}} for row in rows_of(task)]
    rows[7] |= changed
    (folder / "tasks").mkdir()
    (folder / "tasks" / "asking.py").write_text(FUNCTIONS)
    suite = suite_of(folder, task, rows, task["metric_list"][0]["metric"], **entry)
    path = folder / "tasks" / "own.yaml"
    path.write_text(path.read_text().replace("doc_to_text: asking", "doc_to_text: !function asking"))
    return suite


PRINTED = [
    (CHOOSE, {"question": None}, "field 'question' is null, which the task's doc_to_text would write as the text"),
    (CHOOSE | {"doc_to_text": "{{passage}}\n{{question}}"}, {"passage": None}, "field 'passage' is null, which"),
    (CHOOSE | {"doc_to_text": "{{passage|trim}} {{question}}"}, {"passage": None}, "field 'passage' is null"),
    (CHOOSE | {"doc_to_text": "{{passage ~ question}}"}, {"passage": None}, "field 'passage' is null"),
    (CHOOSE | {"doc_to_text": "{{table|join(', ')}} {{question}}"}, {"table": ["x", None]}, "field 'table' is null"),
    (CHOOSE | {"doc_to_text": "{{numbers.n}} {{question}}"}, {"numbers": {"n": None}}, "field 'numbers' is null"),
    (CHOOSE | {"doc_to_text": "None? {{passage}} {{question}}"}, {"passage": None}, "field 'passage' is null"),
    (CHOOSE | {"doc_to_text": "asking.ask"}, {"passage": None}, "field 'passage' is null"),
    (CHOOSE, {"choices": ["a", None, "c"]}, "choice 2 is null, which the task's doc_to_choice"),
    (CHOOSE | {"doc_to_choice": "{{[passage, 'b', 'c']}}"}, {"passage": None}, "choice 1 is null"),
    (CHOOSE | {"doc_to_choice": THREE}, {"passage": None}, "field 'passage' is null, which the task's doc_to_choice"),
    (WRITE, {"question": None}, "field 'question' is null"),
    (WRITE | {"doc_to_target": "{{passage}}"}, {"passage": None}, "field 'passage' is null, which the task's doc_to_t"),
    (WRITE | {"gen_prefix": "{{passage}}"}, {"passage": None}, "field 'passage' is null, which the task's doc_to_pref"),
]


@pytest.mark.parametrize(("task", "changed", "text"), PRINTED)
def test_a_null_that_would_be_asked_as_a_text_is_refused_with_its_item(tmp_path, task, changed, text):
    # The story: "question": null was asked as the prompt "None", of every model alike.
    suite = made_of(tmp_path, task, changed)
    (problem,) = inspect(suite, SPLITS, cache=tmp_path / "cache", allow_task_code=True).problems
    assert str(problem).startswith("suite own: benchmark own: item ")
    assert text in str(problem)
    assert "correct it in the data" in str(problem)


@pytest.mark.parametrize(
    ("task", "changed"),
    [
        (CHOOSE, {"passage": None}),
        (CHOOSE | {"doc_to_text": "{% if passage %}{{passage}} {% endif %}{{question}}"}, {"passage": None}),
        (CHOOSE | {"doc_to_text": "{{passage or ''}} {{question}}"}, {"passage": None}),
        (
            CHOOSE | {"doc_to_text": "None? {% if passage is not none %}{{passage}} {% endif %}{{question}}"},
            {"passage": None},
        ),
        (CHOOSE | {"doc_to_text": "{{numbers|tojson}} {{question}}"}, {"numbers": {"n": None}}),
        (CHOOSE | {"doc_to_text": "asking.ask_if"}, {"passage": None}),
        (CHOOSE, {"choices": ["None", "b", "c"], "question": "None?", "passage": None}),
        (WRITE, {"label": "None", "passage": None}),
    ],
)
def test_a_null_that_nobody_is_asked_is_taken(tmp_path, model, task, changed):
    suite = made_of(tmp_path, task, changed)
    sets = build_all(suite, SPLITS, model, cache=tmp_path / "cache", allow_task_code=True)
    assert sum(len(one.prepared[0].items.docs) for one in sets.values()) == 20


def test_a_null_of_an_example_is_refused_too(tmp_path, model):
    shown = [{"question": text, "choices": ["x", "y", "z"], "label": 0} for text in (None, "Which?")]
    (tmp_path / "shown.jsonl").write_text("\n".join(map(json.dumps, shown)))
    files = {"test": str(tmp_path / "own.jsonl"), "dev": str(tmp_path / "shown.jsonl")}
    task = CHOOSE | {"fewshot_split": "dev", "num_fewshot": 2, "dataset_kwargs": {"data_files": files}}
    with pytest.raises(ArtefactError, match=r"field 'question' of the example \{\"question\": null.* is null"):
        build_all(
            suite_of(tmp_path, task, rows_of(task), "acc"), SPLITS, model, cache=tmp_path / "c", allow_task_code=True
        )
