"""Corpus metrics are sacrebleu's and the harness's to the last digit, from the journal too; no score without its
tokeniser."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from made.models import tiny_llama
from made.translations import heard, judged, of_texts, pairs, sentence
from psomerge.errors import ArtefactError, ConfigError, ServiceError
from psomerge.evals.engines.engine import Answers
from psomerge.evals.engines.scripted import ScriptedEngine
from psomerge.evals.harness import FailedBenchmark, build
from psomerge.evals.harness.corpus import register, rows_of, spbleu_flores101, spbleu_flores200, texts
from psomerge.evals.metrics import corpus, spm
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.scores import Judgement
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import pooled
from runs.scripted_judging import built as sets_of
from runs.scripted_judging import capitals, judging, recipe_of, scripted

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

OFFLINE = ("bleu", "chrf", "chrf++")


@pytest.fixture
def tokenisers(tmp_path_factory, monkeypatch) -> Path:
    """sacrebleu's folder with a small sentencepiece model of our own as each of spBLEU's tokenisers."""
    import sentencepiece
    from sacrebleu.tokenizers import tokenizer_spm

    folder = tmp_path_factory.mktemp("sacrebleu")
    (folder / "models").mkdir()
    for name, size in (("sacrebleu_tokenizer_spm.model", 60), ("flores200sacrebleuspm", 70)):
        generator = random.Random(size)
        with (folder / "models" / name).open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([sentence(generator) for _ in range(200)]),
                model_writer=file,
                vocab_size=size,
                model_type="bpe",
                minloglevel=2,
            )
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(folder))
    monkeypatch.setattr(spm, "PUBLISHED", {})
    corpus._metric.cache_clear()
    yield folder
    corpus._metric.cache_clear()


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("metric", OFFLINE)
def test_the_score_of_summed_statistics_is_sacrebleus_of_the_texts_to_the_last_digit(metric, references):
    predictions, asked = pairs(80, references=references)
    assert 0.1 < judged(metric, predictions, asked).score == of_texts(metric, predictions, asked) < 0.9


@pytest.mark.parametrize("metric", [*OFFLINE, "spbleu_flores101", "spbleu_flores200"])
def test_the_score_is_that_of_the_harnesss_aggregation_to_the_last_digit(metric, tokenisers):
    from lm_eval.api.registry import get_aggregation, get_metric

    register()
    predictions, asked = pairs(80, seed=1)
    aggregate, of_item = get_aggregation(metric), get_metric(metric)
    assert aggregate is not None
    assert of_item is not None
    items = [of_item([listed[0], prediction]) for prediction, listed in zip(predictions, asked, strict=True)]
    assert judged(metric, predictions, asked).score == aggregate(items) / 100


def test_the_two_tokenisers_of_spbleu_score_differently(tokenisers):
    # Else a mix-up of their files would go unnoticed here.
    predictions, asked = pairs(80)
    items = [(listed[0], prediction) for prediction, listed in zip(predictions, asked, strict=True)]
    found = {spbleu_flores101(items), spbleu_flores200(items), 100 * of_texts("bleu", predictions, asked)}
    assert len(found) == 3
    assert (
        spbleu_flores200(items)
        == sacrebleu.corpus_bleu(predictions, list(zip(*asked, strict=True)), tokenize="flores200").score
    )


def test_an_item_s_value_is_sacrebleus_sentence_score():
    predictions, asked = pairs(40, references=2)
    for prediction, listed in zip(predictions, asked, strict=True):
        theirs = {
            "bleu": sacrebleu.sentence_bleu(prediction, listed).score,
            "chrf": sacrebleu.sentence_chrf(prediction, listed).score,
            "chrf++": sacrebleu.sentence_chrf(prediction, listed, word_order=2).score,
        }
        for metric, expected in theirs.items():
            assert corpus.sentence_score(metric, corpus.statistics(metric, prediction, listed)) == min(
                expected / 100, 1
            )


def test_chrf_and_bleu_are_what_their_formulas_give():
    # chrF of "abc" for "abd": 2 of 3 letters, 1 of 2 pairs, 0 of 1 triple; no longer n-grams. Precision = recall = (2/3
    # + 1/2 + 0) / 3 = F.
    assert judged("chrf", ["abc"], [["abd"]]).score == pytest.approx(7 / 18)
    # BLEU of the first four of five words: every n-gram matches, brevity exp(1 - 5/4).
    assert judged("bleu", ["a b c d"], [["a b c d e"]]).score == pytest.approx(math.exp(-1 / 4))
    # Two items together: 4 + 4 words of 5 + 4, all right; the mean of the two alone would be (exp(-1/4) + 1) / 2.
    assert judged("bleu", ["a b c d", "a b c d"], [["a b c d e"], ["a b c d"]]).score == pytest.approx(
        math.exp(1 - 9 / 8)
    )


def test_a_perfect_translation_scores_exactly_one():
    # sacrebleu's exp(log(100)) is 100.00000000000004.
    for metric in OFFLINE:
        found = judged(metric, ["the cat sat on the mat"], [["the cat sat on the mat"]])
        assert (found.score, found.values) == (1.0, (1.0,))


def test_a_metric_of_no_items_is_an_error():
    with pytest.raises(ValueError, match="bleu of no items"):
        corpus.score("bleu", [])


@pytest.mark.parametrize("metric", OFFLINE)
def test_scores_of_many_sums_are_those_of_each(metric):
    rows = np.array(
        [corpus.statistics(metric, *pair) for pair in zip(*pairs(60, seed=2), strict=True)], dtype=np.float64
    )
    short = [
        corpus.statistics(metric, *pair)
        for pair in (
            ("a", ["a"]),
            ("a b", ["b a"]),
            ("", ["a"]),
            ("x y z w v", ["a b c d e"]),
            ("a b c d", ["a b c d"]),
        )
    ]
    sums = np.vstack([rows, np.cumsum(rows, axis=0), np.array(short, dtype=np.float64), np.zeros_like(rows[:1])])
    assert corpus.scores(metric, sums) == pytest.approx(
        [corpus.score(metric, sums[place : place + 1]) for place in range(len(sums))], rel=1e-13, abs=1e-15
    )


def test_an_item_is_read_as_the_harness_reads_it():
    assert texts(["reference", "said"]) == texts((("reference",), ["said"])) == ("said", ["reference"])
    for item in (1.0, None, ["only one"], [["a", None], "b"], [[], "b"], ["a", ["b", "c"]]):
        with pytest.raises(ValueError, match="expected a reference"):
            texts(item)
    with pytest.raises(ValueError, match="as many references for each item, found 1 to 2"):
        rows_of("chrf", [(["a", "b"], "a"), ("a", "a")])


DATA = """
from datasets import Dataset
SENTENCES = {sentences!r}
def sentences(**_): return {{"test": Dataset.from_list(SENTENCES)}}
def several(doc, results): return {{"chrf++": (doc["both"], results[0]), "bleu": (doc["both"], results[0])}}
"""
TASK = """\
task: {name}
custom_dataset: !function data.sentences
test_split: test
output_type: generate_until
doc_to_text: "{{{{source}}}} ->"
doc_to_target: {target}
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 16}}
metric_list:
{metrics}
{more}
metadata: {{version: 1}}
"""


def line(metric: str) -> str:
    return (
        f"  - {{metric: {metric}, aggregation: {metric}, higher_is_better: {'false' if metric == 'ter' else 'true'}}}"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tasks of 40 short sentences in 20 documents: with one reference, with two by `process_results`, and with two as
    the harness cannot score them."""
    folder = tmp_path_factory.mktemp("translation")
    generator = random.Random(5)
    made = [sentence(generator, 8) for _ in range(40)]
    listed = [
        {"source": f"{n} {text}", "target": text, "both": [text, made[n - 1]], "passage": f"p{n // 2}"}
        for n, text in enumerate(made)
    ]
    (folder / "data.py").write_text(DATA.format(sentences=listed))
    names = ("bleu", "chrf", "chrf++", "spbleu_flores101", "spbleu_flores200", "ter")
    (folder / "one.yaml").write_text(
        TASK.format(name="one", target="target", metrics="\n".join(map(line, names)), more="")
    )
    more = "process_results: !function data.several"
    (folder / "two.yaml").write_text(
        TASK.format(name="two", target="target", metrics="\n".join(map(line, ("chrf++", "bleu"))), more=more)
    )
    (folder / "lost.yaml").write_text(TASK.format(name="lost", target="both", metrics=line("chrf"), more=""))
    return folder


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def suite_of(folder: Path, *entries: str, name: str = "made"):
    path = folder / f"{name}.yaml"
    head = (
        f"name: made\nsalt: s\nshares: {{optimisation: 0.5, validation: 0.2, test: 0.3}}\ngroup: passage\ninclude: "
        f"[{folder}]\nbenchmarks:\n"
    )
    path.write_text(
        head + "\n".join(f"  - {{{entry}, language: en, name: {place}-{name}}}" for place, entry in enumerate(entries))
    )
    return load_suite(path)


