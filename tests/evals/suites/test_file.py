"""Suites are read strictly, expanded by language, and say what the fitness is."""

from pathlib import Path

import pytest

from psomerge.errors import ConfigError
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.suite import Prompting

SUITE = """\
name: small
salt: s1
shares: {optimisation: 0.3, validation: 0.2, test: 0.5}
group: concept
limits: {optimisation: 50, test: 90}
benchmarks:
  - {task: pick, languages: [so, tk], metric: acc, limits: {optimisation: 20}}
  - {task: "xcopa_{language}", languages: [et], metric: acc, weight: 2,
     config: {dataset_name: "{language}", doc_to_text: "{{language}}"}}
  - {task: kind, language: en, metric: acc_norm, group: "{{kind}}"}
"""


def written(folder: Path, text: str = SUITE, name: str = "small.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_is_expanded_into_one_benchmark_a_language(tmp_path):
    suite = load_suite(written(tmp_path))
    assert [(b.name, b.task, b.language, b.template) for b in suite.benchmarks] == [
        ("pick_so", "pick", "so", True),
        ("pick_tk", "pick", "tk", True),
        ("xcopa_et", "xcopa_et", "et", False),
        ("kind", "kind", "en", False),
    ]
    assert suite.folder == tmp_path.resolve()


def test_limits_and_group_of_a_benchmark_go_before_the_suites(tmp_path):
    pick, _, xcopa, kind = load_suite(written(tmp_path)).benchmarks
    assert pick.limits == {"optimisation": 20, "test": 90}
    assert xcopa.limits == {"optimisation": 50, "test": 90}
    assert (pick.group, kind.group) == ("concept", "{{kind}}")


def test_the_language_is_filled_into_config_but_not_into_jinja(tmp_path):
    assert load_suite(written(tmp_path)).benchmarks[2].config == {"dataset_name": "et", "doc_to_text": "{{language}}"}


def test_a_shipped_name_is_found_in_the_given_folder_and_a_misspelt_one_gets_the_nearest(tmp_path):
    written(tmp_path, SUITE, "quickstart.yaml")
    assert load_suite("quickstart", tmp_path).name == "small"
    with pytest.raises(ConfigError, match=r"unknown suite 'quikstart'; did you mean quickstart\?"):
        load_suite("quikstart", tmp_path)


def test_norwegian_is_a_language_and_not_false(tmp_path):
    suite = load_suite(written(tmp_path, SUITE.replace("[so, tk]", "[NO, on, y]")))
    assert [b.language for b in suite.benchmarks[:3]] == ["NO", "on", "y"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight: 2", "wieght: 2", r"unknown key benchmarks\.1\.wieght; did you mean weight\?"),
        ("salt: s1", "salt: s1\nbenchmark: []", r"unknown key benchmark; did you mean benchmarks\?"),
        (
            "{optimisation: 20}",
            "{optimization: 20}",
            r"unknown key benchmarks\.0\.limits\.optimization; did you mean optimisation\?",
        ),
        ("salt: s1", "salt: s1\nsalt: s2", r"line 3: key 'salt' is given twice"),
        ("salt: s1", "salt: 1e-3", r"salt: .*valid string, found 0\.001"),
        ("[so, tk]", "[so, true]", r"benchmarks\.0\.languages\.1: .*valid string, found True"),
        ("[so, tk]", "[]", r"benchmarks\.0\.languages: .*at least 1"),
        ("[so, tk]", "[so, so]", r"several benchmarks are called pick_so"),
        ("[so, tk]", "[so, a/b]", r"benchmark name 'pick_a/b'"),
        ("test: 0.5", "test: 0.6", r"sum of at most 1, found 1\.1"),
        (
            "shares: {optimisation: 0.3, validation: 0.2, test: 0.5}\n",
            "",
            r"expected `shares` .*, or for each benchmark `split`",
        ),
        ("test: 0.5", "test: 0", r"shares\.test: .*greater than 0, found 0"),
        ("weight: 2", "weight: -1", r"benchmarks\.1\.weight: .*greater than 0, found -1"),
        ("weight: 2", "weight: true", r"benchmarks\.1\.weight: .*valid number, found True"),
        ("optimisation: 50", "optimisation: 0", r"limits\.optimisation: .*greater than or equal to 1, found 0"),
        ("languages: [et]", "language: et", r"`\{language\}` needs a list"),
        ("language: en", "language: en, languages: [en]", r"expected `language` .* or `languages`"),
        ("metric: acc_norm, ", "", r"benchmarks\.2: .*expected `metric` .* or `scorer`"),
        ("weight: 2", "floor: {at_most: 1}", r"unknown key benchmarks\.1\.floor\.at_most; did you mean at_least\?"),
        ("weight: 2", "floor: {at_least: 2}", r"benchmarks\.1\.floor\.at_least: .*less than or equal to 1, found 2"),
        ("weight: 2", "floor: {at_least: true}", r"floor\.at_least: .*valid number, found True"),
        ("weight: 2", "floor: {}", r"small\.yaml: benchmarks\.1\.floor: expected `at_least` .* or `below_base`"),
        ("salt: s1", "salt: s1\naggregate: {worst: 0}", r"aggregate\.worst: .*greater than or equal to 1, found 0"),
        ("salt: s1", "salt: s1\naggregate: {ovr: languages}", r"unknown key aggregate\.ovr; did you mean over\?"),
        (
            "salt: s1",
            "salt: s1\nprompting: {num_few_shot: 2}",
            r"unknown key prompting\.num_few_shot; did you mean num_fewshot\?",
        ),
        (
            "weight: 2",
            "prompting: {num_fewshot: 2, fewshot_as_multiturn: true}",
            r"benchmarks\.1\.prompting: `fewshot_as_multiturn` needs `chat_template: true`",
        ),
        (
            "weight: 2",
            "prompting: {chat_template_args: {enable_thinking: false}}",
            r"benchmarks\.1\.prompting: `chat_template_args` needs `chat_template: true`",
        ),
        (
            "weight: 2",
            "prompting: {chat_template: true, chat_template_args: {messages: []}}",
            r"`chat_template_args` cannot set messages: a template is told it already",
        ),
        ("weight: 2", "prompting: {date: 2026-02-30}", r"expected `date` as YYYY-MM-DD, found '2026-02-30'"),
        ("weight: 2", "prompting: {think_end: x}", r"unknown key .*think_end; did you mean think_end_token\?"),
        ("name: small", "name: ../small", r"name: "),
        (
            "name: small",
            "name: !!python/object/apply:os.getcwd []",
            r"line 1: found the tag !!python/object/apply:os.getcwd, expected a value without one",
        ),
        ("name: small", "name: [", r"line 3: expected"),
    ],
)
def test_a_bad_suite_gives_one_line_that_names_the_place(tmp_path, old, new, message):
    assert old in SUITE
    with pytest.raises(ConfigError, match=message) as caught:
        load_suite(written(tmp_path, SUITE.replace(old, new, 1)))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: b: c", "a: \x00", "1: 2"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"small\.yaml"):
        load_suite(written(tmp_path, text))


