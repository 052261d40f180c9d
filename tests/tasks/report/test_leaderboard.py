"""The leaderboard holds every number, survives JSON, and is legible as text and as figure for 5 languages and for
122."""

import io
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from psomerge.errors import ConfigError, StateError
from psomerge.evals.significance.comparisons import Ranks
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.flows.terminal.leaderboard import show
from psomerge.flows.terminal.leaderboard_words import remainder
from psomerge.tasks.report.leaderboard import Differing, differing, from_dict, leaderboard
from psomerge.tasks.report.leaderboard_figure import leaderboard_figure

LABELS = ("base", "PSO star", "TIES (density .2, scale 1)")


def score(values, benchmark="b", language="en"):
    names = tuple(f"i{number}" for number in range(len(values)))
    return BenchmarkScore(benchmark, language, "acc", 1.0, names, names, tuple(float(value) for value in values))


def right(number, items, benchmark="b", language="en"):
    """A score with the first `number` items right: models differ on those between their numbers, all one way."""
    return score([1] * number + [0] * (items - number), benchmark, language)


def board(languages=5, items=50, per_language=1, **options):
    """Base, PSO star and TIES: PSO answers 20 of 50 items more than base in every second language, TIES one less than
    PSO."""
    scores = {
        label: [
            right(
                20 + (20 if index % 2 == 0 else 1) * gain - (label[0] == "T"),
                items,
                f"belebele{n}-{index}",
                f"xy{index}_Latn",
            )
            for index in range(languages)
            for n in range(per_language)
        ]
        for label, gain in zip(LABELS, (0, 1, 1), strict=True)
    }
    fitness = {label: float(np.mean([np.mean(one.values) for one in own])) for label, own in scores.items()}
    return leaderboard("belebele", scores, **({"fitness": fitness, "resamples": 400} | options))


def printed(found, stream=None):
    stream = stream or io.StringIO()
    show(found, stream)
    return stream.getvalue()


def test_models_stand_by_fitness_with_their_open_ranks():
    found = board()
    assert [line.label for line in found.lines] == ["PSO star", "TIES (density .2, scale 1)", "base"]
    # PSO and TIES differ on two concepts only, whatever the number of languages: of four sign flips two are as extreme,
    # p = 1/2.
    assert [line.ranks for line in found.lines] == [Ranks(1, 2), Ranks(1, 2), Ranks(3, 3)]
    assert found.lines[1].against_best is not None
    assert found.lines[1].against_best.difference.p_value == pytest.approx(0.5)
    assert found.lines[0].against_best is None
    # (3 * 40 + 2 * 21) / 250 against 20 / 50.
    assert (found.lines[0].mean.mean, found.lines[0].mean.n) == (pytest.approx(0.648), 250)
    against = found.line("base").against_best
    assert against is not None
    assert (against.difference.mean, against.verdict, against.tests) == (pytest.approx(0.4 - 0.648), "worse", 3)
    assert {name: estimate.mean for name, estimate in found.line("base").languages.items()} == {
        f"xy{n}_Latn": 0.4 for n in range(5)
    }


def test_fitness_and_not_the_mean_sorts():
    assert [line.label for line in board(fitness=dict(zip(LABELS, (0.9, 0.5, 0.1), strict=True))).lines] == list(LABELS)


def test_the_first_two_are_compared_unless_others_are_named():
    first = board().versus
    assert first is not None
    assert (first.first, first.second) == ("PSO star", "TIES (density .2, scale 1)")
    named = board(versus=("base", "PSO star")).versus
    assert named is not None
    assert (named.first, named.second) == ("base", "PSO star")
    # 20 of 20 items one way: p = 2 / 2^20, times 5 languages; one item of one: 1.
    assert [one.corrected for one in named.languages.values()] == pytest.approx(
        [10 / 2**20, 1, 8 / 2**20, 1, 6 / 2**20], abs=1e-5
    )
    assert [one.verdict for one in named.languages.values()] == ["worse", "no difference shown"] * 2 + ["worse"]
    assert named.overall.difference.mean == pytest.approx(-0.248)


@pytest.mark.parametrize("languages", [1, 5])
def test_a_leaderboard_survives_json(languages):
    found = board(languages, failures={"expert": "engine: died"})
    assert from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_another_format_or_a_damaged_leaderboard_is_refused():
    with pytest.raises(StateError, match="format 1, found 7"):
        from_dict(board().to_dict() | {"format": 7})
    with pytest.raises(StateError, match="damaged at 'lines'"):
        from_dict(board().to_dict() | {"lines": 3})


def test_impossible_leaderboards_are_refused():
    scores = {"a": [score([1, 0])], "b": [score([1, 0])]}
    fitness = {"a": 0.5, "b": 0.5}
    with pytest.raises(ValueError, match="no fitness of"):
        leaderboard("s", scores, fitness={"a": 0.5})
    with pytest.raises(ValueError, match="needs scores"):
        leaderboard("s", {}, fitness={})
    with pytest.raises(ConfigError, match="found a and c"):
        leaderboard("s", scores, fitness=fitness, versus=("a", "c"))
    with pytest.raises(ValueError, match="b was judged on other items than a"):
        leaderboard("s", scores | {"b": [score([1, 0, 1])]}, fitness=fitness)


def test_items_where_two_models_differ_are_listed():
    first = [score([1, 0, 1], "b1", "so"), score([0.5, 0.25], "b2", "tk")]
    second = [score([1, 1, 0], "b1", "so"), score([0.5, 0.75], "b2", "tk")]
    assert differing(first, second) == [
        Differing("b1", "so", "i1", 0, 1),
        Differing("b1", "so", "i2", 1, 0),
        Differing("b2", "tk", "i1", 0.25, 0.75),
    ]
    with pytest.raises(ValueError, match="other items"):
        differing(first, second[:1])


