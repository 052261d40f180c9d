"""The date in the prompts is that of the first day, in every later run of the suite, and in its key."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from made.models import tiny_llama
from places import TOY
from psomerge.errors import StateError
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.harness import build_all
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.suite import Suite
from psomerge.run.folder import run_key
from psomerge.tasks.search import asked_on as module
from psomerge.tasks.search.asked_on import asked_on
from psomerge.tasks.search.run_identity import identity

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

TEMPLATE = "Today: {{ strftime_now('%d %b %Y') }}{% for m in messages %} {{ m.content }}{% endfor %}"


def suite_of(folder: Path, prompting: str) -> Suite:
    (folder / "dated.yaml").write_text(
        "name: dated\nsalt: s\nshares: {optimisation: 0.4, validation: 0.2, test: 0.4}\n"
        f"include: [{TOY}]\nprompting: {prompting}\nbenchmarks:\n  - {{task: toy_pick, metric: acc}}\n"
    )
    return load_suite(folder / "dated.yaml")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_llama(tmp_path_factory.mktemp("dated"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def day(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    monkeypatch.setattr(module, "today", lambda: date)


def run_of(home: Path, suite: Suite, model: Path) -> tuple[str, str, tuple[str, ...]]:
    """Key, first prompt and dates of a run of the suite."""
    sets = build_all(suite, ("optimisation", "test"), model, allow_task_code=True, date=asked_on(home, suite))
    described = identity({"name": "x"}, {}, sets, engine="transformers", settings=EngineSettings())
    assert described.get("dates", []) == list(sets["test"].dates)
    return run_key(described), sets["test"].prepared[0].task.instances[0].args[0], sets["test"].dates


@pytest.mark.heavy
def test_the_same_command_asks_the_same_the_next_day(tmp_path, model, monkeypatch):
    suite = suite_of(tmp_path, "{chat_template: true}")
    day(monkeypatch, "2026-03-01")
    first = run_of(tmp_path / "home", suite, model)
    assert first[1].startswith("Today: 01 Mar 2026 The capital of")
    assert first[2] == ("2026-03-01",)
    day(monkeypatch, "2026-03-02")
    assert run_of(tmp_path / "home", suite, model) == first
    other = run_of(
        tmp_path / "other", suite, model
    )  # who begins on another day asks otherwise, and it shows in the key
    assert other[1].startswith("Today: 02 Mar 2026")
    assert other[0] != first[0]
    changed = suite_of(tmp_path, "{chat_template: true, date: '2024-07-26'}")
    fixed = [run_of(tmp_path / home, changed, model) for home in ("home", "other")]
    assert fixed[0] == fixed[1]
    assert fixed[0][1].startswith("Today: 26 Jul 2024")


@pytest.mark.heavy
def test_prompts_without_a_date_are_those_of_every_day(tmp_path, model, monkeypatch):
    keys = set()
    for date in ("2026-03-01", "2026-03-02"):
        day(monkeypatch, date)
        key, prompt, dates = run_of(tmp_path / date, suite_of(tmp_path, "{}"), model)
        keys.add(key)
        assert (dates, "Today" in prompt, (tmp_path / date).exists()) == ((), False, False)
    assert len(keys) == 1


def test_a_look_keeps_nothing_and_a_damaged_record_is_refused(tmp_path, monkeypatch):
    suite = suite_of(tmp_path, "{chat_template: true}")
    day(monkeypatch, "2026-03-01")
    assert asked_on(tmp_path / "home", suite, keep=False) == "2026-03-01"
    assert not (tmp_path / "home").exists()
    asked_on(tmp_path / "home", suite)
    (record,) = (tmp_path / "home" / "dates").iterdir()
    record.write_bytes(record.read_bytes().replace(b"03-01", b"03-02"))
    with pytest.raises(StateError, match="its content does not fit its sha256; remove it"):
        asked_on(tmp_path / "home", suite)