def built(folder: Path, tokenizer_folder: Path, *entries: str, split: str = "optimisation"):
    return build(suite_of(folder, *entries), split, tokenizer_folder, allow_task_code=True)


def said(prompt: str) -> str:
    return heard(random.Random(prompt), prompt.rpartition(" ->")[0].partition(" ")[2], 0.7)


def answers(evaluation, tokenizer_folder: Path) -> Answers:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    return Answers(generation=tuple(said(tokenizer.decode(request.prompt)) for request in evaluation.batch.generation))


def harness_results(folder: Path, task: str, samples: list[int]) -> dict:
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    class Scripted(LM):
        def generate_until(self, requests):
            return [said(request.args[0]) for request in requests]

        def loglikelihood(self, requests):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    found = evaluate(
        Scripted(),
        TaskManager(include_path=[folder], include_defaults=False).load([task]),
        samples={task: samples},
        bootstrap_iters=0,
    )
    assert found is not None
    return found["results"][task]


def test_replayed_translations_score_as_in_the_harness_to_the_last_digit(folder, tokenizer_folder, tokenisers):
    metrics = [
        ("one", "bleu"),
        ("one", "chrf"),
        ("one", "chrf++"),
        ("one", "spbleu_flores101"),
        ("one", "spbleu_flores200"),
        ("two", "bleu"),
        ("two", "chrf++"),
    ]
    evaluation = built(folder, tokenizer_folder, *(f"task: {task}, metric: {metric}" for task, metric in metrics))
    scores = evaluation.score(answers(evaluation, tokenizer_folder))
    samples = [doc for doc in range(40) if f"p{doc // 2}" in scores[0].groups]
    for (task, metric), score in zip(metrics, scores, strict=True):
        assert len(score.values) == len(score.statistics) == len(samples) > 10
        assert score.score == harness_results(folder, task, samples)[f"{metric},none"] / 100
        assert 0.1 < score.score < 0.99
    assert scores[0].score != scores[5].score  # a second reference counts