def test_the_table_tells_significant_from_noise():
    lines = printed(board(versus=("PSO star", "base"))).splitlines()
    row = next(line for line in lines if line.startswith(" 3 ") and "base" in line)
    assert "40.0±" in row
    assert "−24.8±" in row
    assert "significant" in row
    languages = [line.split() for line in lines if "_Latn" in line]
    # Gains first, then the noise; 80.0 against 40.0 and 42.0 against 40.0 on 50 items.
    assert [line[0] for line in languages] == ["xy0_Latn", "xy2_Latn", "xy4_Latn", "xy1_Latn", "xy3_Latn"]
    assert languages[0][1:4] == ["50", "80.0", "40.0"]
    assert ["significant" in line for line in languages] == [True] * 3 + [False] * 2
    assert ["noise" in line for line in languages] == [False] * 3 + [True] * 2
    # Two languages left at 5 % / 2: with one item apart, P(X >= 7) = 80 % of 50 (2 / 2^7 < 2.5 %) is at 17.7 points.
    assert (
        "2 of 5 languages: no difference shown; with n = 50 each, a true difference below 18 points had less than 80 "
        "% chance to be seen" in " ".join(" ".join(lines).split())
    )


def test_few_models_fit_into_a_terminal_of_80_columns(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    lines = printed(board(), Terminal()).splitlines()
    assert max(map(len, lines)) <= 80
    # One line each in both tables: nothing is folded or cropped.
    assert sum(line.strip().startswith(("1", "2", "3")) and "TIES (density .2, scale 1)" in line for line in lines) == 1
    assert sum("_Latn" in line for line in lines) == 5
    assert not any("…" in line for line in lines if "significant" in line)


def test_122_languages_stay_readable():
    lines = printed(board(122, versus=("PSO star", "base"))).splitlines()
    assert max(map(len, lines)) <= 100
    # 61 significant ones, three a line; the others are counted.
    named = [line for line in lines if "_Latn" in line]
    assert (len(named), sum(line.count("_Latn") for line in named)) == (21, 61)
    assert "61 of 122 languages: no difference shown; with n = 50 each" in " ".join(" ".join(lines).split())


def test_benchmarks_have_a_table_of_their_own_where_a_language_has_several():
    text = printed(board(3, per_language=2))
    assert "by benchmark" in text
    assert "by language" in text
    assert "by benchmark" not in printed(board())


def test_one_model_alone_is_printed_without_comparisons():
    found = leaderboard(
        "belebele", {"base": [right(20, 50)]}, fitness={"base": 0.4}, failures={"expert\x1b[2J": "engine: died"}
    )
    text = printed(found)
    assert "40.0±" in text
    assert "significant" not in text
    assert "engine: died" in text
    assert "\x1b" not in text


def test_fitness_has_a_column_where_it_is_another_number_than_the_mean():
    assert "fitness" not in printed(board())
    assert "fitness" in printed(board(fitness=dict(zip(LABELS, (0.123, 0.5, 0.1), strict=True))))


def test_a_stream_without_unicode_gets_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(board(), stream)
    stream.seek(0)
    text = stream.read()
    assert "+-" in text
    assert "?" not in text


def test_too_few_items_for_any_difference_are_said_to_be():
    versus = board(3, 50).versus
    assert versus is not None
    none = {
        name: replace(one, detectable_corrected=None, verdict="no difference shown")
        for name, one in versus.languages.items()
    }
    assert remainder(none, "language").endswith("no true difference could have been seen with 80 % chance")
    some = none | {"xy0_Latn": replace(none["xy0_Latn"], detectable_corrected=0.13)}
    assert "below 13 points had less than 80 % chance to be seen, and any at all in 2 of them" in remainder(
        some, "language"
    )


@pytest.mark.parametrize("languages", [2, 5, 122])
def test_the_figure_names_every_model_and_language_without_overlap(languages):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = leaderboard_figure(board(languages, versus=("PSO star", "base")))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    models, forest = figure.axes
    assert [text.get_text().split("  ")[0] for text in models.get_yticklabels()] == [
        "PSO star",
        "TIES (density .2, sca…",
        "base",
    ]
    assert len(forest.get_yticklabels()) == languages
    for axes in (models, forest):
        boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
        assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(boxes))
        assert min(box.x0 for box in boxes) >= 0
    width, height = canvas.get_width_height()
    for part in figure.subfigs:
        assert part._suptitle is not None  # pyright: ignore[reportAttributeAccessIssue]
        assert part._suptitle.get_window_extent().x1 <= width  # pyright: ignore[reportAttributeAccessIssue]
    assert height / figure.dpi < 25


def test_significant_languages_are_filled_and_noise_is_empty():
    forest = leaderboard_figure(board(5, versus=("PSO star", "base"))).axes[1]
    drawn = {str(container.get_label()): container.lines[0] for container in forest.containers}  # pyright: ignore[reportAttributeAccessIssue]
    assert {label: len(line.get_xdata()) for label, line in drawn.items()} == {"better": 3, "noise": 2}
    assert drawn["better"].get_markerfacecolor() == drawn["better"].get_color()
    assert drawn["noise"].get_markerfacecolor() != drawn["noise"].get_color()


def test_one_model_has_a_figure_without_a_forest():
    assert len(leaderboard_figure(leaderboard("s", {"base": [right(20, 50)]}, fitness={"base": 0.4})).axes) == 1


def test_dollar_signs_in_a_name_are_no_formula():
    figure = leaderboard_figure(leaderboard("s", {"pay $x^2$": [right(20, 50)]}, fitness={"pay $x^2$": 0.4}))
    assert not figure.axes[0].get_yticklabels()[0].get_parse_math()
