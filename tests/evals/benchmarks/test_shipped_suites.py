"""Every language of every shipped suite makes its prompts, on data of the form that the hub has, without a network; and
what belongs together stays together.

`hub_data` refuses data sets, configurations, files and revisions that the hub does not have, so that a suite that
renders here names real ones.
"""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from doubles import hub_data
from doubles.hub_data import ARTICLES, TOPICS
from made.models import tiny_llama
from places import SHIPPED
from psomerge.errors import ArtefactError
from psomerge.evals.benchmarks.flores.answers import one_line
from psomerge.evals.benchmarks.flores.languages import IN_FLORES_PLUS, english_name
from psomerge.evals.benchmarks.flores.pairs import dataset as flores_pairs
from psomerge.evals.benchmarks.flores.passages import article_of, articles, groups_of
from psomerge.evals.benchmarks.milic.tasks import CODES, same_number
from psomerge.evals.benchmarks.sib200 import topics
from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness.building import build_all
from psomerge.evals.harness.tasks import load_tasks
from psomerge.evals.suites.file import load_suite

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

NAMES = ["understanding", "reasoning", "translation", "bayling2", "low-resource", "glue"]
LETTERS = [" A", " B", " C", " D"]


def shipped(name: str):
    return load_suite(name, SHIPPED)


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory):
    """The hub in little, and a file where sacrebleu looks for its tokeniser: only its digest is asked for before there
    are answers."""
    import datasets
    from sacrebleu.tokenizers import tokenizer_spm

    folder = tmp_path_factory.mktemp("sacrebleu")
    (folder / "models").mkdir()
    (folder / "models" / "sacrebleu_tokenizer_spm.model").write_bytes(b"stands for a sentencepiece model")
    articles.cache_clear()
    topics._articles.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_dataset", hub_data.load_dataset)
        patch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(folder))
        yield
    articles.cache_clear()
    topics._articles.cache_clear()


@pytest.fixture(scope="module")
def built(tmp_path_factory, hub):
    """Evaluation sets of a suite by split, each suite built once."""
    folder = tiny_llama(tmp_path_factory.mktemp("tokenizer"))
    for file in ("config.json", "generation_config.json", "model.safetensors"):  # without them a prompt may be long
        (folder / file).unlink()
    return cache(
        lambda name: build_all(shipped(name), ("optimisation", "test") if name == "low-resource" else ("test",), folder)
    )


def number_of(doc) -> int:
    """The number of a made-up row, which its texts tell."""
    text = " ".join(
        str(doc[key])
        for key in (
            "input_sentence_1",
            "ctx_a",
            "instruction",
            "premise",
            "word",
            "context",
            "source",
            "text",
            "question",
            "sentence",
            "sentence1",
            "question1",
        )
        if key in doc
    )
    return int(re.findall(r"(?:Sentence|Question|Premise|story|Context|Problem|Text|Talk|word|one of) (\d+)", text)[-1])


def of_flores(code: str) -> str:
    return IN_FLORES_PLUS.get(code, code)


def lettered(code: str, k: int, question: str) -> str:
    return (
        question + "".join(f"\n{letter.upper()}. option {letter} of {k} in {code}" for letter in "abcd") + "\nAnswer:"
    )


