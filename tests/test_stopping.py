"""Exact early stopping: the tally's floats are the score's, its bound never falls below the fitness, and what is stopped could not have won."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from models import tiny_llama

from evals.engine import Answers, Batch, Continuation
from evals.fitness import References, aggregate, fitness
from evals.harness import EvaluationSet, FailedBenchmark, build
from evals.stopping import ExactStop
from evals.suite import Suite
from evals.suite_file import load_suite

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")

TOY = Path(__file__).parent / "benchmarks" / "toy"
ENTRIES = (
    "task: toy_pick, languages: [en, 'NO'], metric: acc_norm",
    "task: toy_pick, language: en, name: twice, metric: acc, weight: 2",
    "task: toy_say, languages: [en], metric: exact_match, filter: first-word",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def suite_of(folder: Path, *entries: str, aggregate_text: str = "{}", include: Path = TOY) -> Suite:
    lines = ["name: made", "salt: made", "shares: {optimisation: 0.8, validation: 0.1, test: 0.1}", f"include: [{include}]", f"aggregate: {aggregate_text}"]
    path = folder / "made.yaml"
    path.write_text("\n".join([*lines, "benchmarks:", *(f"  - {{{entry}}}" for entry in entries or ENTRIES)]))
    return load_suite(path)


def built(folder: Path, tokenizer: Path, *entries: str, include: Path = TOY) -> EvaluationSet:
    return build(suite_of(folder, *entries, include=include), "optimisation", tokenizer, allow_task_code=True)


def answers_of(batch: Batch, seed: int) -> Answers:
    draw = random.Random(seed)
    texts = tuple(draw.choice(["Lima", "Lomé", "Oslo", "?"]) for _ in batch.generation)
    return Answers(tuple(Continuation(-10 * draw.random(), False) for _ in batch.loglikelihood), texts)


def prefix(answers: Answers, count: int) -> Answers:
    scored = len(answers.loglikelihood)
    return Answers(answers.loglikelihood[:count], answers.generation[: max(0, count - scored)])


def total(batch: Batch) -> int:
    return len(batch.loglikelihood) + len(batch.generation)


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_tally_is_the_score_to_the_last_bit_and_never_rises_on_its_way(tmp_path: Path, tokenizer: Path, seed: int) -> None:
    evaluation = built(tmp_path, tokenizer)
    answers, tally = answers_of(evaluation.batch, seed), evaluation.tally()
    assert set(tally.most().values()) == {1.0}
    way = []
    for count in [*sorted(random.Random(seed).sample(range(total(evaluation.batch)), 12)), total(evaluation.batch)]:
        tally.add(prefix(answers, count))
        way.append(tally.most())
    assert way[-1] == {score.benchmark: score.score for score in evaluation.score(answers)}
    assert all(before[name] >= after[name] for before, after in pairwise(way) for name in after)
    assert 0 < sum(score.score for score in evaluation.score(answers)) < len(way[-1])


def test_an_item_counts_once_all_its_choices_are_answered_and_not_before(tmp_path: Path, tokenizer: Path) -> None:
    evaluation = built(tmp_path, tokenizer, "task: toy_pick, languages: [en], metric: acc")
    (one,) = evaluation.prepared
    items = len(one.items.docs)
    wrong = [Continuation(-1.0 if place % 4 != one.items.docs[place // 4]["answer"] else -2.0, False) for place in range(4 * items)]
    tally = evaluation.tally()
    for count, right in ((3, items), (4, items - 1), (7, items - 1), (8, items - 2), (4 * items, 0)):
        tally.add(Answers(tuple(wrong[:count])))
        assert tally.most() == {"toy_pick_en": right / items}
        assert tally.least_most(count) == {"toy_pick_en": right / items}


def test_a_tally_that_begins_again_knows_nothing_of_the_model_before(tmp_path: Path, tokenizer: Path) -> None:
    evaluation = built(tmp_path, tokenizer)
    tally = evaluation.tally()
    for seed in (0, 1):
        answers = answers_of(evaluation.batch, seed)
        tally.begin()
        tally.add(prefix(answers, 7))
        tally.add(answers)
        assert tally.most() == {score.benchmark: score.score for score in evaluation.score(answers)}
    assert all(not instance.resps and not instance.filtered_resps for one in evaluation.prepared for instance in one.task.instances)


def test_an_answer_that_is_no_number_fails_as_in_the_score(tmp_path: Path, tokenizer: Path) -> None:
    evaluation = built(tmp_path, tokenizer)
    answers = answers_of(evaluation.batch, 0)
    spoiled = replace(answers, loglikelihood=(Continuation(math.nan, False), *answers.loglikelihood[1:]))
    with pytest.raises(FailedBenchmark, match="toy_pick_en: log-likelihood nan"):
        evaluation.tally().add(spoiled)


FILTERING = """\
def all_alike(resps, docs):
    resps = list(resps)
    return [[max(answers[0] for answers in resps)] for _ in resps]
