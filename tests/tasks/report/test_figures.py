"""The figures draw every number, keep hostile names text, and are equal bytes for equal input."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from made.summaries import example
from psomerge.tasks.report import figures
from psomerge.tasks.report.summary import Model, Summary
from psomerge.tasks.search.history import Particle, SearchStep

HOSTILE = '<script>alert("$x^2$")</script>'


def texts(page: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(page).iter("{http://www.w3.org/2000/svg}text")]


def grouped(groups: int) -> Summary:
    summary = example()
    rows = [[0.1 * number + 0.01 * direction for direction in range(4)] for number in range(1, groups + 1)]
    return replace(summary, recipe=dict(summary.recipe) | {"coefficients": rows})


def test_every_particle_is_a_dot_and_failures_stand_on_the_floor() -> None:
    axes = figures.fitness_figure(example()).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    # 9 particles x 5 steps: two were idle, one failed.
    assert {label: len(lines[label].get_xdata()) for label in ("a particle", "… not moved", "failed, no score")} == {  # pyright: ignore[reportArgumentType]
        "a particle": 42,
        "… not moved": 2,
        "failed, no score": 1,
    }
    fitness = sorted(
        100 * p.fitness for step in example().history for p in step.particles if p.fitness is not None and p.judged
    )
    assert sorted(lines["a particle"].get_ydata()) == pytest.approx(fitness)  # pyright: ignore[reportArgumentType]


def test_a_failure_does_not_pull_the_scale_to_zero() -> None:
    assert figures.fitness_figure(example()).axes[0].get_ylim()[0] > 20


def test_a_stopped_particle_is_a_small_hollow_mark_at_its_bound() -> None:
    step = SearchStep((Particle(((0.1,),), 0.5), Particle(((0.2,),), None, bound=0.43)), 0.5)
    lines = {
        str(line.get_label()): line
        for line in figures.fitness_figure(replace(example(), history=(step,), rows=())).axes[0].get_lines()
    }
    mark = lines["… stopped, at most"]
    assert list(mark.get_ydata()) == pytest.approx([43])  # pyright: ignore[reportArgumentType]
    assert mark.get_markerfacecolor() == "none"
    assert mark.get_markersize() < lines["a particle"].get_markersize()


def test_the_best_ever_is_a_line_over_all_steps() -> None:
    lines = {str(line.get_label()): line for line in figures.fitness_figure(example()).axes[0].get_lines()}
    best = [100 * (step.best or 0) for step in example().history]
    assert list(lines[f"best so far {best[-1]:.1f}"].get_ydata()) == pytest.approx(best)  # pyright: ignore[reportArgumentType]


def test_baselines_are_lines_at_their_fitness_not_at_their_test_score() -> None:
    rows = tuple(replace(row, fitness=0.5125 if row.label == "plain average" else None) for row in example().rows)
    lines = {
        str(line.get_label()): line
        for line in figures.fitness_figure(replace(example(), rows=rows)).axes[0].get_lines()
    }
    assert list(lines["plain average 51.2"].get_ydata()) == pytest.approx([51.25, 51.25])  # pyright: ignore[reportArgumentType]
    assert not any(label.startswith(("base", "TIES", "expert")) for label in lines)


def test_a_run_in_which_everything_failed_still_has_a_curve() -> None:
    step = SearchStep((Particle(((0.1,),), None, "died"),) * 3, None)
    drawn = texts(figures.svg(figures.fitness_figure(replace(example(), history=(step,), rows=())), "f"))
    assert "failed, no score" in drawn
    assert "best so far" in drawn


def test_coefficients_are_written_beside_their_bars() -> None:
    drawn = texts(figures.svg(figures.coefficients_figure(example()), "c"))
    # BEST = (0.6103125, 0.548, 0.512, 0.6401), sum 2.3104125.
    assert {"so", "tk", "eu", "skill", "0.61", "0.55", "0.51", "0.64", "coefficients, sum 2.31"} <= set(drawn)


def test_several_groups_have_a_panel_for_each_expert() -> None:
    figure = figures.coefficients_figure(replace(grouped(3), groups=("early", "middle", "late")))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["so", "tk", "eu", "skill"]
    assert [[round(patch.get_width(), 6) for patch in axes.patches] for axes in figure.axes][1] == [0.11, 0.21, 0.31]  # pyright: ignore[reportAttributeAccessIssue]
    assert {"early", "middle", "late"} <= set(texts(figures.svg(figure, "g")))


def test_the_layers_of_a_deep_model_stand_side_by_side() -> None:
    figure = figures.coefficients_figure(grouped(24))
    assert [len(axes.patches) for axes in figure.axes] == [24] * 4
    assert [round(patch.get_height(), 6) for patch in figure.axes[3].patches] == [
        round(0.1 * n + 0.03, 6) for n in range(1, 25)
    ]  # pyright: ignore[reportAttributeAccessIssue]
    assert figure.get_figheight() < 6


def test_dare_copies_have_names_of_their_own() -> None:
    summary = example()
    paper = replace(summary, recipe=dict(summary.recipe) | {"coefficients": [[0.1] * 8]})
    assert "skill (DARE)" in texts(figures.svg(figures.coefficients_figure(paper), "c"))


def test_a_method_without_coefficients_is_refused() -> None:
    with pytest.raises(ValueError, match="no coefficients to draw"):
        figures.coefficients_figure(replace(example(), recipe=dict(example().recipe) | {"method": "ties"}))


def test_languages_show_base_best_expert_and_merged_with_their_intervals() -> None:
    axes = figures.languages_figure(example()).axes[0]
    shown = {container.get_label(): container for container in axes.containers}
    assert list(shown) == ["base", "expert skill", "PSO star"]
    merged = example().row("PSO star")
    assert merged is not None
    bars = shown["PSO star"][2][0].get_segments()  # pyright: ignore[reportIndexIssue]
    assert [(s[0][0], s[1][0]) for s in bars] == [
        pytest.approx((100 * e.low, 100 * e.high)) for e in merged.languages.values()
    ]


def test_benchmarks_are_all_named() -> None:
    assert {"pick-so", "kind-so", "pick-tk", "kind-tk", "pick-eu", "kind-eu", "kind-en"} <= set(
        texts(figures.svg(figures.benchmarks_figure(example()), "b"))
    )


def test_equal_runs_have_equal_bytes_and_no_date() -> None:
    first, second = (figures.svg(figures.fitness_figure(example()), "fitness") for _ in range(2))
    assert first == second
    assert "metadata" not in first
    assert "2026" not in first


def test_identifiers_of_two_figures_never_clash() -> None:
    def identifiers(page: str) -> set[str]:
        return {element.attrib["id"] for element in ElementTree.fromstring(page).iter() if "id" in element.attrib}

    first = identifiers(figures.svg(figures.languages_figure(example()), "languages"))
    second = identifiers(figures.svg(figures.benchmarks_figure(example()), "benchmarks"))
    assert first
    assert not first & second


def test_hostile_names_stay_text_and_are_no_formula() -> None:
    summary = example()
    experts = (Model(HOSTILE, "folder", "0" * 40, "0" * 64), *summary.provenance.experts[1:])
    page = figures.svg(
        figures.coefficients_figure(replace(summary, provenance=replace(summary.provenance, experts=experts))), HOSTILE
    )
    assert "<script" not in page
    assert HOSTILE[:17] + "…" in texts(page)


def test_dollar_signs_in_a_name_are_no_formula() -> None:
    rows = tuple(replace(row, label="pay $x^2$ now") if row.label == "base" else row for row in example().rows)
    summary = replace(example(), rows=rows)
    assert "pay $x^2$ now" in texts(figures.svg(figures.languages_figure(summary), "l"))
    assert any(text.startswith("pay $x^2$ now ") for text in texts(figures.svg(figures.fitness_figure(summary), "f")))


def test_a_script_that_the_font_lacks_is_kept_as_text() -> None:
    summary = example()
    experts = (Model("தமிழ்", "folder", "0" * 40, "0" * 64), *summary.provenance.experts[1:])
    assert "தமிழ்" in texts(
        figures.svg(
            figures.coefficients_figure(replace(summary, provenance=replace(summary.provenance, experts=experts))), "c"
        )
    )


def test_nothing_of_matplotlib_is_left_open() -> None:
    from matplotlib import _pylab_helpers

    figures.svg(figures.fitness_figure(example()), "f")
    assert not _pylab_helpers.Gcf.figs
