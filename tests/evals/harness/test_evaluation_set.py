"""Scores are lm-evaluation-harness's own, to the last digit, from tokens cut as it cuts them; and no model's answers
reach the next."""

import hashlib
import json
import math
import runpy
import shutil
import socket
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from made.models import tiny_llama
from places import TESTS
from psomerge.errors import ArtefactError, ConfigError, EngineError, ServiceError
from psomerge.evals.engines.engine import Answers, Batch, Continuation
from psomerge.evals.harness import FailedBenchmark, build
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.fitness import fitness

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

SUITES = TESTS / "benchmarks"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


def built(suite, tokenizer_folder, split="test", **settings):
    return build(suite, split, tokenizer_folder, allow_task_code=True, **settings)


def suite_of(tmp_path, *entries: str, more: str = "", folder: str = ""):
    """A suite of one-line entries on the toy tasks; `more` is whole lines, `folder` another folder of tasks."""
    lines = [
        "name: made",
        "salt: made",
        "shares: {optimisation: 0.4, validation: 0.2, test: 0.4}",
        f"include: [{folder or SUITES / 'toy'}]",
        more,
        "benchmarks:",
    ]
    path = tmp_path / "made.yaml"
    path.write_text("\n".join([*lines, *(f"  - {{{entry}}}" for entry in entries)]))
    return load_suite(path)


@cache
def capitals() -> dict[str, str]:
    """Of the toy tasks' countries, in the order of their documents."""
    return runpy.run_path(str(SUITES / "toy" / "data.py"))["CAPITALS"]


def number(text: str, model: str) -> float:
    """A model's opinion on a text, in [0, 1): arbitrary, fixed, and seen alike by both sides of a comparison."""
    return int(hashlib.sha256(f"{model}|{text}".encode()).hexdigest()[:8], 16) / 16**8


def said(prompt: str, model: str) -> str:
    country = next(country for country in capitals() if country in prompt)
    return (
        f"{capitals()[country].upper()}{'. Or not' if number(prompt, model) < 0.3 else ' or so.'}"
        if number(prompt, model) < 0.6
        else "I do not know.\n"
    )


def answers_of(batch: Batch, tokenizer, model: str) -> Answers:
    scored = [
        -10 * number(tokenizer.decode([*request.context, *request.continuation]), model)
        for request in batch.loglikelihood
    ]
    return Answers(
        tuple(Continuation(value, value > -1) for value in scored),
        tuple(said(tokenizer.decode(request.prompt), model) for request in batch.generation),
    )


def harness_results(task: str, samples: list[int], model: str, language: str) -> dict:
    """The same opinions asked for by the harness's own `evaluate`."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    class Scripted(LM):
        def loglikelihood(self, requests):
            scored = [-10 * number("".join(request.args), model) for request in requests]
            return [(value, value > -1) for value in scored]

        def generate_until(self, requests):
            return [said(request.args[0], model).split("\n")[0].split(".")[0] for request in requests]

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

    manager = TaskManager(include_path=[SUITES / "toy"], include_defaults=False, metadata={"language": language})
    found = evaluate(Scripted(), manager.load([task]), samples={task: samples}, bootstrap_iters=0)
    assert found is not None
    return found["results"][task]


@pytest.mark.parametrize("model", ["first", "second", "third"])
def test_replayed_answers_score_as_in_the_harness_to_the_last_digit(tokenizer_folder, tokenizer, model):
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    scores = evaluation.score(answers_of(evaluation.batch, tokenizer, model))
    keys = {
        "toy_pick_en": "acc_norm,none",
        "toy_pick_NO": "acc_norm,none",
        "toy_pick_acc": "acc,none",
        "toy_say_en": "exact_match,first-word",
    }
    assert [score.benchmark for score in scores] == list(keys)
    for score in scores:
        samples = [place for place, country in enumerate(capitals()) if country in score.groups]
        theirs = harness_results(
            "toy_say" if "say" in score.benchmark else "toy_pick", samples, model, score.language.replace("und", "en")
        )
        assert len(samples) == len(score.values) > 2
        assert score.score == theirs[keys[score.benchmark]]


def test_the_toy_models_are_sometimes_right_and_sometimes_wrong(tokenizer_folder, tokenizer):
    # Else the comparison with the harness would compare zeros.
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    values = [
        score.values
        for model in ("first", "second", "third")
        for score in evaluation.score(answers_of(evaluation.batch, tokenizer, model))
    ]
    for benchmark in range(4):
        assert {value for found in values[benchmark::4] for value in found} == {0.0, 1.0}


def starting(folder: Path, target: Path, token: str | None) -> Path:
    """The tokenizer of a folder that puts a start token before every text, or that only has one, or none."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if token:
        tokenizer.add_special_tokens({"bos_token": "<s>"})
    if token == "always":
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(target)
    return target


