"""Judging: what fails is written down with its reason, what is known is not asked again, and what is pooled counts
every item once."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from made.models import tiny_llama
from psomerge.errors import ArtefactError, EngineError
from psomerge.evals.engines.engine import Answers, ModelError
from psomerge.evals.engines.scripted import ScriptedEngine
from psomerge.evals.harness import EvaluationSet
from psomerge.evals.stopping.policy import EXACT
from psomerge.evals.suites.scores import BenchmarkScore, Judgement
from psomerge.evals.suites.suite import Suite
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import pooled
from psomerge.tasks.tracking.run import step_metrics
from runs.scripted_judging import ITEMS, built, capitals, judging, recipe_of, scripted

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

RECIPE = recipe_of(1)
LABEL = Label("star", 0, 3)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return capitals(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def sets(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvaluationSet]:
    return built(suite, tiny_llama(tmp_path_factory.mktemp("tiny")))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("known", range(ITEMS + 1))
def test_fitness_is_the_mean_over_benchmarks(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], known: int
) -> None:
    found = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: known)).judge(
        RECIPE, "optimisation", LABEL
    )
    assert found.fitness == pytest.approx(known / ITEMS)  # both benchmarks have three items and weigh the same
    assert [score.score for score in found.scores] == pytest.approx([min(known, 3) / 3, max(known - 3, 0) / 3])


def test_a_judgement_s_line_tells_what_was_judged_and_every_item_s_value(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 4))
    made.judge(RECIPE.with_coefficients([[0.1]]), "optimisation", LABEL)
    (line,) = lines(tmp_path)
    assert {
        key: line[key] for key in ("kind", "split", "phase", "step", "particle", "method", "coefficients", "failure")
    } == {
        "kind": "judgement",
        "split": "optimisation",
        "phase": "star",
        "step": 0,
        "particle": 3,
        "method": "coefficients",
        "coefficients": [[0.1]],
        "failure": None,
    }
    assert line["values"] == {"toy_pick_en": [1.0, 1.0, 1.0], "toy_pick_NO": [1.0, 0.0, 0.0]}
    assert line["key"] == made.book.key(RECIPE.with_coefficients([[0.1]]), "optimisation")


def test_a_model_is_judged_once_a_split_whoever_asks(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine, told = scripted(sets, lambda recipe, split: 3), []
    made = judging(tmp_path, suite, sets, engine, told)
    labels = [LABEL, Label("star", 1, 3), Label("re-rank star")]
    assert made.book.find(RECIPE, "optimisation") is None
    first, again, elsewhere = (
        made.judge(RECIPE, split, label)
        for split, label in zip(("optimisation", "optimisation", "validation"), labels, strict=True)
    )
    assert made.book.find(RECIPE, "optimisation") is not None
    assert again == first
    assert elsewhere.scores != first.scores
    assert len(engine.judged) == 2
    assert told == labels  # found judgements count as progress, too


def test_what_names_a_judgement_is_what_changes_a_tensor_or_an_item(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 3))
    other_weights = replace(RECIPE, base=replace(RECIPE.base, files={"model.safetensors": "other"}))
    copy = RECIPE.with_coefficients([[0.0, 1.0]])
    different = [
        RECIPE,
        RECIPE.with_coefficients([[1e-300]]),
        copy,
        replace(copy, drop_rate=0.7),
        replace(copy, mask_seed=1),
        replace(RECIPE, dtype="float32"),
    ]
    different.append(other_weights)
    keys = [made.book.key(one, "optimisation") for one in different] + [made.book.key(RECIPE, "validation")]
    assert len(set(keys)) == len(keys)
    moved = replace(RECIPE, tokenizer_from="expert1", base=replace(RECIPE.base, source="/elsewhere", revision="0" * 40))
    assert made.book.key(moved, "optimisation") == keys[0]


@pytest.mark.parametrize("known", [0, 4, ITEMS, math.nan], ids=["nothing known", "some", "all", "failed"])
def test_a_new_process_reads_the_same_judgement_from_the_journal(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], known: float
) -> None:
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: known)).judge(
        RECIPE, "optimisation", LABEL
    )
    silent = scripted(sets, lambda recipe, split: pytest.fail("asked again"))
    assert judging(tmp_path, suite, sets, silent).judge(RECIPE, "optimisation", LABEL) == made
    assert silent.judged == []


def test_one_log_likelihood_that_is_no_number_fails_the_whole_judgement(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, lambda recipe, split: math.nan)
    found = judging(tmp_path, suite, sets, engine).judge(RECIPE, "optimisation", LABEL)
    assert found == Judgement(None, failure=found.failure)
    assert found.failure is not None
    assert "toy_pick_en" in found.failure
    assert "nan" in found.failure
    (line,) = lines(tmp_path)
    assert (line["fitness"], line["failure"]) == (None, found.failure)
    assert line["values"] == {}


def test_a_model_that_the_engine_refuses_fails_its_judgement_with_the_engine_s_words(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    def refuse(recipe, split):
        raise ModelError("swap refused: tensor 'w' holds a value that is not finite")

    found = judging(tmp_path, suite, sets, scripted(sets, refuse)).judge(RECIPE, "optimisation", LABEL)
    assert (found.fitness, found.failure) == (None, "swap refused: tensor 'w' holds a value that is not finite")


def test_a_dead_engine_is_no_judgement_and_leaves_no_line(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    def die(recipe, split):
        raise EngineError("died")

    with pytest.raises(EngineError, match="died"):
        judging(tmp_path, suite, sets, scripted(sets, die)).judge(RECIPE, "optimisation", LABEL)
    assert lines(tmp_path) == []


@pytest.mark.parametrize("engine", ["answers", "dies"])
def test_answers_about_files_that_changed_leave_no_line_and_the_change_is_what_is_told(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], engine: str
) -> None:
    def known(recipe, split):
        if engine == "dies":
            raise EngineError("died")
        return 3

    def guard():
        raise ArtefactError('"tam": changed')

    with pytest.raises(ArtefactError, match="changed"):
        judging(tmp_path, suite, sets, scripted(sets, known), guard=guard).judge(RECIPE, "optimisation", LABEL)
    assert lines(tmp_path) == []


def test_answers_to_another_number_of_requests_stop_the_run(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    class Short(ScriptedEngine):
        def judge(self, recipe, name, watch=None):
            answers = super().judge(recipe, name, watch)
            return Answers(answers.loglikelihood[:-1], answers.generation)

    short = Short(lambda recipe, request: -1.0)
    with pytest.raises(EngineError, match="expected 24 answers of kind loglikelihood, found 23"):
        judging(tmp_path, suite, sets, short).judge(RECIPE, "optimisation", LABEL)
    assert lines(tmp_path) == []


def test_a_failed_judgement_has_no_fitness_metric_and_spoils_no_other(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    made = judging(
        tmp_path, suite, sets, scripted(sets, lambda recipe, split: math.nan if recipe.coefficients[0][0] else 3)
    )
    failed, sound = (made.judge(RECIPE.with_coefficients([[value]]), "optimisation", LABEL) for value in (1.0, 0.0))
    assert step_metrics([failed]) == {"failures": 1.0, "stopped": 0.0}
    metrics = step_metrics([failed, sound])
    assert (metrics["failures"], metrics["fitness/worst"], metrics["fitness/mean"], metrics["fitness/best"]) == (
        1.0,
        0.5,
        0.5,
        0.5,
    )


def test_a_stopped_judgement_is_counted_and_in_no_mean(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 3 * recipe.coefficients[0][0]))
    sound, stopped = (
        made.judge(RECIPE.with_coefficients([[value]]), "optimisation", LABEL, best)
        for value, best in ((1.0, None), (0.0, Judgement(0.5)))
    )
    metrics = step_metrics([sound, stopped])
    assert (metrics["failures"], metrics["stopped"], metrics["fitness/worst"], metrics["fitness/mean"]) == (
        0.0,
        1.0,
        0.5,
        0.5,
    )
    assert step_metrics([stopped]) == {"failures": 0.0, "stopped": 1.0}


def test_a_judgement_that_cannot_beat_what_it_must_is_stopped_and_is_neither_fitness_nor_failure(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, lambda recipe, split: recipe.coefficients[0][0])
    made = judging(tmp_path, suite, sets, engine)
    whole = made.judge(RECIPE.with_coefficients([[6.0]]), "optimisation", LABEL, None)
    found = made.judge(RECIPE, "optimisation", LABEL, Judgement(0.5))
    # Nothing known: three of six wrong after twelve of 24 choices, and (0 + 1) / 2 is not more than a half.
    assert (found.fitness, found.failure, found.bound, found.scores) == (None, None, 0.5, ())
    line = lines(tmp_path)[-1]
    assert {name: line[name] for name in ("fitness", "failure", "bound", "answered", "requests")} == {
        "fitness": None,
        "failure": None,
        "bound": 0.5,
        "answered": 12,
        "requests": 24,
    }
    assert line["values"] == {}
    assert 0 < line["tokens"] < line["tokens_of"] == whole.tokens == whole.tokens_of


@pytest.mark.parametrize(("known", "beat"), [(3, 0.4), (4, 0.5), (6, 0.99)])
def test_a_judgement_that_beats_what_it_must_is_made_to_its_end(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], known: int, beat: float
) -> None:
    engine = scripted(sets, lambda recipe, split: known)
    assert judging(tmp_path, suite, sets, engine).judge(
        RECIPE, "optimisation", LABEL, Judgement(beat)
    ).fitness == pytest.approx(known / ITEMS)


def test_a_stopped_judgement_counts_where_its_bound_is_enough_and_is_made_anew_where_not(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, lambda recipe, split: 2)
    made = judging(tmp_path, suite, sets, engine)
    stopped = made.judge(RECIPE, "optimisation", LABEL, Judgement(0.5))
    assert stopped.bound == 0.5
    assert [made.judge(RECIPE, "optimisation", LABEL, Judgement(beat)) for beat in (0.5, 0.9)] == [stopped] * 2
    assert judging(tmp_path, suite, sets, engine).judge(RECIPE, "optimisation", LABEL, Judgement(0.5)) == stopped
    assert len(engine.judged) == 1
    whole = made.judge(RECIPE, "optimisation", LABEL, Judgement(0.45))
    assert whole.fitness == pytest.approx(2 / 6)
    assert [made.judge(RECIPE, "optimisation", LABEL, Judgement(beat)) for beat in (None, 0.45, 0.5, 0.9)] == [
        whole
    ] * 4
    # The later line holds in a new process, too.
    assert (
        judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: pytest.fail("asked again"))).judge(
            RECIPE, "optimisation", LABEL
        )
        == whole
    )
    assert [line["key"] for line in lines(tmp_path)] == [made.book.key(RECIPE, "optimisation")] * 2


def test_whoever_needs_the_fitness_itself_gets_it_although_a_search_had_stopped(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 2))
    assert made.judge(RECIPE, "optimisation", LABEL, Judgement(0.5)).fitness is None
    assert made.judge_all([RECIPE], "optimisation", [Label("average")])[0].fitness == pytest.approx(2 / 6)


def test_a_model_that_fails_is_no_stopped_one(tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]) -> None:
    found = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: math.nan)).judge(
        RECIPE, "optimisation", LABEL, Judgement(0.5)
    )
    assert (found.fitness, found.bound) == (None, None)
    assert "nan" in (found.failure or "")


def test_a_suite_whose_fitness_may_fall_with_a_rising_score_is_judged_to_the_end(
    tmp_path: Path, sets: dict[str, EvaluationSet]
) -> None:
    suite = capitals(tmp_path, "{worst: 2}")
    three = replace(
        suite,
        benchmarks=(*(replace(one, weight=weight) for one, weight in zip(suite.benchmarks, (1.0, 2.0), strict=True)),),
    )
    found = judging(tmp_path, three, sets, scripted(sets, lambda recipe, split: 0)).judge(
        RECIPE, "optimisation", LABEL, Judgement(0.5)
    )
    assert found.bound == pytest.approx(
        (1 * 0 + 2 * 2 / 3) / 3
    )  # the worst two of two are all: four wrong, one of them weighing double
    (tmp_path / "journal.jsonl").unlink()
    unequal = replace(
        three,
        aggregate=replace(three.aggregate, worst=2),
        benchmarks=(*three.benchmarks, replace(three.benchmarks[0], name="more")),
    )
    assert EXACT.watch(unequal, sets["optimisation"], Judgement(0.5), None) is None


def test_stopped_beside_references_the_bound_is_told_in_their_terms(
    tmp_path: Path, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, lambda recipe, split: KNOWS.get(recipe.coefficients[0], 0))
    made = judging(tmp_path, capitals(tmp_path, "{normalised: true}"), sets, engine, references=UNITS)
    found = made.judge(RECIPE.with_coefficients([[5.0, 5.0]]), "optimisation", LABEL, Judgement(0.6))
    # English: base 2/3, best 3/3: 0 of 3 is -2, then Norwegian from 0 to 1/3: 3 of 3 is 3. (-2 + 3) / 2 = 0.5.
    assert found.bound == pytest.approx(0.5)


def test_the_order_of_lines_in_the_journal_does_not_matter(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    recipes = [RECIPE.with_coefficients([[float(value)]]) for value in range(4)]
    engine = scripted(sets, lambda recipe, split: recipe.coefficients[0][0] + 1)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, order in zip(folders, (recipes, recipes[::-1]), strict=True):
        folder.mkdir()
        judging(folder, suite, sets, engine).judge_all(order, "optimisation", [LABEL] * 4)
    silent = scripted(sets, lambda recipe, split: pytest.fail("asked again"))
    one, other = (
        judging(folder, suite, sets, silent).judge_all(recipes, "optimisation", [LABEL] * 4) for folder in folders
    )
    assert one == other
    assert [judgement.fitness for judgement in one] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6])


def score(benchmark: str, *values: float, split: str = "a") -> BenchmarkScore:
    names = tuple(f"{split}{number}" for number in range(len(values)))
    return BenchmarkScore(benchmark, "en", "acc", 1.0, names, names, values)


def test_pooled_counts_every_item_once(tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]) -> None:
    optimisation = Judgement(0.7, (score("toy_pick_en", 1, 0, 0), score("toy_pick_NO", 1, 1)))
    validation = Judgement(0.5, (score("toy_pick_en", 1, split="b"), score("toy_pick_NO", 0, 0, 0, 0, split="b")))
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 0))
    both = pooled(made, {"optimisation": optimisation, "validation": validation})
    # toy_pick_en: 2 of 4; toy_pick_NO: 2 of 6. The mean of the splits' means would be ((1/3 + 1) / 2 + (1 + 0) / 2) / 2
    # = 7/12.
    assert both.fitness == pytest.approx((2 / 4 + 2 / 6) / 2)
    assert both.scores[0].items == ("a0", "a1", "a2", "b0")
    assert both.scores[1].values == (1, 1, 0, 0, 0, 0)


def test_pooled_with_a_failed_part_has_failed(tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]) -> None:
    sound, failed = (
        Judgement(1.0, (score("toy_pick_en", 1), score("toy_pick_NO", 1))),
        Judgement(None, failure="because"),
    )
    made = judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 0))
    assert pooled(made, {"optimisation": sound, "validation": failed}) == failed


# A base that knows 2 of a split's six items (two of the first benchmark), and experts that know 4 and 3; the model
# itself knows 5.
UNITS = [RECIPE.with_coefficients([row]) for row in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.0])]
KNOWS = {(0.0, 0.0): 2, (1.0, 0.0): 4, (0.0, 1.0): 3, (1.0, 1.0): 5}


def test_a_normalised_fitness_is_told_beside_base_and_experts_which_are_judged_once_a_split(
    tmp_path: Path, sets: dict[str, EvaluationSet]
) -> None:
    suite, engine = (
        capitals(tmp_path, "{normalised: true}"),
        scripted(sets, lambda recipe, split: KNOWS[recipe.coefficients[0]]),
    )
    made = judging(tmp_path, suite, sets, engine, references=UNITS)
    found = made.judge(RECIPE.with_coefficients([[1.0, 1.0]]), "optimisation", LABEL)
    # English: base 2/3, best expert and model 3/3; Norwegian: base 0, best expert 1/3, model 2/3.
    assert found.fitness == pytest.approx((1 + 2) / 2)
    assert [line["phase"] for line in lines(tmp_path)] == ["reference"] * 3 + ["star"]
    assert [line["fitness"] for line in lines(tmp_path)] == pytest.approx([0, 1, 0.5, 1.5])
    assert made.judge(UNITS[1], "optimisation", LABEL).fitness == pytest.approx(1)
    assert len(engine.judged) == 4
    again = judging(
        tmp_path, suite, sets, scripted(sets, lambda recipe, split: pytest.fail("asked again")), references=UNITS
    )
    assert again.judge(RECIPE.with_coefficients([[1.0, 1.0]]), "optimisation", LABEL) == found


def test_pooled_items_are_told_beside_base_and_experts_on_the_same_pooled_items(
    tmp_path: Path, sets: dict[str, EvaluationSet]
) -> None:
    # On validation items the base knows nothing and the second expert everything.
    known = {**KNOWS, ("validation", 0.0, 0.0): 0, ("validation", 0.0, 1.0): 6}
    engine = scripted(
        sets, lambda recipe, split: known.get((split, *recipe.coefficients[0]), KNOWS[recipe.coefficients[0]])
    )
    made = judging(tmp_path, capitals(tmp_path, "{normalised: true}"), sets, engine, references=UNITS)
    model = RECIPE.with_coefficients([[1.0, 1.0]])
    both = pooled(made, {split: made.judge(model, split, LABEL) for split in ("optimisation", "validation")})
    # English, of six: base 2, experts 6 and 6, model 6. Norwegian: base 0, experts 2 and 3, model 4.
    assert both.fitness == pytest.approx(((6 - 2) / (6 - 2) + (4 - 0) / (3 - 0)) / 2)


def test_an_expert_that_cannot_be_judged_is_no_reference_and_a_base_that_cannot_ends_the_run(
    tmp_path: Path, sets: dict[str, EvaluationSet]
) -> None:
    suite = capitals(tmp_path, "{normalised: true}")
    broken = {(1.0, 0.0): math.nan}
    engine = scripted(sets, lambda recipe, split: broken.get(recipe.coefficients[0], KNOWS[recipe.coefficients[0]]))
    found = judging(tmp_path, suite, sets, engine, references=UNITS).judge(
        RECIPE.with_coefficients([[1.0, 1.0]]), "optimisation", LABEL
    )
    assert found.fitness == pytest.approx(
        (1 + (2 / 3) / 0.05) / 2
    )  # the second expert knows no Norwegian: five points are the unit
    broken |= {(0.0, 0.0): math.nan}
    (tmp_path / "journal.jsonl").unlink()
    with pytest.raises(
        EngineError, match=r"the base could not be judged on the optimisation items.*: toy_pick_en: log-likelihood nan"
    ):
        judging(tmp_path, suite, sets, engine, references=UNITS).judge(
            RECIPE.with_coefficients([[1.0, 1.0]]), "optimisation", LABEL
        )


def test_a_floor_puts_a_better_model_that_loses_english_behind_one_that_keeps_it(
    tmp_path: Path, sets: dict[str, EvaluationSet]
) -> None:
    suite = capitals(tmp_path, floor=", floor: {below_base: 0.1}")
    engine = scripted(sets, lambda recipe, split: KNOWS[recipe.coefficients[0]])
    made = judging(
        tmp_path, suite, sets, engine, references=[UNITS[1]]
    )  # a base that knows English and a third of Norwegian
    kept, lost = (made.judge(UNITS[place], "optimisation", LABEL).fitness for place in (1, 0))
    assert (kept, lost) == pytest.approx((4 / 6, -(1 - 0.1 - 2 / 3) - (1 / 3 - 0.1)))