def test_a_file_that_is_missing_or_not_utf8_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: Lomé".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"expected UTF-8 text, found byte 0xe9 at offset 9"):
        load_suite(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{worst: 5}", "at most 4, the number of benchmarks, found 5"),
        ("{over: languages, worst: 5}", "at most 4, the number of languages"),
    ],
)
def test_an_aggregate_of_more_than_there_is_is_refused(tmp_path, given, words):
    with pytest.raises(ConfigError, match=words):
        load_suite(written(tmp_path, f"{SUITE}aggregate: {given}\n"))


def test_an_entry_says_only_what_is_other_than_in_the_suite(tmp_path):
    # The story: `prompting: {num_fewshot: 0}` of an entry dropped the chat template that the suite asks for.
    prompting = "prompting: {chat_template: true, num_fewshot: 3, system_instruction: Answer.}"
    one = SUITE.replace("salt: s1", f"salt: s1\n{prompting}").replace("weight: 2", "prompting: {num_fewshot: 0}")
    first, _, changed, last = load_suite(written(tmp_path, one)).benchmarks
    assert first.prompting == last.prompting == Prompting(3, True, False, "Answer.")
    assert changed.prompting == Prompting(0, True, False, "Answer.")
    assert load_suite(written(tmp_path, SUITE)).benchmarks[0].prompting.num_fewshot is None


def test_items_that_name_their_split_need_no_shares_and_their_word_must_be_a_split(tmp_path):
    from types import SimpleNamespace

    from psomerge.evals.harness.items import sort_documents

    text = "name: own\nsalt: s1\nbenchmarks:\n  - {task: pick, language: en, metric: acc, split: part}\n"
    suite = load_suite(written(tmp_path, text))
    assert suite.shares == {}
    parts = ["test", "optimisation", "validation", "test"]
    documents = sort_documents(
        suite, suite.benchmarks[0], SimpleNamespace(eval_docs=[{"n": n, "part": part} for n, part in enumerate(parts)])
    )
    assert documents.splits == tuple(parts)
    for doc, found in (({"n": 1, "part": "train"}, "'train'"), ({"n": 1}, "None")):
        with pytest.raises(
            ConfigError,
            match=r"benchmark pick: expected each item's 'part' to be one of optimisation, validation, test, found "
            rf"{found}",
        ):
            sort_documents(suite, suite.benchmarks[0], SimpleNamespace(eval_docs=[doc]))