@pytest.mark.parametrize("token", [None, "known", "always"])
def test_tokens_are_those_that_the_harness_feeds_to_transformers(tokenizer_folder, tmp_path, token):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from psomerge.evals.harness.encoding import Encoder

    folder = starting(tokenizer_folder, tmp_path / "tokenizer", token)
    theirs = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(tokenizer_folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        device="cpu",
    )
    pairs = [
        ("The capital of Peru is", " Lima"),
        ("Hovedstaden i Togo er ", "Lomé"),
        ("two  ", "spaces"),
        ("", "no context"),
        ("<s>once", " only"),
        ("ñ\n", "\n"),
    ]
    instances = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    taken = []
    theirs._loglikelihood_tokens = lambda requests, **_: taken.extend(requests) or []
    theirs.loglikelihood(instances, disable_tqdm=True)
    encoder = Encoder(folder)
    assert [(list(ours.context), list(ours.continuation)) for ours in encoder.loglikelihood(instances)] == [
        (before, after) for _, before, after in taken
    ]
    assert (
        encoder.loglikelihood(instances)[1].continuation[0]
        == theirs.tokenizer.encode(" L", add_special_tokens=False)[0]
    )  # the space moved over
    for context in ("The capital of Peru is", "trailing ", "<s>once"):
        generation = encoder.generation(
            [Instance("generate_until", {}, (context, {"until": ["\n"], "max_gen_toks": 5}), 0)]
        )[0]
        assert [list(generation.prompt)] == theirs.tok_batch_encode([context])[0].tolist()
        assert (generation.stop, generation.max_tokens) == (("\n", "<eos>"), 5)


def test_a_prompt_longer_than_the_model_loses_its_start(tokenizer_folder, caplog):
    from lm_eval.api.instance import Instance

    from psomerge.evals.harness.encoding import Encoder

    # tiny_llama takes 256 positions; its tokenizer makes one token of each ASCII letter.
    request = Encoder(tokenizer_folder).loglikelihood([Instance("loglikelihood", {}, ("x" + "a" * 300, "b" * 6), 0)])[0]
    assert (len(request.context), len(request.continuation), len(set(request.context))) == (250, 6, 1)
    assert "1 of 1 prompts lose their start" in caplog.text


