"""Early stopping: the tally's floats are the score's, its bound never falls below the fitness, and what is stopped
could not have won, or seldom."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from made.models import tiny_llama
from places import TOY
from psomerge.evals.engines.engine import Answers, Batch, Continuation
from psomerge.evals.harness import EvaluationSet, FailedBenchmark, build
from psomerge.evals.stopping.early import ExactStop, SequentialStop
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.fitness import References, aggregate, fitness, slopes
from psomerge.evals.suites.splits import position_of
from psomerge.evals.suites.suite import Suite

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

ENTRIES = (
    "task: toy_pick, languages: [en, 'NO'], metric: acc_norm",
    "task: toy_pick, language: en, name: twice, metric: acc, weight: 2",
    "task: toy_say, languages: [en], metric: exact_match, filter: first-word",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def suite_of(folder: Path, *entries: str, aggregate_text: str = "{}", include: Path = TOY) -> Suite:
    lines = [
        "name: made",
        "salt: made",
        "shares: {optimisation: 0.8, validation: 0.1, test: 0.1}",
        f"include: [{include}]",
        f"aggregate: {aggregate_text}",
    ]
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
def test_a_whole_tally_is_the_score_to_the_last_bit_and_never_rises_on_its_way(
    tmp_path: Path, tokenizer: Path, seed: int
) -> None:
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
    wrong = [
        Continuation(-1.0 if place % 4 != one.items.docs[place // 4]["answer"] else -2.0, False)
        for place in range(4 * items)
    ]
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
    assert all(
        not instance.resps and not instance.filtered_resps
        for one in evaluation.prepared
        for instance in one.task.instances
    )


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
ACROSS += (
    "filter_list: [{name: across, filter: [{function: custom, filter_fn: !function both.all_alike}, {function: "
    "take_first}]}]"
)
CORPUS = (
    "process_results: !function both.pair\nmetric_list: [{metric: chrf, aggregation: chrf, higher_is_better: true}]"
)


@pytest.fixture(scope="module")
def whole_tasks(tmp_path_factory) -> Path:
    """Tasks that are a matter of all items: a corpus metric, and a filter of the user's that looks across items."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "both.py").write_text((TOY / "data.py").read_text() + FILTERING)
    for name, more in (("across", ACROSS), ("corpus", CORPUS)):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, more=more))
    return folder


@pytest.mark.parametrize("entry", ["task: across, metric: exact_match", "task: corpus, metric: chrf"])
def test_what_is_a_matter_of_all_items_counts_as_right_until_all_are_answered(
    tmp_path: Path, tokenizer: Path, whole_tasks: Path, entry: str
) -> None:
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
def test_what_is_stopped_could_not_have_won_and_what_wins_is_not_stopped(
    tmp_path: Path, tokenizer: Path, text: str
) -> None:
    evaluation, suite = built(tmp_path, tokenizer), suite_of(tmp_path, aggregate_text=text)
    names = [one.benchmark.name for one in evaluation.prepared]
    references = References(dict.fromkeys(names, 0.2), dict.fromkeys(names, 0.6))
    stopped = 0
    for seed in range(60):
        answers = answers_of(evaluation.batch, seed)
        final = fitness(suite, evaluation.score(answers), references)
        for beat in (
            final,
            math.nextafter(final, math.inf),
            math.nextafter(final, -math.inf),
            final + 0.1,
            final + 0.4,
        ):
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


MANY = """\
from datasets import Dataset

def docs(**_):
    numbers = [
        {"question": f"What is {n}?", "choices": ["odd", "even"], "answer": 1 - n % 2, "word": "oe"[1 - n % 2]}
        for n in range(250)
    ]
    return {"test": Dataset.from_list(numbers)}
"""
PICK = """\
task: pick
custom_dataset: !function many.docs
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
"""
WRITE = """\
task: write
custom_dataset: !function many.docs
test_split: test
output_type: generate_until
doc_to_text: "{{question}} "
doc_to_target: word
generation_kwargs: {until: [" "], do_sample: false, max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
"""
BOTH = ("task: pick, metric: acc", "task: write, metric: exact_match")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Two tasks of 250 numbers: odd or even?"""
    folder = tmp_path_factory.mktemp("many")
    for name, text in (("many.py", MANY), ("pick.yaml", PICK), ("write.yaml", WRITE)):
        (folder / name).write_text(text)
    return folder


def knowing(evaluation: EvaluationSet, known: Callable[[str, str], bool]) -> Answers:
    """Answers that are right where `known` says so of benchmark and item."""
    scored, written = (
        [Continuation(0.0, False)] * len(evaluation.batch.loglikelihood),
        [""] * len(evaluation.batch.generation),
    )
    for one in evaluation.prepared:
        for instance, place in zip(one.task.instances, one.asked, strict=True):
            right = known(one.benchmark.name, one.items.names[instance.doc_id])
            if instance.request_type == "generate_until":
                written[place] = instance.doc["word"] if right else "?"
            else:
                scored[place] = Continuation(-1.0 if (instance.idx == instance.doc["answer"]) == right else -2.0, False)
    return Answers(tuple(scored), tuple(written))


def by_position(address: str, share: float) -> Callable[[str, str], bool]:
    """Whether one is among so large a share of a benchmark's items, drawn by an address."""
    return lambda benchmark, item: position_of(address, benchmark, item) < share