def test_the_journal_keeps_statistics_and_gives_the_same_score_back(folder, tokenizer_folder, tmp_path):
    suite = suite_of(folder, "task: one, metric: chrf++", "task: two, metric: bleu")
    evaluation = build(suite, "optimisation", tokenizer_folder, allow_task_code=True)
    of = dict(zip(evaluation.batch.generation, answers(evaluation, tokenizer_folder).generation, strict=True))
    sets = {"optimisation": evaluation}
    first = judging(tmp_path, suite, sets, ScriptedEngine(lambda *_: 0.0, lambda recipe, request: of[request])).judge(
        recipe_of(1), "optimisation", Label("star")
    )
    (entry,) = (json.loads(text) for text in (tmp_path / "journal.jsonl").read_text().splitlines())
    assert entry["statistics"] == {score.benchmark: [list(row) for row in score.statistics] for score in first.scores}
    again = judging(tmp_path, suite, sets, ScriptedEngine(lambda *_: 0.0, lambda *_: pytest.fail("asked again"))).judge(
        recipe_of(1), "optimisation", Label("star")
    )
    assert again == first
    assert first.fitness == pytest.approx((first.scores[0].score + first.scores[1].score) / 2)
    assert first.scores == evaluation.score(answers(evaluation, tokenizer_folder))


def test_suites_without_corpus_metrics_know_nothing_of_them(tokenizer_folder, tmp_path, monkeypatch):
    # Neither in what names their judgements nor in their journal: runs from before go on.
    monkeypatch.setattr(corpus, "signature", lambda name: pytest.fail("in the digest"))
    suite = capitals(tmp_path)
    sets = sets_of(suite, tokenizer_folder)
    judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 3)).judge(recipe_of(1), "test", Label("star"))
    (entry,) = (json.loads(text) for text in (tmp_path / "journal.jsonl").read_text().splitlines())
    assert "statistics" not in entry


def test_pooled_splits_score_as_one_corpus(folder, tokenizer_folder, tmp_path):
    suite = suite_of(folder, "task: one, metric: bleu")
    evaluation = build(suite, "optimisation", tokenizer_folder, allow_task_code=True)
    predictions, asked = pairs(30)
    whole = judged("bleu", predictions, asked, benchmark="0-made")
    parts = [judged("bleu", predictions[rows], asked[rows], benchmark="0-made") for rows in (slice(0, 5), slice(5, 30))]
    made = judging(tmp_path, suite, {"optimisation": evaluation}, ScriptedEngine(lambda *_: 0.0))
    both = pooled(
        made,
        {
            split: Judgement(part.score, (part,))
            for split, part in zip(("optimisation", "validation"), parts, strict=True)
        },
    )
    assert both.fitness == whole.score != pytest.approx((5 * parts[0].score + 25 * parts[1].score) / 30, abs=1e-4)