def test_a_second_scoring_knows_nothing_of_the_first(tokenizer_folder, tokenizer):
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    first, second = (answers_of(evaluation.batch, tokenizer, model) for model in ("first", "second"))
    before = evaluation.score(first)
    assert evaluation.score(second) != before
    with pytest.raises(FailedBenchmark):
        evaluation.score(replace(first, loglikelihood=(*first.loglikelihood[:-1], Continuation(math.nan, False))))
    assert evaluation.score(first) == before
    assert all(
        not instance.resps and not instance.filtered_resps
        for one in evaluation.prepared
        for instance in one.task.instances
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_fails_the_benchmark_by_name(tokenizer_folder, tokenizer, value):
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    answers = answers_of(evaluation.batch, tokenizer, "first")
    with pytest.raises(FailedBenchmark, match=f"toy_pick_en: log-likelihood {value}"):
        evaluation.score(replace(answers, loglikelihood=(Continuation(value, False), *answers.loglikelihood[1:])))


def test_another_number_of_answers_is_the_engines_fault(tokenizer_folder, tokenizer):
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    answers = answers_of(evaluation.batch, tokenizer, "first")
    with pytest.raises(EngineError, match="expected 6 answers of kind generation, found 5"):
        evaluation.score(replace(answers, generation=answers.generation[1:]))


def test_a_metric_that_crashes_fails_the_benchmark(tokenizer_folder, tokenizer, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "odd.py").write_text(
        "def judged(doc, results):\n    doc.pop('capital')\n    return {'acc': 1 / 0 if 'x' in results[0] else 2.0 "
        "if 'y' in results[0] else 0.5}\n"
    )
    text = (
        (SUITES / "toy" / "toy_say.yaml")
        .read_text()
        .replace("task: toy_say", "task: odd\nprocess_results: !function odd.judged")
    )
    shutil.copy(SUITES / "toy" / "data.py", folder)
    text = text.replace("metric: exact_match", "metric: acc").replace(", ignore_case: true", "")
    (folder / "odd.yaml").write_text(text)
    evaluation = built(
        suite_of(tmp_path, "task: odd, metric: acc, filter: whole", folder=str(folder)), tokenizer_folder
    )
    count = len(evaluation.batch.generation)
    assert evaluation.score(Answers(generation=("b",) * count))[0].score == 0.5
    with pytest.raises(FailedBenchmark, match=r"odd: item [0-9a-f]{16}: ZeroDivisionError"):
        evaluation.score(Answers(generation=("b",) * (count - 1) + ("x",)))
    with pytest.raises(FailedBenchmark, match=r"got acc 2\.0; expected a number in \[0, 1\]"):
        evaluation.score(Answers(generation=("b",) * (count - 1) + ("y",)))


def test_equal_requests_are_sent_once_and_answer_every_benchmark_that_asks(tokenizer_folder, tokenizer):
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    items = {name: len(found) for name, found in evaluation.items.items()}
    # toy_pick_acc asks the very requests of toy_pick_en.
    assert len(evaluation.batch.loglikelihood) == 4 * (items["toy_pick_en"] + items["toy_pick_NO"])
    pick, _, same, _ = evaluation.prepared
    assert pick.asked == same.asked


def test_the_longest_request_is_told_with_its_answer(tokenizer_folder):
    evaluation = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder)
    # One token a byte; Austria, the longest of the countries, is in the test split.
    assert evaluation.longest == len("The capital of Austria is") + 16
    assert replace(evaluation, batch=replace(evaluation.batch, generation=())).longest == len(
        "The capital of Austria is N'Djamena"
    )


def test_choices_of_an_item_lie_side_by_side_with_one_context(tokenizer_folder):
    batch = built(load_suite(SUITES / "toy.yaml"), tokenizer_folder).batch
    contexts = [request.context for request in batch.loglikelihood]
    assert all(len(set(contexts[start : start + 4])) == 1 for start in range(0, len(contexts), 4))


def test_splits_share_no_group_in_any_benchmark_and_miss_none(tokenizer_folder):
    suite = load_suite(SUITES / "toy.yaml")
    groups = [
        {group for one in built(suite, tokenizer_folder, split).prepared for group in one.items.groups}
        for split in suite.shares
    ]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(capitals())


def test_the_seed_draws_optimisation_items_and_has_no_say_elsewhere(tokenizer_folder, tmp_path):
    suite = suite_of(tmp_path, "task: toy_pick, metric: acc", more="limits: {optimisation: 2, validation: 2, test: 2}")
    drawn = {
        split: {built(suite, tokenizer_folder, split, seed=seed).items["toy_pick"] for seed in range(6)}
        for split in ("optimisation", "validation", "test")
    }
    assert all(len(items) == 2 for found in drawn.values() for items in found)
    assert len(drawn["optimisation"]) > 1
    assert len(drawn["validation"]) == len(drawn["test"]) == 1


