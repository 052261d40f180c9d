"""Answers in the digits and the Unicode forms of their language are compared by what they say; the harness's own figure
stands beside."""

import json
import unicodedata
from pathlib import Path

import pytest

from made.models import tiny_llama
from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness import build
from psomerge.evals.suites.file import load_suite
from psomerge.tasks.search import items as traces

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

TASK = """\
task: asked
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 16}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}}
{more}filter_list:
  - {{name: written, filter: [{{function: take_first}}]}}
  - {{name: number, filter: [{{function: last_number, language: {language}}}, {{function: take_first}}]}}
  - name: latin
    filter: [{{function: regex, regex_pattern: "(-?[0-9.,]+)", group_select: -1}}, {{function: take_first}}]
metadata: {{version: 1}}
"""
SHARES = "{optimisation: 0.1, validation: 0.1, test: 0.8}"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def evaluation_of(tmp_path: Path, tokenizer: Path, entry: str, answer: str, language: str = "bn", rows: int = 30):
    """Items that ask for `answer`, by one benchmark."""
    tasks = tmp_path / "tasks"
    tasks.mkdir(exist_ok=True)
    items = [{"question": f"Question {k}:", "answer": answer} for k in range(rows)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    number = f"  - {{metric: same_number, aggregation: mean, higher_is_better: true, language: {language}}}\n"
    more = number if "same_number" in entry else ""
    (tasks / "asked.yaml").write_text(TASK.format(data=tmp_path / "items.jsonl", language=language, more=more))
    path = tmp_path / "made.yaml"
    path.write_text(
        f"name: made\nsalt: made\nshares: {SHARES}\ninclude: [tasks]\nbenchmarks:\n  - {{task: asked, {entry}}}\n"
    )
    return build(load_suite(path), "test", tokenizer, cache=tmp_path / "cache", allow_task_code=True)


def examined(evaluation, *texts: str):
    """The examples of the first items, one for each text; the others answer nothing."""
    count = len(evaluation.batch.generation)
    answers = Answers(generation=(*texts, *[""] * (count - len(texts))))
    ((_, examples),) = evaluation.examine(answers)
    return examples[: len(texts)]


NUMBERS = "metric: same_number, filter: number, beside: {metric: exact_match, filter: latin}"


def test_a_right_number_in_native_digits_scores_1_and_one_with_a_point_in_it_0(tmp_path, tokenizer):
    # The harness's own figure: it reads 0 to 9 alone, and leaves the point out.
    evaluation = evaluation_of(tmp_path, tokenizer, NUMBERS, "31")
    examples = examined(evaluation, "৩১", "মোট ৩১টি", "３１", "31", "3.1", "৩.১", "-31", "13", "1", "")
    assert [one.value for one in examples] == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert [one.beside for one in examples] == [0, 0, 0, 1, 1, 0, 1, 0, 0, 0]
    assert [one.extracted for one in examples] == ["31", "31", "31", "31", "3.1", "3.1", "-31", "13", "1", "[invalid]"]
    traces.write(examples, tmp_path / "a.parquet")
    assert traces.read(tmp_path / "a.parquet") == examples
    assert traces.beside([tmp_path / "a.parquet"]) == {"asked": pytest.approx(0.3)}


def test_the_metric_reads_a_whole_answer_too_and_items_are_scored_as_they_come(tmp_path, tokenizer):
    evaluation = evaluation_of(tmp_path, tokenizer, "metric: same_number, filter: written", "1000", language="de")
    assert [one.value for one in examined(evaluation, "80 + 920 = 1.000", "1,000", "1000,0 €")] == [1, 0, 1]
    for entry in ("metric: same_number, filter: number", "metric: exact_match, filter: number"):
        evaluation = evaluation_of(tmp_path, tokenizer, entry, "1000", language="de")
        tally = evaluation.tally()
        tally.add(Answers(generation=("1000", "2000")))
        assert (tally.value(0, 0), tally.value(0, 1), tally.value(0, 2)) == (1, 0, None)


def test_a_reference_without_a_number_fails_the_benchmark_by_name(tmp_path, tokenizer):
    with pytest.raises(
        ArtefactError, match=r"benchmark asked: item .*: expected a reference with a number, found 'many'"
    ):
        evaluation_of(tmp_path, tokenizer, NUMBERS, "many")


FORMS = {
    "NFC": unicodedata.normalize("NFC", "Ünïté ế"),
    "NFD": unicodedata.normalize("NFD", "Ünïté ế"),
    "full-width": "Ünïté ế".replace("n", "ｎ").replace("t", "ｔ"),
    "soft hyphen": "Ün\u00adïté ế",
}


@pytest.mark.parametrize("reference", FORMS)
def test_a_text_is_right_in_every_unicode_form_of_it(tmp_path, tokenizer, reference):
    evaluation = evaluation_of(
        tmp_path,
        tokenizer,
        "metric: exact_match, filter: written, beside: {metric: exact_match}",
        FORMS[reference],
    )
    examples = examined(evaluation, *FORMS.values(), "Unité ế", "Ünïté")
    assert [one.value for one in examples] == [1, 1, 1, 1, 0, 0]
    assert [one.beside for one in examples] == [float(form == reference) for form in FORMS] + [0, 0]


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        ("كتاب", "\ufedb\ufe98\ufe8e\ufe8f", "كتب"),  # presentation forms
        ("ガ", "ｶﾞ", "カ"),  # half-width
        ("क़लम", "\u0958लम", "कलम"),  # a letter that NFC takes apart
        ("ﬁn", "fin", "fn"),
        ("x²", "x²", "x2"),
        ("৩১", "31", "13"),
        ("می‌خواهم", "می‌خواهم", "میخواهم"),  # a joiner that is read
    ],
)
def test_forms_of_scripts(tmp_path, tokenizer, reference, right, wrong):
    evaluation = evaluation_of(tmp_path, tokenizer, "metric: exact_match, filter: written", reference)
    assert [one.value for one in examined(evaluation, right, wrong)] == [1, 0]


def test_the_other_figure_is_checked_like_the_first(tmp_path, tokenizer):
    for beside, message in (
        ("{metric: exact_mach}", "beside: task asked has no metric 'exact_mach'; did you mean exact_match"),
        ("{metric: exact_match, filter: lattin}", "has no filter 'lattin'; did you mean latin"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluation_of(tmp_path, tokenizer, f"metric: same_number, filter: number, beside: {beside}", "31")


def test_a_benchmark_without_another_figure_tells_none(tmp_path, tokenizer):
    evaluation = evaluation_of(tmp_path, tokenizer, "metric: same_number, filter: number", "31")
    assert [one.beside for one in examined(evaluation, "31")] == [None]
