"""The summary record: exact round trip, honest failures, rows from scores."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from made.summaries import example
from psomerge.errors import SpaceError, StateError
from psomerge.evals.significance.intervals import Interval
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.fit.warning import FitWarning
from psomerge.tasks.report import summary as records
from psomerge.tasks.report.rows import compare, row
from psomerge.tasks.report.summary import Comparison, Registration
from psomerge.tasks.report.wording import difference, duration, plain, points, probability, saved, size, verdict
from psomerge.tasks.search.history import Particle, SearchStep


def score(benchmark: str, language: str, values: tuple[float, ...], weight: float = 1.0) -> BenchmarkScore:
    items = tuple(f"{benchmark}/{number}" for number in range(len(values)))
    return BenchmarkScore(
        benchmark, language, "acc", weight, items, tuple(f"concept {number}" for number in range(len(values))), values
    )


def test_a_summary_comes_back_equal_to_the_last_bit(tmp_path: Path) -> None:
    summary = replace(example(), seconds={"merge": 0.1 + 0.2, "a": 1 / 3})
    records.write(summary, tmp_path / "summary.json")
    assert records.read(tmp_path / "summary.json") == summary


def test_warnings_come_back_and_a_summary_from_before_them_has_none(tmp_path: Path) -> None:
    warned = replace(example(), warnings=(FitWarning("so", "eos token", "'</s>'", "'<|im_end|>'", "decide"),))
    records.write(warned, tmp_path / "summary.json")
    assert records.read(tmp_path / "summary.json") == warned
    content = example().to_dict()
    del content["warnings"]
    assert records.from_dict(content).warnings == ()


def test_phases_keep_their_order_through_a_file(tmp_path: Path) -> None:
    records.write(replace(example(), seconds={"z": 1.0, "a": 2.0}), tmp_path / "summary.json")
    assert list(records.read(tmp_path / "summary.json").seconds) == ["z", "a"]


def test_a_particle_without_fitness_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="either a fitness or a failure"):
        Particle(((0.5,),), None)


def test_a_particle_cannot_both_fail_and_score() -> None:
    with pytest.raises(ValueError, match="either a fitness or a failure"):
        Particle(((0.5,),), 0.0, "engine died")


def test_a_particle_that_was_stopped_has_neither_fitness_nor_failure_but_a_bound() -> None:
    assert Particle(((0.5,),), None, bound=0.53).bound == 0.53
    for fitness, failure in ((0.5, None), (None, "engine died")):
        with pytest.raises(ValueError, match="or the bound at which it was stopped"):
            Particle(((0.5,),), fitness, failure, bound=0.53)


def test_what_stopping_saved_is_told_by_tokens() -> None:
    # Three judged: 100, 100 and 40 of 100 tokens; the one that had not moved counts nothing. 60 of 300 are saved.
    whole, stopped = (
        Particle(((0.5,),), 0.5, tokens=100, tokens_of=100),
        Particle(((0.6,),), None, bound=0.4, tokens=40, tokens_of=100),
    )
    history = (SearchStep((whole, whole), 0.5), SearchStep((replace(whole, judged=False), stopped), 0.5))
    told = saved(replace(example(), history=history))
    assert told is not None
    assert told.startswith("1 of 3 judgements of the search were stopped")
    assert told.endswith("which saved 20 % of the search's tokens.")
    assert "sequential" not in told
    assert saved(replace(example(), history=history[:1])) is None


def test_what_a_sequential_test_gave_up_is_told_with_its_error_rate() -> None:
    stopped, given_up = (
        Particle(((0.6,),), None, bound=0.4, risk=risk, tokens=40, tokens_of=100) for risk in (0.0, 0.05)
    )
    told = saved(replace(example(), history=(SearchStep((stopped, given_up, given_up), 0.5),)))
    assert told is not None
    assert "3 of 3 judgements" in told
    assert "or, 2 of them, a sequential test gave them up (wrong at most 5 % of the time), which saved 60 %" in told


def test_not_a_number_is_never_a_fitness() -> None:
    with pytest.raises(ValueError, match="finite"):
        Particle(((0.5,),), float("nan"))


def test_a_missing_summary_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot read a run's summary.*finish the run first") as caught:
        records.read(tmp_path / "summary.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 1, 100, 5000])
def test_a_summary_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "summary.json"
    records.write(example(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StateError):
        records.read(path)


def test_a_value_of_the_wrong_type_is_refused_by_its_place() -> None:
    content = example().to_dict()
    content["history"][1]["particles"][0]["fitness"] = "high"
    with pytest.raises(StateError, match=r"history\.1\.particles\.0\.fitness"):
        records.from_dict(content)


def test_another_format_is_refused() -> None:
    with pytest.raises(StateError, match="expected summary format 1, found 2"):
        records.from_dict(example().to_dict() | {"format": 2})


def test_a_folder_that_is_missing_leaves_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"summary\.json"):
        records.write(example(), tmp_path / "none" / "summary.json")


def test_scores_and_differences_are_read_under_the_names_of_all_earlier_summaries() -> None:
    content = example().to_dict()
    content["rows"][0]["mean"] = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    content["comparisons"] = [{"a": "one", "b": "two", "difference": 0.25, "low": -0.5, "high": 0.75, "p": 0.125}]
    summary = records.from_dict(content)
    assert summary.rows[0].mean == Interval(0.5, 0.25, 0.75, 8)
    assert summary.comparisons == (Comparison("one", "two", 0.25, -0.5, 0.75, 0.125),)
    assert summary.to_dict() == content


def test_the_data_is_plain_json() -> None:
    assert json.loads(json.dumps(example().to_dict(), allow_nan=False)) == example().to_dict()


def test_a_row_weighs_benchmarks_not_items() -> None:
    # (1 * 0.75 + 3 * 0.5) / 4 = 0.5625; over items alone it would be 6 of 10.
    found = row(
        "m", [score("a", "so", (1, 1, 1, 0)), score("b", "tk", (1, 0, 1, 0, 1, 0), 3.0)], kind="expert", resamples=200
    )
    assert found.mean is not None
    assert found.mean.mean == pytest.approx(0.5625, abs=1e-12)
    assert found.mean.n == 10
    assert found.mean.low < 0.5625 < found.mean.high


def test_a_row_joins_the_benchmarks_of_one_language() -> None:
    found = row(
        "m",
        [score("a", "so", (1, 0)), score("b", "so", (1, 1)), score("c", "en", (0, 1, 1, 1))],
        kind="base",
        resamples=200,
    )
    assert {name: (e.mean, e.n) for name, e in found.languages.items()} == {"so": (0.75, 4), "en": (0.75, 4)}
    assert list(found.benchmarks) == ["a", "b", "c"]


def test_two_scores_of_one_benchmark_make_no_row() -> None:
    with pytest.raises(ValueError, match="one score for each benchmark"):
        row("m", [score("a", "so", (1, 0)), score("a", "so", (1, 1))], kind="base")


def test_a_comparison_is_first_minus_second() -> None:
    # 3 of 4 right against 1 of 4.
    found = compare(
        [score("a", "so", (1, 1, 1, 0))], [score("a", "so", (1, 0, 0, 0))], labels=("merged", "base"), resamples=200
    )
    assert (found.a, found.b, found.difference) == ("merged", "base", 0.5)


def test_the_verdict_is_one_sentence_with_score_expert_difference_and_outcome() -> None:
    # Means of SCORES: (64+54+56+51+58+52+70)/7 = 57.86 and (35+46+37+31+39+39+83)/7 = 44.29.
    assert verdict(example()) == (
        "The merged model scores 57.9 (95 % 55–61) on 1,105 test items; best expert (skill) 44.3; difference +13.8 "
        "(p < 0.001); promoted to champion v3."
    )


def test_the_verdict_says_why_a_model_was_not_promoted() -> None:
    declined = Registration("m", "4", "challenger", False, "champion v3 is not beaten (p = 0.4)")
    assert verdict(replace(example(), registration=declined)).endswith(
        "; kept as challenger v4, not promoted: champion v3 is not beaten (p = 0.4)."
    )


def test_the_verdict_says_that_a_difference_was_not_tested() -> None:
    assert "difference +13.6, not tested; not registered." in verdict(
        replace(example(), comparisons=(), registration=None)
    )


def test_the_verdict_of_a_failed_test_names_no_score() -> None:
    rows = tuple(replace(r, mean=None, failure="engine died") if r.label == "PSO star" else r for r in example().rows)
    assert (
        verdict(replace(example(), rows=rows, registration=None))
        == "The merged model has no score on test items: engine died; not registered."
    )


def test_numbers_are_said_shortly() -> None:
    assert [duration(s) for s in (0.0456, 0.9999, 12.34, 59.96)] == ["46 ms", "1.0 s", "12.3 s", "1 min 00 s"]
    assert [duration(s) for s in (245.4, 7800, 3 * 86400 + 4 * 3600)] == ["4 min 05 s", "2 h 10 min", "3 days 04 h"]
    assert [size(b) for b in (0, 3 * 2**20, 3 * 2**29)] == ["not measured", "3 MiB", "1.5 GiB"]
    assert (points(0.58), difference(-0.049), probability(0.012), probability(1e-4)) == (
        "58.0",
        "−4.9",
        "0.012",
        "< 0.001",
    )


def test_control_characters_in_a_name_never_reach_a_terminal() -> None:
    assert plain("a\x1b[31mb\n") == "a�[31mb�"