def test_a_shuffled_set_asks_the_same_of_its_items_in_an_order_of_its_own(
    tmp_path: Path, tokenizer: Path, many: Path
) -> None:
    plain = built(tmp_path, tokenizer, *BOTH, include=many)
    one, other = plain.shuffled("one"), plain.shuffled("other")
    assert len({evaluation.digest for evaluation in (plain, one, other)}) == 3
    assert one.batch.loglikelihood != other.batch.loglikelihood
    for kind in ("loglikelihood", "generation"):
        assert set(getattr(one.batch, kind)) == set(getattr(plain.batch, kind))
    answers = {evaluation.digest: knowing(evaluation, by_position("model", 0.7)) for evaluation in (plain, one, other)}
    scores = [evaluation.score(answers[evaluation.digest]) for evaluation in (plain, one, other)]
    assert scores[0] == scores[1] == scores[2]
    assert 0.6 < scores[0][0].score < 0.8
    # The choices of an item stay together, and the items come as the address draws them.
    (pick, write), names = one.prepared, sorted(one.items["pick"], key=lambda name: position_of("one", name))
    assert [pick.asked[2 * pick.items.names.index(name)] for name in names] == [
        2 * place for place in range(len(names))
    ]
    assert [write.asked[write.items.names.index(name)] for name in names] == list(range(len(names)))
    drawn = one.drawn(one.tally())
    assert [
        [[(place, one.prepared[place].items.names[item]) for place, item in items] for items in stratum]
        for stratum in drawn
    ] == [
        [],
        [
            [(0, name), (1, name)] for name in names
        ],  # a document that is picked and written about is drawn once, when both are answered
    ]


def test_of_two_tasks_with_documents_of_their_own_the_one_that_is_picked_comes_first(
    tmp_path: Path, tokenizer: Path, many: Path
) -> None:
    (many / "data.py").write_text((TOY / "data.py").read_text())
    (many / "toy_say.yaml").write_text((TOY / "toy_say.yaml").read_text())
    evaluation = built(tmp_path, tokenizer, BOTH[0], ENTRIES[2], include=many).shuffled("one")
    drawn = evaluation.drawn(evaluation.tally())
    assert [{place for items in stratum for place, _ in items} for stratum in drawn] == [{0}, {1}]
    assert [len(stratum) for stratum in drawn] == [len(one.items.docs) for one in evaluation.prepared]


def sequential(evaluation: EvaluationSet, suite: Suite, best: Answers, error_rate: float) -> SequentialStop:
    scores, tally = evaluation.score(best), evaluation.tally()
    linear = slopes(suite)
    assert linear is not None
    return SequentialStop(
        tally,
        lambda found: aggregate(suite, found),
        fitness(suite, scores),
        best=scores,
        slopes=linear,
        drawn=evaluation.drawn(tally),
        error_rate=error_rate,
    )


def test_a_clear_loser_is_stopped_long_before_the_exact_bound_says_so(
    tmp_path: Path, tokenizer: Path, many: Path
) -> None:
    suite, plain = suite_of(tmp_path, *BOTH[:1], include=many), built(tmp_path, tokenizer, *BOTH[:1], include=many)
    evaluation = plain.shuffled("one")
    best, loser = knowing(evaluation, by_position("best", 0.8)), knowing(evaluation, by_position("loser", 0.6))
    stop, beat = sequential(evaluation, suite, best, 0.05), fitness(suite, evaluation.score(best))
    exact = ExactStop(evaluation.tally(), lambda found: aggregate(suite, found), beat)
    assert heard(stop, loser) == beat
    assert (heard(exact, loser) or 1) <= beat
    assert stop.answered < 0.7 * exact.answered
    # Another model beats it; the stop begins anew with each.
    winner = knowing(evaluation, by_position("best", 0.9))
    assert heard(stop, winner) is None
    assert heard(stop, loser) == beat


@pytest.mark.parametrize("error_rate", [0.05, 0.3])
def test_over_the_orders_a_winner_by_one_item_is_stopped_no_more_often_than_the_error_rate(
    tmp_path: Path, tokenizer: Path, many: Path, error_rate: float
) -> None:
    entries = BOTH[:1]
    suite, plain = suite_of(tmp_path, *entries, include=many), built(tmp_path, tokenizer, *entries, include=many)
    names = plain.items["pick"]
    # The best model knows all but the first 41 items, its rival all but the last 40.
    wrong, rounds = 0, 150
    for number in range(rounds):
        evaluation = plain.shuffled(str(number))
        best, rival = (
            knowing(evaluation, lambda benchmark, item, missed=missed: item not in missed)
            for missed in (set(names[:41]), set(names[-40:]))
        )
        wrong += heard(sequential(evaluation, suite, best, error_rate), rival) is not None
    assert wrong <= rounds * error_rate + 3 * (rounds * error_rate * (1 - error_rate)) ** 0.5


def test_a_model_that_cannot_be_scored_is_not_given_up(tmp_path: Path, tokenizer: Path, many: Path) -> None:
    suite = suite_of(tmp_path, *BOTH, include=many)
    evaluation = built(tmp_path, tokenizer, *BOTH, include=many).shuffled("one")
    best, loser = knowing(evaluation, by_position("best", 0.9)), knowing(evaluation, by_position("loser", 0.1))
    spoiled = replace(loser, loglikelihood=(Continuation(math.nan, False), *loser.loglikelihood[1:]))
    assert heard(sequential(evaluation, suite, best, 0.05), spoiled) is None
