"""All that is wrong with a suite is told at once, offline, from its tasks' files."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from psomerge.errors import ConfigError
from psomerge.evals.benchmarks.flores.languages import check_code
from psomerge.evals.harness import inspect
from psomerge.evals.harness.tasks import load_tasks
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS

SUITE: dict[str, Any] = {
    "name": "own",
    "salt": "own-1",
    "shares": {"optimisation": 0.4, "validation": 0.3, "test": 0.3},
    "include": ["tasks"],
}
TASK: dict[str, Any] = {
    "task": "capitals",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "capitals.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "The capital of {{country}} is",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
}
HUB = TASK | {"task": "elsewhere", "dataset_path": "org/nobody", "dataset_kwargs": {}, "custom_dataset": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite's folder with two tasks: the data of one lie here, of the other at the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    rows = [
        {"country": f"C{n}", "choices": [f"A{n}", f"B{n}"], "label": n % 2, "topic": f"T{n // 2}"} for n in range(60)
    ]
    (tmp_path / "capitals.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for task in (TASK, HUB):
        content = {key: value for key, value in task.items() if value is not None}
        (tmp_path / "tasks" / f"{task['task']}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def suite(folder: Path, *benchmarks: dict[str, Any], **changes: Any) -> Any:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"benchmarks": list(benchmarks)} | changes))
    return load_suite(path)


def inspected(folder: Path, *benchmarks: dict[str, Any], leave: bool = True, **changes: Any) -> Any:
    found = suite(folder, *benchmarks, **changes)
    return inspect(found, SPLITS, cache=folder / "cache", allow_task_code=leave)


def test_a_sound_suite_is_counted_where_its_data_are_here(folder: Path) -> None:
    found = inspected(folder, {"task": "capitals", "metric": "acc", "limits": {"test": 5}})
    assert (found.problems, found.unseen, sum(found.items.values()) < 60, found.items["test"]) == ((), (), True, 5)
    found = inspected(
        folder, {"task": "capitals", "metric": "acc"}, {"task": "elsewhere", "metric": "acc", "group": "topic"}
    )
    assert (found.problems, found.unseen, sum(found.items.values())) == ((), ("elsewhere",), 60)


WRONG = [
    ({"task": "capitols", "metric": "acc"}, "'capitols' is no task; did you mean capitals? (benchmark capitols)"),
    ({"task": "mmlu", "metric": "acc"}, "'mmlu' is a group of tasks: name its tasks one by one (benchmark mmlu)"),
    ({"task": "capitals", "metric": "acccc"}, "task capitals has no metric 'acccc'; did you mean acc?"),
    ({"task": "capitals", "metric": "acc", "filter": "x"}, "task capitals has no filter 'x'"),
    ({"task": "capitals", "metric": "acc", "group": "land"}, "group 'land' is no field of its documents"),
    ({"task": "capitals", "metric": "acc", "split": "topic"}, "expected each item's 'topic' to be one of"),
    ({"task": "capitals", "metric": "acc", "config": {"num_fewshot": 2}}, "`config` cannot set num_fewshot"),
    ({"task": "elsewhere", "metric": "bleu"}, "task elsewhere has no metric 'bleu'"),
    ({"task": "elsewhere", "metric": "acc", "filter": "y"}, "task elsewhere has no filter 'y'"),
    ({"task": "capitals", "scorer": "nowhere:f"}, "scorer 'nowhere:f': no module nowhere"),
    ({"task": "capitals", "metric": "acc", "config": {"dataset_kwargs": {"data_files": "no.jsonl"}}}, "cannot load"),
    (
        {"task": "flores_to_eng", "languages": ["zzz_Latn"], "metric": "chrf"},
        "language 'zzz_Latn' has no English name",
    ),
    ({"task": "sib200", "languages": ["swh_Latm"], "metric": "acc"}, "expected a language and a script, such as swh"),
    ({"task": "xnli", "languages": ["xx"], "metric": "acc"}, "XNLI: expected one of ar, bg"),
    ({"task": "cldr_pick", "languages": ["xq"], "metric": "acc"}, "cannot load task cldr_pick"),
]


@pytest.mark.parametrize(("benchmark", "text"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_each_fault_is_found(folder: Path, benchmark: dict[str, Any], text: str) -> None:
    entry = {"name": "{language}-x"} | benchmark if "languages" in benchmark else benchmark
    more = ["flores", "sib200", "xnli", "cldr"] if "languages" in benchmark else []
    problem, *others = (str(one) for one in inspected(folder, entry, include=["tasks", *more]).problems)
    assert text in problem + "".join(others)
    assert "suite own" in problem
    assert len(others) == ("scorer" in entry)  # which a task of choices cannot have either


def test_all_faults_of_all_benchmarks_are_told_in_seconds(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [entry | {"name": f"b{number}"} for number, (entry, _) in enumerate(WRONG) if "languages" not in entry]
    begin = time.monotonic()
    found = inspected(folder, *entries)
    assert time.monotonic() - begin < 20
    assert len(found.problems) == len(entries) + 1
    with pytest.raises(ConfigError) as caught:
        load_tasks(suite(folder, *entries[:5]), None, allow_task_code=True)
    assert len(str(caught.value).splitlines()) == 4  # of five, the fifth's group is read with its documents
    assert "WARNING" not in capfd.readouterr().err


def test_the_harness_s_tasks_are_found_by_name_and_a_suite_s_own_comes_before_one_of_the_same_name(
    folder: Path,
) -> None:
    own = folder / "tasks" / "arc_easy.yaml"
    own.write_text((folder / "tasks" / "capitals.yaml").read_text().replace("capitals\n", "arc_easy\n"))
    entries = [
        {"task": name, "metric": "acc"} for name in ("arc_easy", "arc_challenge", "mmlu_anatomy", "ceval-valid_law")
    ]
    found = inspected(folder, *entries)
    assert (found.problems, found.unseen) == ((), ("arc_challenge", "mmlu_anatomy", "ceval-valid_law"))
    assert sum(found.items.values()) == 60


@pytest.mark.parametrize("code", ["ben_Xxxx", "ben", "zzz_Beng", "ben_"])
def test_a_code_of_flores_that_cannot_be_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"expected a language and a script|no English name"):
        check_code(code)


def test_folders_that_are_missing_or_not_trusted_are_all_named(folder: Path) -> None:
    entry = {"task": "capitals", "metric": "acc"}
    problems = inspected(folder, entry, leave=False, include=["tasks", "missing", "elsewhere"]).problems
    assert str(problems[0]).startswith("suite own: the task folder")
    assert "set allow_task_code if you trust it" in str(problems[0])
    assert ["no folder beside the suite" in str(one) for one in problems] == [False, True, True]
    template = entry | {"config": {"doc_to_text": "{{country}}"}}
    (problem,) = inspected(folder, template | {"task": "xnli"}, leave=False, include=["xnli"]).problems
    assert "a template in `config` can run code" in str(problem)