def belebele(code, k):
    passage = " ".join(hub_data.sentence(code, 2 * (k // 2) + step) for step in (0, 1))
    answers = "".join(f"\n{letter}: answer {place} in {code}" for place, letter in enumerate("ABCD", 1))
    return f"P: {passage}\nQ: Question {k} in {code}?{answers}\nAnswer:", LETTERS, k % 4


def sib200(code, k):
    labels = "science/technology, travel, politics, sports, health, entertainment, or geography"
    text = hub_data.sentence(code, k)
    return (
        f"Given the categories {labels}; what category does the text: '{text}' belong to: \n\n",
        [f" {topic}" for topic in TOPICS],
        k % 7,
    )


def xnli(code, k):
    words = {"de": ("richtig", "Ja", "Auch", "Nein"), "sw": ("sahihi", "Ndiyo", "Hivyo", "Hapana")}.get(code)
    texts = (
        [f" Premise {k} in {code}., {words[0]}? {word}, Hypothesis {k} in {code}." for word in words[1:]]
        if words
        else None
    )
    return "", texts, k % 3


def xcopa(code, k):
    words = {"et": ("sest", "seetõttu"), "zh": ("因为", "所以")}.get(code)
    return (
        f"Premise {k} in {code} {words[k % 2]}" if words else (f"Premise {k} in {code} ",),
        [f" first {k} in {code}.", f" second {k} in {code}."],
        k % 2,
    )


def xstorycloze(code, k):
    story = " ".join(f"Sentence {step} of story {k} in {code}." for step in (1, 2, 3, 4))
    return story, [f" End of {k} in {code}.", f" Other end of {k} in {code}."], k % 2


def hellaswag(code, k):
    return (
        f"Activity in {code}: Context {k} in {code}. Then",
        [f" ending {step} of {k} in {code}" for step in range(4)],
        k % 4,
    )


def arc(code, k):
    return (
        f"Question: Question {k} in {code}\nAnswer:",
        [f" option {letter} of {k} in {code}" for letter in "abcd"],
        k % 4,
    )


def mmlu(code, k):
    return lettered(code, k, f"Question {k} in {code}"), LETTERS, k % 4


def mgsm(code, k):
    return (f"Problem {k} in {code}?\n",), None, str(100 + k)


def flores(source, target):
    def expected(code, k):
        codes = [code if part == "X" else {"eng": "eng_Latn", "zho": "zho_Hans"}[part] for part in (source, target)]
        asked, answer = (hub_data.sentence(of_flores(one), k) for one in codes)
        return f"\n\n{english_name(codes[0])}: {asked}\n{english_name(codes[1])}:", None, answer

    return expected


def bayling(source, target):
    def expected(code, k):
        codes = [code if part == "X" else {"eng": "eng_Latn", "zho": "zho_Hans"}[part] for part in (source, target)]
        asked, answer = (hub_data.sentence(of_flores(one), k) for one in codes)
        return f"Provide the {english_name(codes[1])} translation for this sentence: {asked}", None, answer

    return expected


def wmt22(code, k):
    source, target = code.split("-")
    name = {"en": "English", "de": "German", "zh": "Chinese"}[target]
    return f"Provide the {name} translation for this sentence: Text {k} in {source}.", None, f"Text {k} in {target}."


MILIC_NAMES = {"bod_Tibt": "Tibetan", "uig_Arab": "Uyghur", "kaz_Arab": "Kazakh", "mvf_Mong": "Mongolian"}


def milic(before: str, choices: bool = True):
    def expected(code, k):
        short = CODES[code]
        options = (
            "Options:" + "".join(f"\n{letter}. option {letter} of {k} in {short}" for letter in "ABCD") + "\nAnswer:"
        )
        turns = f"Context:\nTurn one of {k} in {short}\nTurn two\n"
        return before.format(name=MILIC_NAMES[code], k=k, code=short, turns=turns) + options, LETTERS, k % 4

    return expected


def milic_topic(code, k):
    text = f"Text: Text {k} in {CODES[code]}."
    # Labels in the order of their names; row k has the label k % 2 of (Sports, Health).
    return ("\n" + text, "\nCandidate labels: Health, Sports\nAnswer:"), [" Health", " Sports"], 1 - k % 2


def milic_math(code, k):
    return (
        f"Please solve the following {MILIC_NAMES[code]} math problem step by step.\nProblem: Problem {k} in "
        f"{CODES[code]}?\nStep-by-step solution:",
        None,
        str(k),
    )


def milic_translation(article: bool, into_english: bool):
    def expected(code, k):
        english = hub_data.sentence("eng_Latn", k) if article else f"Talk {k} in en."
        own = hub_data.sentence(CODES[code], k) if article else f"Talk {k} in {CODES[code]}."
        (source, asked), (target, answer) = [(MILIC_NAMES[code], own), ("English", english)][
            :: 1 if into_english else -1
        ]
        return (
            f"Please translate the following {source} text into {target}.\n{source}: {asked}\n{target}:",
            None,
            answer,
        )

    return expected


def glue(prompt: str, answers: list[str]):
    return lambda code, k: (prompt.format(k=k), None, answers[k % len(answers)])


PAIR = "'Sentence {k}.' and 'Other {k}.'"
EXPECTED = {
    # Word for word what FusionBench asks, its spelling too.
    "glue_cola": glue(
        "Indicate if the following sentence is grammatically correct or not: \"Sentence {k}.\". Answere 'acceptable' "
        "or 'unacceptable'.",
        ["unacceptable", "acceptable"],
    ),
    "glue_mnli": glue(
        "Does the premise: 'Premise {k}.' logically imply, contradict, or is neutral to the hypothesis: 'Hypothesis "
        "{k}.'? "
        "Answere with 'entailment', 'contradiction', or 'neutral'.",
        ["entailment", "neutral", "contradiction"],
    ),
    "glue_mrpc": glue(
        f"Are the following sentences {PAIR} conveying the same meaning? Answere with 'yes' or 'no'.", ["no", "yes"]
    ),
    "glue_qnli": glue(
        "Given the context: 'Sentence {k}.', does the question 'Question {k}?' have an answer based on the "
        "information provided? Answer with 'yes' or 'no'.",
        ["yes", "no"],
    ),
    "glue_qqp": glue(
        "Do the questions 'Question {k}?' and 'Other {k}?' have the same intent? Answere with 'yes' or 'no'.",
        ["no", "yes"],
    ),
    "glue_rte": glue(
        "Does the text: 'Sentence {k}.' entail that 'Other {k}.' is true? Provide 'yes' or 'no'.", ["yes", "no"]
    ),
    "glue_sst2": glue(
        "Given the sentence 'Sentence {k} ', determine the sentiment. Is it positive or negative?",
        ["negative", "positive"],
    ),
    "glue_stsb": glue(
        f"Consider the sentences {PAIR}. On a scale from 1 (completely different) to 5 (completely similar), rate "
        "the similarity.",
        ["0.0", "1.2", "5.0"],
    ),
    r"belebele_\w+": belebele,
    "sib200": sib200,
    "xnli": xnli,
    r"xcopa_\w+": xcopa,
    r"xstorycloze_\w+": xstorycloze,
    r"hellaswag(_\w+)?": hellaswag,
    r"arc_challenge|arc_\w+": arc,
    r"m_mmlu_\w+|global_mmlu": mmlu,
    r"mgsm_\w+": mgsm,
    "flores_to_eng": flores("X", "eng"),
    "flores_from_eng": flores("eng", "X"),
    "flores_to_zho": flores("X", "zho"),
    "flores_from_zho": flores("zho", "X"),
    "bayling_to_eng": bayling("X", "eng"),
    "bayling_from_eng": bayling("eng", "X"),
    "bayling_to_zho": bayling("X", "zho"),
    "bayling_from_zho": bayling("zho", "X"),
    r"wmt22_\w\w-\w\w": wmt22,
    "milic_vocabulary": milic("Please choose the meaning of the {name} word word {k} in {code}.\n"),
    "milic_response": milic("Please select an appropriate response for the following {name} dialogue.\n{turns}"),
    "milic_comprehension": milic(
        "Please read the following {name} dialogue and answer the question.\n{turns}Question: Question {k} in {code}?\n"
    ),
    "milic_topic_sentence|milic_topic_passage": milic_topic,
    "milic_math": milic_math,
    "milic_article_to_eng": milic_translation(True, True),
    "milic_article_from_eng": milic_translation(True, False),
    "milic_dialogue_to_eng": milic_translation(False, True),
    "milic_dialogue_from_eng": milic_translation(False, False),
}
"""By task: the end of the prompt (or, where the words are the language's own, parts of it), the choices (None where the
model writes) and the gold of row k."""


def expected(task: str, code: str, k: int):
    (found,) = [function for pattern, function in EXPECTED.items() if re.fullmatch(pattern, task)]
    return found(code, k)


def items_of(prepared):
    """Each item with its number, its prompt and, of multiple choice, its continuations."""
    by_doc = defaultdict(list)
    for instance in prepared.task.instances:
        by_doc[instance.doc_id].append(instance)
    for place, doc in enumerate(prepared.items.docs):
        instances = sorted(by_doc[place], key=lambda instance: instance.idx)
        yield (
            doc,
            number_of(doc),
            instances[0].args[0],
            [instance.args[1] for instance in instances if instance.request_type == "loglikelihood"],
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_language_of_a_shipped_suite_renders_its_prompts(built, name):
    for one in built(name)["test"].prepared:
        benchmark = one.benchmark
        items = list(items_of(one))
        assert items, benchmark.name
        for doc, k, prompt, continuations in items:
            end, choices, gold = expected(benchmark.task, benchmark.language, k)
            for part in end if isinstance(end, tuple) else (end,):
                assert part in prompt, (benchmark.name, prompt)
            assert isinstance(end, tuple) or prompt.endswith(end), (benchmark.name, prompt)
            assert not re.search(r"[{}]|None|Undefined", prompt + "".join(continuations)), (benchmark.name, prompt)
            if one.task.OUTPUT_TYPE != "multiple_choice":
                assert str(one.task.doc_to_target(doc)) == gold, benchmark.name
                continue
            assert len(set(continuations)) == len(continuations) >= 2, benchmark.name
            assert choices is None or continuations == choices, (benchmark.name, continuations)
            found = one.task.doc_to_target(doc)
            assert (found if isinstance(found, int) else one.task.doc_to_choice(doc).index(found)) == gold, (
                benchmark.name
            )


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_suite_tells_how_many_benchmarks_it_has(name):
    head = (SHIPPED / f"{name}.yaml").read_text().partition("\nname:")[0]
    told = re.search(r"(\d+) benchmarks", head)
    assert told is not None
    assert int(told[1]) == len(shipped(name).benchmarks)


def test_belebele_sib_and_the_others_are_there_in_every_language_they_have():
    languages = defaultdict(set)
    for benchmark in shipped("understanding").benchmarks:
        languages[benchmark.task.removesuffix(f"_{benchmark.language}")].add(benchmark.language)
    assert languages.pop("belebele") == set(hub_data.BELEBELE)
    assert languages.pop("sib200") == set(hub_data.SIB_200)
    assert languages.pop("global_mmlu") == set(hub_data.GLOBAL_MMLU)
    assert languages.pop("xstorycloze") == set(hub_data.XSTORY)
    assert (len(hub_data.BELEBELE), len(hub_data.SIB_200), len(hub_data.GLOBAL_MMLU)) == (122, 205, 42)
    assert {task: len(found) for task, found in languages.items()} == {
        "xnli": 15,
        "xcopa": 11,
        "hellaswag": 30,
        "arc": 31,
        "m_mmlu": 34,
    }


@pytest.mark.parametrize(("name", "least"), [("translation", 100), ("bayling2", 100)])
def test_translation_goes_both_ways_with_english_and_with_chinese_in_a_hundred_languages(name, least):
    ways = defaultdict(set)
    for benchmark in shipped(name).benchmarks:
        if benchmark.task.startswith(("flores", "bayling")):
            ways[benchmark.task.partition("_")[2]].add(benchmark.language)
    assert set(ways) == {"to_eng", "from_eng", "to_zho", "from_zho"}
    assert ways["to_eng"] == ways["from_eng"]
    assert ways["to_zho"] == ways["from_zho"] == ways["to_eng"] - {"zho_Hans"}
    assert len(ways["to_zho"]) >= least
    assert "eng_Latn" not in ways["to_eng"]


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_is_pinned_whose_revision_is_known(name):
    # What the hub in little asks for, told once more by the suite's own text: three data sets have no revision that is
    # known.
    unpinned = {benchmark.task for benchmark in shipped(name).benchmarks if benchmark.revision is None}
    assert all(re.match(r"m_mmlu_|wmt22_|milic_", task) for task in unpinned)


def test_one_passage_is_one_group_in_belebele_sib_flores_and_milic(built):
    groups = defaultdict(set)
    for one in [*built("low-resource")["test"].prepared, *built("low-resource")["optimisation"].prepared]:
        if one.benchmark.task.startswith(("belebele", "sib200", "flores", "milic_article")):
            for doc, group in zip(one.items.docs, one.items.groups, strict=True):
                groups[one.benchmark.task.split("_")[0], number_of(doc)].add(group)
    # Sentence k of FLORES is of article k // 2; question k of Belebele is about its passage k // 2, of the same
    # article.
    assert {task for task, _ in groups} == {"belebele", "sib200", "flores", "milic"}
    assert all(found == {ARTICLES[k // 2]} for (_, k), found in groups.items())


def test_no_article_is_in_two_splits_of_a_suite(built):
    seen = [
        {group for one in built("low-resource")[split].prepared for group in one.items.groups}
        for split in ("optimisation", "test")
    ]
    assert all(seen)
    assert not seen[0] & seen[1]


def test_in_a_suite_without_flores_the_sentences_of_sib_are_found_in_belebele(built):
    groups = {
        (number_of(doc), group)
        for one in built("understanding")["test"].prepared
        if one.benchmark.task == "sib200"
        for doc, group in zip(one.items.docs, one.items.groups, strict=True)
    }
    assert groups
    assert all(group == ARTICLES[k // 2] for k, group in groups)


def test_glue_is_searched_on_training_items_and_reported_on_validation_items(tmp_path_factory):
    folder = tiny_llama(tmp_path_factory.mktemp("glue"))
    for file in ("config.json", "generation_config.json", "model.safetensors"):
        (folder / file).unlink()
    built = build_all(shipped("glue"), ("optimisation", "validation", "test"), folder)
    for place, benchmark in enumerate(shipped("glue").benchmarks):
        ours = {split: built[split].prepared[place].items for split in built}
        # In little: 36 training rows, half for each of two splits; 12 validation rows. What a row says is told by its
        # number alone.
        numbers = {split: {doc["idx"] for doc in items.docs} for split, items in ours.items()}
        assert [len(numbers[split]) for split in ("optimisation", "validation", "test")] == [18, 18, 12], benchmark.name
        assert numbers["optimisation"] | numbers["validation"] == set(range(36))
        assert numbers["test"] == set(range(12))


@pytest.mark.parametrize("name", ["understanding", "reasoning"])
def test_translations_of_one_item_share_their_group(built, name):
    by_family = defaultdict(lambda: defaultdict(set))
    for one in built(name)["test"].prepared:
        family = re.split(r"_(?=[a-z]+(?:_[A-Z]\w+)?$)", one.benchmark.task.replace("global_mmlu", "m_mmlu_xx"))[0]
        for doc, group in zip(one.items.docs, one.items.groups, strict=True):
            by_family[family][number_of(doc)].add(group)
    assert len(by_family) == {"understanding": 8, "reasoning": 2}[name]  # MMLU and Global-MMLU are one family
    for family, groups in by_family.items():
        assert all(len(found) == 1 for found in groups.values()), family
        assert len({group for found in groups.values() for group in found}) > 1, family


def test_mgsm_shows_its_eight_examples_before_each_problem(built):
    for one in built("reasoning")["test"].prepared:
        for _, _, prompt, _ in items_of(one):
            assert all(f"Example {k} in {one.benchmark.language}?" in prompt for k in range(8))


ZEROS = {"bn": "০", "te": "౦", "th": "๐", "zh": "\uff10", "ja": "\uff10"}


def test_mgsm_takes_a_right_number_in_any_digits_and_tells_the_harnesss_own_figure_beside(built):
    # The problems' answers are 100, 101, ...: first right in native or full-width digits, then with a point between.
    evaluation = built("reasoning")["test"]
    asked = {}
    for one in evaluation.prepared:
        zero = ZEROS.get(one.benchmark.language, "0")
        for place, doc in zip(one.asked, one.items.docs, strict=True):
            right = str(doc["answer_number"])
            asked[place] = "".join(chr(ord(zero) + int(digit)) for digit in right), f"{right[:2]}.{right[2]}"
    for kind in (0, 1):
        answers = Answers(generation=tuple(f"So: {asked[place][kind]}." for place in range(len(asked))))
        for score, examples in evaluation.examine(answers):
            theirs = 1.0 if kind or score.language not in ZEROS else 0.0
            assert (score.score, {one.beside for one in examples}) == (1.0 - kind, {theirs}), score.benchmark


def test_flores_shows_five_sentences_of_dev_before_one_of_devtest(built):
    for one in built("translation")["test"].prepared:
        for _, _, prompt, _ in items_of(one):
            assert (prompt.count(" of dev,"), prompt.count(" of devtest,")) == (10, 1), prompt


def test_xnli_asks_what_the_harnesss_own_tasks_ask(tmp_path):
    import lm_eval.tasks

    theirs = Path(lm_eval.tasks.__file__).parent / "xnli"
    path = tmp_path / "theirs.yaml"
    languages = [benchmark.language for benchmark in shipped("understanding").benchmarks if benchmark.task == "xnli"]
    entry = (
        f'{{task: "xnli_{{language}}", languages: [{", ".join(languages)}], metric: acc, revision: '
        f"b8dd5d7af51114dbda02c0e3f6133f332186418e}}"
    )
    path.write_text(
        f"name: theirs\nsalt: s\nshares: {{optimisation: 0.3, validation: 0.2, test: 0.4}}\ninclude: "
        f"[{theirs}]\nbenchmarks:\n  - {entry}\n"
    )
    whole = path.read_text()
    ours = tmp_path / "ours.yaml"
    ours.write_text(whole.replace(str(theirs), "xnli").replace('task: "xnli_{language}"', "task: xnli"))
    pairs = [load_tasks(load_suite(file), None, allow_task_code=True) for file in (ours, path)]
    assert len(pairs[0]) == 15
    for own, other in zip(*pairs, strict=True):
        assert own.config.target_delimiter == other.config.target_delimiter
        for doc, theirs_doc in zip(own.eval_docs, other.eval_docs, strict=True):
            assert own.doc_to_text(doc) == other.doc_to_text(theirs_doc)
            assert own.doc_to_choice(doc) == other.doc_to_choice(theirs_doc)
            assert own.doc_to_target(doc) == other.doc_to_target(theirs_doc)


def test_a_language_that_the_hub_does_not_have_is_refused_by_name(tmp_path):
    path = tmp_path / "made.yaml"
    entry = "{task: sib200, languages: [tel_Latn], metric: acc, revision: 38977a667f6fc264d5c26ec57a01e16db040b358}"
    path.write_text(
        f"name: made\nsalt: s\nshares: {{optimisation: 0.3, validation: 0.2, test: 0.4}}\ninclude: "
        f"[sib200]\nbenchmarks:\n  - {entry}\n"
    )
    with pytest.raises(
        ArtefactError,
        match=r"sib200_tel_Latn: cannot load task sib200: FileNotFoundError: Davlan/sib200 has no configuration "
        r"tel_Latn",
    ):
        load_tasks(load_suite(path), None, allow_task_code=True)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"path": "facebook/flores", "name": "eng_Latn"}, "no data set facebook/flores"),
        (
            {"path": "facebook/belebele", "name": "uig_Arab", "revision": hub_data.HUB["facebook/belebele"][2]},
            "no configuration uig_Arab",
        ),
        ({"path": "facebook/belebele", "name": "tel_Telu"}, "no revision None"),
        ({"path": "pkupie/milic-eval", "data_files": {"test": "vocabulary/zh/test.json"}}, "no file vocabulary/zh"),
    ],
)
def test_the_hub_in_little_refuses_what_the_hub_has_not(asked, message):
    with pytest.raises(FileNotFoundError, match=message):
        hub_data.load_dataset(**asked)


def test_languages_have_the_names_of_babel_and_no_two_of_flores_share_one():
    names = {code: english_name(code) for code in {*hub_data.FLORES_200, *hub_data.BELEBELE}}
    assert len(set(names.values())) == len(names)
    assert [names[code] for code in ("swh_Latn", "zho_Hans", "ace_Arab", "sin_Latn", "tgl_Latn", "prs_Arab")] == [
        "Swahili",
        "Chinese",
        "Acehnese (Arabic script)",
        "Sinhala (Latin script)",
        "Filipino",
        "Dari",
    ]
    with pytest.raises(ValueError, match="language 'xxx_Latn' has no English name in Babel"):
        english_name("xxx_Latn")


def test_a_sentence_is_found_whatever_its_blanks_and_a_strange_one_is_its_own_group():
    assert article_of("Sentence 3 of devtest,  written in eng_Latn. ", "flores") == ARTICLES[1]
    assert article_of("Sentence 3 of devtest, written in eng_Latn.", "belebele") == ARTICLES[1]
    assert article_of("Sentence 3 of dev, written in eng_Latn.", "belebele") is None
    known, strange = ("a", "Sentence 0 of devtest, written in eng_Latn."), ("b", "Something else.")
    assert groups_of([known, strange], "flores") == {"a": ARTICLES[0], "b": "b"}
    with pytest.raises(ValueError, match="expected sentences of flores, found 1 others among 2, such as b"):
        groups_of([known, strange], "flores", known=0.98)


def test_two_languages_with_other_sentences_are_no_pair(monkeypatch):
    import datasets

    def shorter(path, name, **more):
        loaded = hub_data.load_dataset(path, name, **more)
        return (
            datasets.DatasetDict({part: rows.select(range(11)) for part, rows in loaded.items()})
            if name == "tel_Telu"
            else loaded
        )

    monkeypatch.setattr(datasets, "load_dataset", shorter)
    revision = hub_data.HUB["openlanguagedata/flores_plus"][2]
    with pytest.raises(ValueError, match="expected the same sentences in two languages of FLORES, found 12 and 11"):
        flores_pairs(language="tel_Telu", hub="eng_Latn", into_hub=True, revision=revision)


def test_english_keeps_its_floor_in_bayling2():
    floors = {benchmark.name: benchmark.floor for benchmark in shipped("bayling2").benchmarks if benchmark.floor}
    assert set(floors) == {"belebele_eng_Latn", "xnli_en", "m_mmlu_en", "arc_challenge", "hellaswag"}
    assert all((floor.at_least, floor.below_base) == (None, 0.01) for floor in floors.values())


def test_the_fields_of_bayling2_count_alike():
    # FLORES, WMT22, three low-resource data sets and what is to be kept: one each, but for rounding of the weights in
    # the file.
    weights = defaultdict(float)
    for benchmark in shipped("bayling2").benchmarks:
        kept = benchmark.language in ("eng_Latn", "en", "zho_Hans", "zh") and not benchmark.task.startswith("bayling")
        weights["kept" if kept else benchmark.task.split("_")[0]] += benchmark.weight
    assert dict(weights) == pytest.approx(
        {"bayling": 1, "wmt22": 1, "belebele": 1, "xnli": 1, "m": 1, "kept": 1}, rel=0.01
    )


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("So the answer is 42.", 1),
        ("1,042", 0),
        ("42 of 50", 0),
        ("The answer: 42.0", 1),
        ("no number", 0),
        ("", 0),
        ("6 * 7 = 42", 1),
        ("༤༢", 1),
        ("٤٢", 1),
        ("４２．０", 1),
        ("-42", 0),
        ("4.2", 0),
    ],
)
def test_the_last_number_of_an_answer_counts_in_milic_math(answer, right):
    assert same_number({"answer": "42"}, [answer])["acc"] == right


def test_milics_own_reading_stands_beside():
    found = same_number({"answer": "42"}, ["-42"]), same_number({"answer": "1.5"}, ["１．５"])
    assert found == ({"acc": 0, "acc_published": 1}, {"acc": 1, "acc_published": 0})


def test_an_answer_of_bayling_becomes_one_line():
    assert one_line([["Habari\n ya  leo \n"], [""]], None) == [["Habari ya leo"], [""]]
