"""Items that a suite leaves out by name belong to no split; messages name the key and the items."""

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from made.models import tiny_llama
from made.own_task import CHOOSE, WRITE, rows_of, suite_of
from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.harness import build, build_all, inspect
from psomerge.evals.harness.items import identity
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def faulty(count: int) -> list[dict[str, Any]]:
    """Thirty rows of which the first ones have two equal choices, with the second as their label."""
    rows = rows_of(CHOOSE, 30)
    return [row | {"choices": ["same", "same", "y"], "label": 1} if n < count else row for n, row in enumerate(rows)]


def problems_of(folder: Path, suite: Any) -> list[str]:
    return [str(one) for one in inspect(suite, SPLITS, cache=folder / "cache", allow_task_code=True).problems]


def test_what_a_message_says_is_left_out_is_counted_nowhere_and_all_else_stays(tmp_path, model, caplog):
    # The story: an item of a hub data set with two equal choices refused the whole suite, and nobody could correct it.
    rows = faulty(3)
    (problem,) = problems_of(tmp_path, suite_of(tmp_path, CHOOSE, rows, "acc"))
    assert "no answer can match the label of 3 of 30 items" in problem
    names = re.search(r"leave_out: \[(.*?)\]", problem)[1].split(", ")
    assert set(names) == {identity(row) for row in rows[:3]}

    suite = suite_of(tmp_path, CHOOSE, rows, "acc", leave_out=names)
    found = inspect(suite, SPLITS, cache=tmp_path / "cache", allow_task_code=True)
    assert not found.problems
    assert sum(found.items.values()) == 27
    assert found.left_out == f"items left out, as `leave_out` says: 3 of benchmark own ({', '.join(names)})"
    with caplog.at_level(logging.INFO):
        sets = build_all(suite, SPLITS, model, cache=tmp_path / "cache", allow_task_code=True)
    assert found.left_out in caplog.text
    own = {split: set(one.items["own"]) for split, one in sets.items()}
    whole = build_all(
        suite_of(tmp_path, CHOOSE, rows_of(CHOOSE, 30), "acc"),
        SPLITS,
        model,
        cache=tmp_path / "c",
        allow_task_code=True,
    )
    clean = {identity(row) for row in rows[3:]}
    assert own == {split: set(one.items["own"]) & clean for split, one in whole.items()}


def test_the_first_eight_are_named_and_how_many_there_are(tmp_path):
    (problem,) = problems_of(tmp_path, suite_of(tmp_path, CHOOSE, faulty(11), "acc"))
    assert "the label of 11 of 30 items" in problem
    assert len(re.search(r"leave_out: \[(.*?)\]", problem)[1].split(", ")) == 8
    assert problem.endswith("(the first 8 are named)")


def test_items_that_a_task_s_code_cannot_take_are_named_together(tmp_path):
    rows = [row | {"question": None} if n in (4, 9) else row for n, row in enumerate(rows_of(WRITE, 30))]
    (problem,) = problems_of(tmp_path, suite_of(tmp_path, WRITE, rows, "exact_match"))
    assert f"leave_out: [{identity(rows[4])}]" in problem
    assert problem.endswith(f"; 1 more items fail: {identity(rows[9])}")
    names = [identity(rows[4]), identity(rows[9])]
    assert not problems_of(tmp_path, suite_of(tmp_path, WRITE, rows, "exact_match", leave_out=names))


def test_a_name_of_no_item_is_refused_with_the_nearest(tmp_path, model):
    rows = rows_of(CHOOSE, 30)
    wrong = identity(rows[5])[:-1] + "x"
    suite = suite_of(tmp_path, CHOOSE, rows, "acc", leave_out=[wrong])
    text = f"benchmark own: leave_out: no item is called '{wrong}'"
    assert any(text in one and identity(rows[5]) in one for one in problems_of(tmp_path, suite))
    with pytest.raises(ConfigError, match=re.escape(text)):
        build(suite, "test", model, cache=tmp_path / "cache", allow_task_code=True)


def test_a_name_may_be_of_one_benchmark_of_an_entry(tmp_path):
    rows = rows_of(CHOOSE, 30)
    entry = {"leave_out": [identity(rows[0])], "languages": ["so", "tk"], "name": "own-{language}"}
    suite = suite_of(tmp_path, CHOOSE, rows, "acc", **entry)
    (tmp_path / "tk.jsonl").write_text("\n".join((tmp_path / "own.jsonl").read_text().split("\n")[1:]))
    other = {"dataset_kwargs": {"data_files": {"test": str(tmp_path / "tk.jsonl")}}}
    first, second = suite.benchmarks
    suite = dataclasses.replace(suite, benchmarks=(first, dataclasses.replace(second, config=other)))
    found = inspect(suite, SPLITS, cache=tmp_path / "cache", allow_task_code=True)
    assert not found.problems
    assert "1 of benchmark own-so" in found.left_out
    assert sum(found.items.values()) == 29 + 29


def test_a_left_out_item_is_no_example(tmp_path, model):
    rows = rows_of(CHOOSE, 30)
    task = CHOOSE | {"fewshot_split": "test", "num_fewshot": 1}
    suite = dataclasses.replace(
        suite_of(tmp_path, task, rows, "acc"), shares={"optimisation": 0.2, "validation": 0.2, "test": 0.2}
    )
    settings = {"cache": tmp_path / "cache", "allow_task_code": True}
    sets = build_all(suite, SPLITS, model, **settings)
    free = {identity(row) for row in rows} - {name for one in sets.values() for name in one.items["own"]}
    (own,) = suite.benchmarks
    leaving = dataclasses.replace(suite, benchmarks=(dataclasses.replace(own, leave_out=tuple(free)),))
    assert len(free) > 2
    with pytest.raises(ArtefactError, match="at least 2 examples that belong to no split, found 0 of 30"):
        build_all(leaving, SPLITS, model, **settings)


def test_what_is_left_out_changes_what_a_set_is(tmp_path, model):
    settings = {"cache": tmp_path / "cache", "allow_task_code": True}
    suite = suite_of(tmp_path, CHOOSE, rows_of(CHOOSE, 30), "acc")
    before = build_all(suite, SPLITS, model, **settings)
    (own,) = suite.benchmarks
    leaving = (dataclasses.replace(own, leave_out=before["test"].items["own"][:1]),)
    after = build_all(dataclasses.replace(suite, benchmarks=leaving), SPLITS, model, **settings)
    assert {split for split in SPLITS if before[split].digest != after[split].digest} == {"test"}