def test_an_evaluation_set_is_another_with_another_tokeniser_or_sacrebleu(
    folder, tokenizer_folder, tokenisers, monkeypatch
):
    digests = [
        built(folder, tokenizer_folder, f"task: one, metric: {metric}").digest
        for metric in ("spbleu_flores101", "spbleu_flores200", "bleu")
    ]
    (tokenisers / "models" / "sacrebleu_tokenizer_spm.model").write_bytes(
        (tokenisers / "models" / "flores200sacrebleuspm").read_bytes()
    )
    changed = [
        built(folder, tokenizer_folder, f"task: one, metric: {metric}").digest
        for metric in ("spbleu_flores101", "spbleu_flores200", "bleu")
    ]
    assert [one != other for one, other in zip(digests, changed, strict=True)] == [True, False, False]
    monkeypatch.setattr(corpus, "version", lambda name: "0")
    assert built(folder, tokenizer_folder, "task: one, metric: bleu").digest != digests[2]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("task: one, metric: ter", r"of metric 'ter' lower is better, and a search raises its fitness"),
        (
            "task: one, metric: exact_match, config: {metric_list: [{metric: exact_match, aggregation: median}]}",
            r"metric 'exact_match' is aggregated by 'median', expected a mean over items, such as acc .* or one of "
            r"bleu, chrf, chrf\+\+, spbleu_",
        ),
        ("task: lost, metric: chrf", r"makes 0 or 1 of a chrf with several references an item"),
    ],
)
def test_a_metric_that_cannot_be_a_fitness_is_refused_with_the_reason(folder, tokenizer_folder, entry, message):
    with pytest.raises(ConfigError, match=message):
        built(folder, tokenizer_folder, entry)


def test_a_tokeniser_that_cannot_be_had_is_known_when_the_suite_is_built(
    folder, tokenizer_folder, tmp_path, monkeypatch
):
    from sacrebleu.tokenizers import tokenizer_spm

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setitem(
        tokenizer_spm.SPM_MODELS, "flores101", {"url": "http://127.0.0.1:9/spm.model", "signature": "flores101"}
    )
    with pytest.raises(
        ServiceError,
        match=r"tokeniser flores101, and http://127.0.0.1:9/spm.model cannot be fetched .* put it at "
        rf"{tmp_path}/models/spm.model$",
    ):
        built(folder, tokenizer_folder, "task: one, metric: spbleu_flores101")
    assert not list(tmp_path.iterdir())


def test_a_missing_or_empty_tokeniser_is_fetched_whole_and_kept_only_if_it_is_the_published_one(tmp_path, monkeypatch):
    from sacrebleu.tokenizers import tokenizer_spm

    source = tmp_path / "far" / "spm.model"
    source.parent.mkdir()
    source.write_bytes(b"a model")
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setitem(tokenizer_spm.SPM_MODELS, "flores200", {"url": source.as_uri(), "signature": "flores200"})
    with pytest.raises(
        ArtefactError, match=rf"{source.as_uri()}: expected the tokeniser flores200 with SHA-256 14bb8dfb"
    ):
        spm.model_file("flores200")
    # The SHA-256 of `a model`, by coreutils.
    monkeypatch.setattr(
        spm, "PUBLISHED", {"flores200": "97ff8a35544dcf40ad84047074439dd6aa3a0be469ea578a1b1c017d939ec61c"}
    )
    path = tmp_path / "models" / "spm.model"
    for damage in (lambda: None, lambda: path.write_bytes(b"")):
        damage()
        assert spm.model_file("flores200") == path
        assert path.read_bytes() == b"a model"
    path.write_bytes(b"another model")
    with pytest.raises(ArtefactError, match=rf"{path}: expected the tokeniser flores200"):
        spm.model_file("flores200")


def test_an_item_without_a_text_fails_the_benchmark(folder, tokenizer_folder):
    evaluation = built(folder, tokenizer_folder, "task: two, metric: chrf++")
    one = evaluation.prepared[0]
    one.task.config.process_results = lambda doc, results: {"chrf++": 1.0}
    with pytest.raises(
        FailedBenchmark, match=r"0-made: ValueError: expected a reference \(or several\) and a prediction, found 1\.0"
    ):
        evaluation.score(answers(evaluation, tokenizer_folder))


@pytest.mark.parametrize("name", OFFLINE)
def test_a_translation_is_as_good_in_every_canonical_form(name):
    import unicodedata

    import sacrebleu

    for text in (
        "Hôm nay trời đẹp quá đi",
        "আয় বড় কথা নয় তাই না",
        "Ärger über Öl und Äpfel",
        "한국어로 정말 잘 말해요 지금",
    ):
        forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")] + [text]
        for reference in forms:
            for prediction in forms:
                assert corpus.score(name, [corpus.statistics(name, prediction, [reference])]) == 1.0
        # Texts that are stored composed have sacrebleu's own numbers.
        kind, settings = corpus.SETTINGS[name]
        theirs = getattr(sacrebleu.metrics, kind)(**settings).corpus_score([forms[0][:-4]], [[forms[0]]]).score
        ours = corpus.score(name, [corpus.statistics(name, forms[0][:-4], [forms[0]])])
        assert ours == pytest.approx(theirs / 100, abs=1e-15)