def test_the_digest_is_the_same_in_another_folder_and_changes_with_whatever_changes_a_score(tokenizer_folder, tmp_path):
    def digest(folder: Path, old: str = "", new: str = "", file: str = "toy.yaml") -> str:
        shutil.copytree(SUITES, folder)
        assert old in (folder / file).read_text()
        (folder / file).write_text(
            (folder / file).read_text().replace(old, new) if old else (folder / file).read_text()
        )
        return built(load_suite(folder / "toy.yaml"), tokenizer_folder).digest

    task = "toy/toy_say.yaml"
    changes = [
        ("name: toy\n", "name: toys\n", "toy.yaml"),
        ("salt: toy-1", "salt: toy-2", "toy.yaml"),
        ("weight: 2", "weight: 3", "toy.yaml"),
        ("weight: 2", "weight: 2, floor: {at_least: 0.5}", "toy.yaml"),
        ("metric: acc_norm", "metric: acc", "toy.yaml"),
        ("filter: first-word", "filter: whole", "toy.yaml"),
        ("ignore_case: true", "ignore_case: false", task),
        ("max_gen_toks: 16", "max_gen_toks: 17", task),
        ("doc_to_target: capital", "doc_to_target: country", task),
        ("The capital of", "What capital has", "toy/data.py"),
        ("step in range(4)", "step in (0, 2, 3, 1)", "toy/data.py"),
    ]
    digests = [
        digest(tmp_path / "same1"),
        *(digest(tmp_path / str(place), *change) for place, change in enumerate(changes)),
    ]
    assert digest(tmp_path / "same2") == digests[0]
    assert len(set(digests)) == len(changes) + 1


def test_a_benchmark_without_items_in_a_split_is_refused(tokenizer_folder, tmp_path):
    suite = suite_of(tmp_path, "task: toy_pick, metric: acc, name: pick", more='group: "{{1}}"')
    # All items are in the group "1", which lies in one split; the other two are empty.
    refused = []
    for split in suite.shares:
        try:
            built(suite, tokenizer_folder, split)
        except ArtefactError as error:
            refused.append(str(error))
    assert len(refused) >= 2
    assert all("benchmark pick: no item of its 12 falls into the split" in text for text in refused)


def test_data_files_are_read_through_the_given_cache(tokenizer_folder, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"Is {n} even?", "label": n % 2}) + "\n" for n in range(20)))
    suite = suite_of(tmp_path, f"task: toy_read, metric: acc, config: {{dataset_kwargs: {{data_files: {data}}}}}")
    evaluation = built(suite, tokenizer_folder, cache=tmp_path / "cache")
    assert 0 < len(evaluation.batch.loglikelihood) == 2 * len(evaluation.items["toy_read"])
    assert list((tmp_path / "cache").rglob("*.arrow"))
    data.write_text("")
    with pytest.raises(ArtefactError, match=r"benchmark toy_read: cannot load task toy_read: "):
        built(suite, tokenizer_folder, cache=tmp_path / "cache2")


def test_a_document_that_does_not_fit_its_template_is_refused(tokenizer_folder, tmp_path):
    suite = suite_of(tmp_path, 'task: toy_pick, metric: acc, group: "{{contry}}"')
    with pytest.raises(
        ArtefactError, match=r"benchmark toy_pick: cannot sort its documents: UndefinedError: 'contry' is undefined"
    ):
        built(suite, tokenizer_folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("task: toy_pick, metric: accc", r"has no metric 'accc'; did you mean acc\?"),
        ("task: toy_rolling, metric: word_perplexity", r"loglikelihood_rolling"),
        ("task: toy_say, metric: exact_match", r"has the filters whole, first-word; say which"),
        ("task: toy_say, metric: exact_match, filter: hole", r"no filter 'hole'; did you mean whole\?"),
        (
            "task: toy_pick, metric: brier_score, config: {metric_list: [{metric: brier_score}]}",
            r"of metric 'brier_score' lower is better",
        ),
        (
            "task: toy_pick, scorer: 'psomerge.evals.scorers.language:InLanguage', scorer_options: {language: eo}",
            r"a scorer judges what a model writes, and task toy_pick asks",
        ),
        ("task: toy_pick, metric: acc, group: contry", r"group 'contry' is no field of its documents \(country, "),
        (
            "task: toy_say, metric: exact_match, filter: whole, config: {generation_kwargs: {do_sample: true, "
            "temperature: 1.0, until: []}}",
            r"samples its answers",
        ),
        (
            "task: toy_say, metric: exact_match, filter: whole, config: {generation_kwargs: {num_beams: 4}}",
            r"benchmark toy_say: task toy_say asks for num_beams: 4 in its generation_kwargs, and answers are greedy",
        ),
    ],
)
def test_a_benchmark_that_cannot_be_scored_is_refused_with_the_reason(tokenizer_folder, tmp_path, entry, message):
    with pytest.raises(ConfigError, match=message):
        built(suite_of(tmp_path, entry), tokenizer_folder)


