"""Paths in a suite and its tasks lead from the suite's folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from psomerge.errors import ConfigError
from psomerge.evals.suites.paths import lead, with_data_files
from psomerge.evals.suites.suite import Benchmark


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a suite; the current folder is another."""
    (tmp_path / "suites" / "data").mkdir(parents=True)
    (tmp_path / "suites" / "data" / "one.jsonl").touch()
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "here" / "data" / "two.jsonl").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "suites"))
    return tmp_path / "suites"


def benchmark(**config: Any) -> Benchmark:
    return Benchmark(name="one", task="one", language="en", metric="acc", config=config)


def test_a_path_leads_from_the_file_s_folder(folders: Path) -> None:
    for text in ("data/one.jsonl", "~/data/one.jsonl", f"{folders}/data/one.jsonl", "./data/../data/one.jsonl"):
        assert Path(lead(text, folders, "x")).resolve() == folders / "data" / "one.jsonl"
    assert lead("data/*.jsonl", folders, "x") == f"{folders}/data/*.jsonl"
    assert lead("data/none.jsonl", folders, "x") == f"{folders}/data/none.jsonl"  # told by whoever opens it


@pytest.mark.parametrize("text", ["data/two.jsonl", "data/t*.jsonl", "../here/data/../../here/data/two.jsonl"])
def test_what_is_there_from_the_current_folder_alone_is_told(folders: Path, text: str) -> None:
    if (folders / text).exists():
        assert lead(text, folders, "x")
        return
    with pytest.raises(ConfigError, match=r"x: data/.* leads from the file's folder to .*suites/data/t.*here/data/t"):
        lead(text, folders, "x")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data/one.jsonl", "{0}/data/one.jsonl"),
        ({"test": "data/one.jsonl", "train": ["data/one.jsonl", "~/data/*.jsonl"]}, None),
        ("https://host/one.jsonl", "https://host/one.jsonl"),
        ("zip://one.jsonl::data/one.zip", "zip://one.jsonl::data/one.zip"),
    ],
)
@pytest.mark.parametrize("said_by", ["task", "suite"])
def test_a_task_s_data_files_lead_from_there_whoever_names_them(
    folders: Path, given: Any, expected: Any, said_by: str
) -> None:
    expected = (
        expected.format(folders)
        if expected
        else {"test": f"{folders}/data/one.jsonl", "train": [f"{folders}/data/one.jsonl", f"{folders}/data/*.jsonl"]}
    )
    kwargs = {"data_files": given, "delimiter": ";"}
    task = {"dataset_path": "csv"} | ({"dataset_kwargs": kwargs} if said_by == "task" else {})
    one = benchmark(**({"dataset_kwargs": kwargs} if said_by == "suite" else {}))
    found = with_data_files(one, task, folders).config["dataset_kwargs"]
    assert found == {"data_files": expected, "delimiter": ";"}


def test_of_a_data_set_of_the_hub_or_in_a_folder_files_lead_from_that(folders: Path) -> None:
    kwargs = {"dataset_kwargs": {"data_files": "data/two.jsonl"}}
    one = benchmark()
    assert with_data_files(one, {"dataset_path": "org/name", **kwargs}, folders) is one
    assert with_data_files(one, {"dataset_path": "xnli"}, folders) is one
    for path in ("data", "./data", "~/data"):
        assert Path(with_data_files(one, {"dataset_path": path, **kwargs}, folders).config["dataset_path"]) == (
            folders / "data"
        )
    with pytest.raises(ConfigError, match=r"benchmark one: data_files: data/two\.jsonl leads"):
        with_data_files(one, {"dataset_path": "json", **kwargs}, folders)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("d[1]", {"data_files": {"test": "d[1]/a.jsonl"}}),
        ("what?", {"data_files": {"test": ["what?/a.jsonl"]}}),
        ("d[1]", {"data_files": {"test": "d*/a*.jsonl"}}),
        ("test[2]", {"data_dir": "test[2]"}),
    ],
)
def test_names_that_could_be_patterns_are_names(tmp_path: Path, place: str, given: dict) -> None:
    import datasets

    folder = tmp_path / "su[i]te"
    (folder / place).mkdir(parents=True)
    (folder / place / "a.jsonl").write_text('{"a": 7}\n')
    task = {"dataset_path": "json", "dataset_kwargs": given}
    found = with_data_files(benchmark(), task, folder).config["dataset_kwargs"]
    loaded = datasets.load_dataset("json", cache_dir=str(tmp_path / "cache"), **found)
    assert [row for split in loaded.values() for row in split] == [{"a": 7}]


def test_a_folder_of_tasks_that_is_called_as_a_data_set_of_the_hub_is_not_that_data_set(folders: Path) -> None:
    (folders / "gsm8k").mkdir()
    (folders / "gsm8k" / "one.yaml").touch()
    one = benchmark()
    assert with_data_files(one, {"dataset_path": "gsm8k"}, folders) is one
    (folders / "gsm8k" / "test.jsonl").touch()
    assert with_data_files(one, {"dataset_path": "gsm8k"}, folders).config["dataset_path"] == str(folders / "gsm8k")


@pytest.mark.parametrize("by", ["task", "included", "suite", "folder"])
def test_a_suite_is_whole_from_every_folder(folders: Path, by: str) -> None:
    from psomerge.evals.harness import inspect
    from psomerge.evals.suites.file import load_suite
    from psomerge.evals.suites.splits import SPLITS

    rows = [{"country": f"C{n}", "choices": [f"A{n}", f"B{n}"], "label": n % 2} for n in range(30)]
    (folders / "data" / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kwargs = {"dataset_kwargs": {"data_files": {"test": "data/one.jsonl"}}}
    task: dict[str, Any] = {
        "task": "capitals",
        "dataset_path": "./data" if by == "folder" else "json",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "The capital of {{country}} is",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
    }
    if by == "folder":
        (folders / "data" / "one.jsonl").rename(folders / "data" / "test.jsonl")
    (folders / "tasks").mkdir()
    (folders / "tasks" / "_data").write_text(yaml.safe_dump(kwargs))
    task |= {"task": kwargs, "included": {"include": "_data"}}.get(by, {})
    (folders / "tasks" / "capitals.yaml").write_text(yaml.safe_dump(task))
    entry = {"task": "capitals", "metric": "acc"} | ({"config": kwargs} if by == "suite" else {})
    shares = {"optimisation": 0.4, "validation": 0.3, "test": 0.3}
    content = {"name": "own", "salt": "1", "shares": shares, "include": ["tasks"], "benchmarks": [entry]}
    (folders / "own.yaml").write_text(yaml.safe_dump(content))
    suite = load_suite("../suites/own.yaml")
    found = inspect(suite, SPLITS, cache=folders / "cache", allow_task_code=True)
    assert (found.problems, sum(found.items.values())) == ((), 30)
