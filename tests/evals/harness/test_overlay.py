"""What a suite does not say is what the task says; what it says is what is asked."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from made.models import tiny_llama
from places import TOY
from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.harness import build_all
from psomerge.evals.harness.tasks import load_tasks
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


OWN = """

from lm_eval.api.task import ConfigurableTask


class Own(ConfigurableTask):
    def __init__(self):
        config = {"task": "own", "custom_dataset": capitals, "test_split": "test", "output_type": "multiple_choice"}
        keys = {"doc_to_text": "question", "doc_to_choice": "choices", "doc_to_target": "answer"}
        super().__init__(config=config | keys)
"""


def folder_of(tmp_path: Path, name: str = "toy_pick", **keys: Any) -> Path:
    """The toy tasks, with keys of one task's own."""
    folder = shutil.copytree(TOY, tmp_path / "tasks", dirs_exist_ok=True)
    text = "".join(
        f"{key}: {value if str(value).startswith('!') else yaml.safe_dump(value, default_flow_style=True)}\n"
        for key, value in keys.items()
    )
    (folder / f"{name}.yaml").write_text((TOY / f"{name}.yaml").read_text() + text.replace("...\n", ""))
    return folder


def suite_of(tmp_path: Path, entry: str, more: str = "") -> Any:
    (tmp_path / "made.yaml").write_text(
        f"name: made\nsalt: made\nshares: {{optimisation: 0.1, validation: 0.2, test: 0.2}}\ngroup: country\n"
        f"include: [{tmp_path / 'tasks'}]\n{more}\nbenchmarks:\n  - {{{entry}}}\n"
    )
    return load_suite(tmp_path / "made.yaml")


def config_of(tmp_path: Path, entry: str, **settings: Any) -> Any:
    (task,) = load_tasks(suite_of(tmp_path, entry), settings.get("cache"), allow_task_code=True)
    return task.config


@pytest.mark.parametrize(
    ("own", "more", "entry", "shots"),
    [
        (3, "", "", 3),
        (3, "prompting: {system_instruction: Hm.}", "", 3),
        (3, "prompting: {num_fewshot: 1}", "", 1),
        (3, "prompting: {num_fewshot: 1}", ", prompting: {num_fewshot: 0}", 0),
        (0, "prompting: {num_fewshot: 2}", "", 2),  # the suite is asked, where the harness's own command keeps the 0
        (None, "", "", 0),
    ],
)
def test_a_task_has_as_many_examples_as_it_says_unless_the_suite_says_how_many(tmp_path, own, more, entry, shots):
    folder_of(tmp_path, **({} if own is None else {"num_fewshot": own}))
    suite = suite_of(tmp_path, f"task: toy_pick, metric: acc{entry}", more)
    model = tiny_llama(tmp_path / "model")
    for one in build_all(suite, SPLITS, model, allow_task_code=True).values():
        (prepared,) = one.prepared
        for instance in prepared.task.instances:
            assert instance.args[0].count("The capital of") == shots + 1


def test_examples_of_a_task_s_own_come_from_no_split_either(tmp_path):
    folder_of(tmp_path, num_fewshot=9)
    with pytest.raises(ArtefactError, match=r"toy_pick: expected at least 9 examples that belong to no split, found"):
        build_all(
            suite_of(tmp_path, "task: toy_pick, metric: acc"),
            SPLITS,
            tiny_llama(tmp_path / "model"),
            allow_task_code=True,
        )


def test_a_key_inside_a_key_that_the_suite_says_leaves_the_others(tmp_path):
    # The story: `max_gen_toks` alone dropped the task's `until`, and the harness put the delimiter of examples there.
    folder_of(tmp_path, "toy_say", metadata={"version": 7, "language": "de"})
    config = config_of(
        tmp_path, "task: toy_say, metric: exact_match, filter: whole, config: {generation_kwargs: {max_gen_toks: 9}}"
    )
    assert config.generation_kwargs == {"until": ["\n", "."], "do_sample": False, "max_gen_toks": 9}
    assert config.metadata["language"] == "de"
    config = config_of(
        tmp_path, "task: toy_say, metric: exact_match, filter: whole, config: {metadata: {language: en}}"
    )
    assert (config.metadata["version"], config.metadata["language"]) == (7, "en")
    config = config_of(
        tmp_path, "task: toy_say, metric: exact_match, filter: whole, config: {generation_kwargs: {until: [x]}}"
    )
    assert config.generation_kwargs == {"until": ["x"], "do_sample": False, "max_gen_toks": 16}


def test_functions_of_a_key_that_is_merged_stay_functions(tmp_path):
    folder = folder_of(tmp_path, fewshot_config="!X", num_fewshot=1)
    path = folder / "toy_pick.yaml"
    path.write_text(
        path.read_text().replace("fewshot_config: '!X'", "").replace("fewshot_config: !X", "")
        + "fewshot_config: {sampler: first_n, doc_to_text: !function data.asked}\n"
    )
    (folder / "data.py").write_text(
        (TOY / "data.py").read_text() + "\n\ndef asked(doc):\n    return 'Asked: ' + doc['country']\n"
    )
    config = config_of(tmp_path, "task: toy_pick, metric: acc, config: {fewshot_config: {fewshot_delimiter: '#'}}")
    found = config.fewshot_config
    assert (found.sampler, found.fewshot_delimiter, found.doc_to_text({"country": "X"})) == ("first_n", "#", "Asked: X")


def test_a_cache_of_the_task_s_own_is_not_laid_over(tmp_path):
    folder_of(
        tmp_path,
        "toy_read",
        dataset_kwargs={"data_files": str(tmp_path / "x.jsonl"), "cache_dir": str(tmp_path / "own")},
    )
    (tmp_path / "x.jsonl").write_text('{"text": "a", "label": 0}\n' * 9)
    entry = "task: toy_read, metric: acc"
    assert config_of(tmp_path, entry, cache=tmp_path / "ours").dataset_kwargs["cache_dir"] == str(tmp_path / "own")
    folder_of(tmp_path, "toy_read", dataset_kwargs={"data_files": str(tmp_path / "x.jsonl")})
    assert config_of(tmp_path, entry, cache=tmp_path / "ours").dataset_kwargs["cache_dir"] == str(tmp_path / "ours")


def test_a_class_that_takes_no_configuration_is_refused_where_the_suite_says_some(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "data.py").write_text((TOY / "data.py").read_text() + OWN)
    (folder / "own.yaml").write_text("task: own\nclass: !function data.Own\n")
    (task,) = load_tasks(suite_of(tmp_path, "task: own, metric: acc"), None, allow_task_code=True)
    assert task.OUTPUT_TYPE == "multiple_choice"
    for said, key in (
        ("prompting: {num_fewshot: 2}", "num_fewshot"),
        ("config: {target_delimiter: x}", "target_delimiter"),
    ):
        with pytest.raises(
            ConfigError,
            match=rf"suite made: benchmark own: expected the task's `{key}` to be .*own class does not take it",
        ):
            load_tasks(suite_of(tmp_path, f"task: own, metric: acc, {said}"), None, allow_task_code=True)