def pair(doc, results): return {"chrf": (doc["capital"], results[0])}
"""
TASK = """\
task: {name}
custom_dataset: !function both.capitals
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: capital
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 16}}
{more}
metadata: {{version: 1}}
"""
ACROSS = "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
ACROSS += "filter_list: [{name: across, filter: [{function: custom, filter_fn: !function both.all_alike}, {function: take_first}]}]"
CORPUS = "process_results: !function both.pair\nmetric_list: [{metric: chrf, aggregation: chrf, higher_is_better: true}]"


@pytest.fixture(scope="module")
def whole_tasks(tmp_path_factory) -> Path:
    """Tasks that are a matter of all items: a corpus metric, and a filter of the user's that looks across items."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "both.py").write_text((TOY / "data.py").read_text() + FILTERING)
    for name, more in (("across", ACROSS), ("corpus", CORPUS)):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, more=more))
    return folder


@pytest.mark.parametrize("entry", ["task: across, metric: exact_match", "task: corpus, metric: chrf"])
def test_what_is_a_matter_of_all_items_counts_as_right_until_all_are_answered(tmp_path: Path, tokenizer: Path, whole_tasks: Path, entry: str) -> None:
    evaluation = built(tmp_path, tokenizer, entry, include=whole_tasks)
    answers, tally = answers_of(evaluation.batch, 0), evaluation.tally()
    (score,) = evaluation.score(answers)
    tally.add(prefix(answers, total(evaluation.batch) - 1))
    assert tally.most() == {score.benchmark: 1.0}
    tally.add(answers)
    assert tally.most() == {score.benchmark: score.score}
    assert score.score < 1


def test_what_a_scorer_scores_counts_as_right_to_the_end(tmp_path: Path, tokenizer: Path) -> None:
    class Unasked:
        def score(self, items, outputs, memory):
            pytest.fail("a judge was paid for a model that may be stopped")

    evaluation = built(tmp_path, tokenizer, "task: toy_say, languages: [en], metric: exact_match, filter: whole")
    tally = replace(evaluation, prepared=tuple(replace(one, scorer=Unasked()) for one in evaluation.prepared)).tally()
    tally.add(answers_of(evaluation.batch, 0))
    assert tally.most() == {"toy_say_en": 1.0}


def told(evaluation: EvaluationSet, suite: Suite, references: References | None, beat: float) -> ExactStop:
    return ExactStop(evaluation.tally(), lambda found: aggregate(suite, found, references), beat)


def heard(stop: ExactStop, answers: Answers) -> float | None:
    """The bound at which a judgement ends that asks whenever it should, or None."""
    next((True for count in stop.start() if not stop.go_on(prefix(answers, count))), None)
    return stop.bound


@pytest.mark.parametrize("text", ["{}", "{worst: 1}", "{over: languages, worst: 1}", "{normalised: true}"])
def test_what_is_stopped_could_not_have_won_and_what_wins_is_not_stopped(tmp_path: Path, tokenizer: Path, text: str) -> None:
    evaluation, suite = built(tmp_path, tokenizer), suite_of(tmp_path, aggregate_text=text)
    names = [one.benchmark.name for one in evaluation.prepared]
    references = References(dict.fromkeys(names, 0.2), dict.fromkeys(names, 0.6))
    stopped = 0
    for seed in range(60):
        answers = answers_of(evaluation.batch, seed)
        final = fitness(suite, evaluation.score(answers), references)
        for beat in (final, math.nextafter(final, math.inf), math.nextafter(final, -math.inf), final + 0.1, final + 0.4):
            bound = heard(told(evaluation, suite, references, beat), answers)
            if bound is not None:
                stopped += 1
                assert final <= bound <= beat
    assert stopped > 20


def test_the_first_look_is_where_enough_items_can_be_wrong(tmp_path: Path, tokenizer: Path) -> None:
    entries = ("task: toy_pick, languages: [en], metric: acc",)
    evaluation, suite = built(tmp_path, tokenizer, *entries), suite_of(tmp_path, *entries)
    items = len(evaluation.prepared[0].items.docs)
    # To be no better than items - 2 of them, two must be wrong: eight answers of four choices each.
    stops = list(told(evaluation, suite, None, (items - 2) / items).start())
    assert stops[0] == 8
    assert {after - before for before, after in pairwise(stops)} == {math.ceil(0.05 * 4 * items)}
    assert stops[-1] < 4 * items
    assert list(told(evaluation, suite, None, -0.5).start()) == []  # no model is as low


def test_a_model_that_cannot_be_scored_is_judged_to_the_end(tmp_path: Path, tokenizer: Path) -> None:
    evaluation, suite = built(tmp_path, tokenizer), suite_of(tmp_path)
    answers = answers_of(evaluation.batch, 0)
    spoiled = replace(answers, loglikelihood=(Continuation(math.nan, False), *answers.loglikelihood[1:]))
    assert heard(told(evaluation, suite, None, 0.99), answers) is not None
    assert heard(told(evaluation, suite, None, 0.99), spoiled) is None


def test_a_judgement_that_starts_over_is_heard_from_the_start(tmp_path: Path, tokenizer: Path) -> None:
    evaluation, suite = built(tmp_path, tokenizer), suite_of(tmp_path)
    answers, other = answers_of(evaluation.batch, 0), answers_of(evaluation.batch, 1)
    stop = told(evaluation, suite, None, 0.9)
    first: Callable[[], float | None] = lambda: heard(told(evaluation, suite, None, 0.9), answers)  # noqa: E731
    heard(stop, other)
    assert heard(stop, answers) == first()