def test_tasks_beside_a_users_suite_run_only_with_leave_and_beside_a_shipped_one_at_once(tokenizer_folder):
    with pytest.raises(ConfigError, match=r"toy can run code; set allow_task_code"):
        build(load_suite(SUITES / "toy.yaml"), "test", tokenizer_folder)
    shipped = build(load_suite("toy", SUITES), "test", tokenizer_folder)
    assert shipped.digest == built(load_suite(SUITES / "toy.yaml"), tokenizer_folder).digest


def test_templates_in_a_users_suite_run_only_with_leave(tokenizer_folder, tmp_path):
    suite = suite_of(
        tmp_path,
        'task: xcopa_et, metric: acc, config: {doc_to_text: "{{cycler.__init__.__globals__.os.getcwd()}}"}',
        folder="xcopa",
    )
    with pytest.raises(ConfigError, match=r"benchmark xcopa_et: a template in `config` can run code"):
        build(suite, "test", tokenizer_folder)


def test_a_group_template_can_run_no_code(tokenizer_folder, tmp_path):
    suite = suite_of(
        tmp_path, "task: toy_pick, metric: acc", more='group: "{{country}}{{cycler.__init__.__globals__.os.getcwd()}}"'
    )
    with pytest.raises(ArtefactError, match="SecurityError"):
        built(suite, tokenizer_folder)


def test_the_harnesss_own_tasks_need_no_leave_but_their_data(tokenizer_folder, tmp_path):
    # Tests run without the hub: the folder is found and indexed, the download is what fails.
    suite = suite_of(tmp_path, "task: xcopa_et, metric: acc", folder="xcopa")
    with pytest.raises(ServiceError, match="benchmark xcopa_et: cannot load task xcopa_et, a server did not answer: "):
        build(suite, "test", tokenizer_folder, cache=tmp_path / "cache")


def test_a_hub_that_does_not_answer_is_told_at_once(tokenizer_folder, tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for library in (constants, datasets.config):
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    folder, begin = "xcopa", time.monotonic()
    suite = suite_of(tmp_path, "task: xcopa_et, metric: acc", "task: xcopa_it, metric: acc", folder=folder)
    with pytest.raises(ServiceError) as caught:
        build(suite, "test", tokenizer_folder, cache=tmp_path / "cache")
    assert time.monotonic() - begin < 15  # the library's own five tries take 23 s for each file
    first, second = str(caught.value).splitlines()
    told = "a server did not answer: its data are not here, and http://127.0.0.1:"
    assert f"benchmark xcopa_et: cannot load task xcopa_et, {told}" in first
    assert "cannot be reached" in second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "message"),
    [("xcopa_ett", r"'xcopa_ett' is no task; did you mean xcopa_et\?"), ("xcopa", "'xcopa' is a group of tasks")],
)
def test_a_task_that_nobody_has_is_refused_with_the_nearest_name(tokenizer_folder, tmp_path, task, message):
    with pytest.raises(ConfigError, match=message):
        built(suite_of(tmp_path, f"task: {task}, metric: acc"), tokenizer_folder)


def test_an_unknown_folder_of_tasks_is_refused(tokenizer_folder, tmp_path):
    with pytest.raises(ConfigError, match="include 'tooy' is no folder"):
        built(suite_of(tmp_path, "task: toy_pick, metric: acc", folder="tooy"), tokenizer_folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="cannot open its tokenizer"):
        build(load_suite(SUITES / "toy.yaml"), "test", tmp_path)


def test_fitness_follows_from_the_scores(tokenizer_folder, tokenizer):
    suite = load_suite(SUITES / "toy.yaml")
    evaluation = built(suite, tokenizer_folder)
    scores = evaluation.score(answers_of(evaluation.batch, tokenizer, "first"))
    en, no, acc, say = (score.score for score in scores)
    assert fitness(suite, scores) == pytest.approx((en + no + 2 * acc + say) / 5)
