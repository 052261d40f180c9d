"""Scorers in a suite: leave for a user's own, what they see, what fails a judgement, and replies that are asked for
once, also after a kill."""

from pathlib import Path

import pytest

from made.models import tiny_llama
from places import TOY
from psomerge.errors import ConfigError
from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness import FailedBenchmark, build
from psomerge.evals.suites.file import load_suite
from psomerge.run.journal import Journal
from psomerge.tasks.search.journal_memory import JournalMemory

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

SCORER = """\
seen = []

def starts_right(item, output, *, letters):
    seen.append((item.language, item.prompt, item.reference))
    return float(output[:letters] == item.reference[:letters])

def too_much(item, output):
    return 2

class Asking:
    def __init__(self):
        self.asked = []

    def score(self, items, outputs, memory):
        for item in items:
            if item.name not in memory:
                self.asked.append(item.name)
                memory[item.name] = "1"
        return [float(memory[item.name]) for item in items]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def beside(tmp_path, monkeypatch) -> None:
    """The user's module lies where psomerge is started."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SCORER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def module(folder: Path) -> str:
    return f"mine_{folder.name.replace('-', '_')}"


def suite(folder: Path, entry: str):
    path = folder / "scored.yaml"
    shares = "{optimisation: 0.4, validation: 0.2, test: 0.4}"
    path.write_text(
        f"name: scored\nsalt: toy-1\nshares: {shares}\ninclude: [{TOY}]\nbenchmarks:\n  - {{task: toy_say, filter: "
        f"whole, {entry}}}\n"
    )
    return load_suite(path)


def test_a_users_function_is_one_line_and_needs_leave(tmp_path, model):
    import sys

    one = suite(tmp_path, f"languages: [de], scorer: '{module(tmp_path)}:starts_right', scorer_options: {{letters: 2}}")
    with pytest.raises(ConfigError, match="set allow_task_code if you trust it"):
        build(one, "test", model)
    evaluation = build(one, "test", model, allow_task_code=True)
    docs = evaluation.prepared[0].items.docs
    texts = [doc["capital"] if place % 2 else doc["capital"][0] + "?" for place, doc in enumerate(docs)]
    ((score, examples),) = evaluation.examine(Answers(generation=tuple(texts)))
    assert score.values == tuple(float(place % 2) for place in range(len(docs)))
    assert (score.metric, score.score) == ("starts_right", sum(score.values) / len(docs))
    assert [(one.output, one.reference, one.value) for one in examples] == [
        (text, doc["capital"], float(place % 2)) for place, (text, doc) in enumerate(zip(texts, docs, strict=True))
    ]
    assert sys.modules[module(tmp_path)].seen == [("de", doc["question"], doc["capital"]) for doc in docs]


def test_a_number_out_of_range_fails_the_benchmark_by_name(tmp_path, model):
    evaluation = build(suite(tmp_path, f"scorer: '{module(tmp_path)}:too_much'"), "test", model, allow_task_code=True)
    with pytest.raises(FailedBenchmark, match=r"toy_say: .*too_much.*2"):
        evaluation.score(Answers(generation=("x",) * len(evaluation.batch.generation)))


def test_the_digest_changes_with_the_scorers_options_and_with_its_text(tmp_path, model):
    def digest(letters: int) -> str:
        one = suite(tmp_path, f"scorer: '{module(tmp_path)}:starts_right', scorer_options: {{letters: {letters}}}")
        return build(one, "test", model, allow_task_code=True).digest

    first = digest(2)
    assert digest(2) == first != digest(3)
    (tmp_path / f"{module(tmp_path)}.py").write_text(SCORER + "\n# another text\n")
    assert digest(2) != first


def test_what_a_scorer_remembers_is_in_the_journal_and_outlives_the_process(tmp_path, model):
    evaluation = build(suite(tmp_path, f"scorer: '{module(tmp_path)}:Asking'"), "test", model, allow_task_code=True)
    scorer = evaluation.prepared[0].scorer
    answers = Answers(generation=("x",) * len(evaluation.batch.generation))
    journal = Journal(tmp_path / "journal.jsonl", "0123456789abcdef")
    assert evaluation.score(answers, JournalMemory(journal))[0].score == 1
    journal.close()
    names = list(evaluation.prepared[0].items.names)
    asking = (
        scorer._scorer
        if hasattr(scorer, "_scorer")
        else next(value for value in vars(scorer).values() if hasattr(value, "asked"))
    )
    assert asking.asked == names
    again = JournalMemory(Journal(tmp_path / "journal.jsonl", "0123456789abcdef"))
    assert dict(again) == dict.fromkeys(names, "1")
    evaluation.score(answers, again)
    assert asking.asked == names


def test_whether_an_answer_is_in_the_asked_language_is_a_metric_of_shipped_code(tmp_path, model):
    one = suite(
        tmp_path,
        "languages: [de], scorer: 'psomerge.evals.scorers.language:InLanguage', scorer_options: {language: "
        "'{language}'}",
    )
    evaluation = build(one, "test", model, allow_task_code=True)
    texts = ["Das ist eine schöne Stadt mit vielen alten Häusern.", "This is a beautiful town with many old houses."]
    count = len(evaluation.batch.generation)
    (score,) = evaluation.score(Answers(generation=tuple((texts * count)[:count])))
    assert score.values == tuple(float(place % 2 == 0) for place in range(count))
