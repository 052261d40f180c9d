"""The page says every number, leans on nothing outside itself, and lets no name become markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from made.summaries import ITEMS, NAMES, SCORES, example
from psomerge.errors import SpaceError
from psomerge.evals.significance.intervals import Interval
from psomerge.fit.warning import FitWarning
from psomerge.tasks.report import page as report
from psomerge.tasks.report.summary import Comparison, Model, Registration, Split, Summary
from psomerge.tasks.search.history import Particle, SearchStep

HOSTILE = "<script>alert('x')</script>\"><img src=http://evil.example/>{{ 7*7 }}"
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Visible text, table rows, tags with attributes; `broken` names a tag that was closed out of turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.broken: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.text += " " * (tag in ("td", "th", "dd"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data + " "

    def row(self, start: str) -> list[str]:
        return next(
            [" ".join(cell.split()) for cell in row] for row in self.rows if row and row[0].strip().startswith(start)
        )


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report.render(example()))


def hostile() -> Summary:
    """The example with a hostile text in every place that takes one."""
    summary = example()
    bad = Interval(0.5, 0.4, 0.6, 10)
    rows = tuple(
        replace(
            r,
            label=r.label + HOSTILE,
            benchmarks=dict(r.benchmarks) | {HOSTILE: bad},
            languages=dict(r.languages) | {HOSTILE: bad},
        )
        for r in summary.rows
    )
    rows = (*rows, replace(rows[0], label="broken", mean=None, benchmarks={}, languages={}, failure=HOSTILE))
    model = Model(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    step = SearchStep((Particle(((0.1,) * 4,), None, HOSTILE),), None)
    return replace(
        summary,
        run=HOSTILE,
        config=HOSTILE,
        suite=HOSTILE,
        swarm=HOSTILE,
        finished=HOSTILE,
        result=rows[9].label,
        rows=rows,
        history=(*summary.history, step),
        provenance=replace(
            summary.provenance,
            base=model,
            experts=(model,) * 4,
            versions={HOSTILE: HOSTILE},
            device=HOSTILE,
            engine=HOSTILE,
            dtype=HOSTILE,
        ),
        recipe=dict(summary.recipe) | {HOSTILE: HOSTILE},
        comparisons=(Comparison(HOSTILE, HOSTILE, 0.1, 0.0, 0.2, 0.5),),
        splits=(Split(HOSTILE, 3, HOSTILE),),
        seconds={HOSTILE: 1.0},
        registration=Registration(HOSTILE, HOSTILE, HOSTILE, False, HOSTILE),
    )


def test_the_page_is_well_formed(page: Page) -> None:
    assert page.broken == []
    assert page.open == []


def test_every_score_of_the_table_is_on_the_page(page: Page) -> None:
    for label, scores in SCORES.items():
        cells = page.row(label)
        assert [cell.split()[0] for cell in cells[1:9]] == [f"{sum(scores) / 7:.1f}", *(str(score) for score in scores)]


def test_every_benchmark_stands_with_its_number_of_items(page: Page) -> None:
    assert page.row("Model")[2:9] == [f"{name} n {n}" for name, n in zip(NAMES, ITEMS, strict=True)]


def test_intervals_stand_below_the_scores(page: Page) -> None:
    # 64 of 100 in 141 items: 1.96 * sqrt(.64 * .36 / 141) = .0792; mean 57.86 in 1105: .0291.
    assert page.row("PSO star")[1:3] == ["57.9 55–61", "64 56–72"]


def test_the_best_of_each_column_is_marked_and_no_other() -> None:
    lines = report.table(example())
    marked = [
        [line.row.label for line in lines if line.cells[column] and line.cells[column].best] for column in range(8)
    ]  # pyright: ignore[reportOptionalMemberAccess]
    star, ties = "PSO star", "TIES (density .2, scale 1)"
    assert marked == [
        [star],
        ["expert so"],
        [star],
        ["expert tk"],
        [ties, star],
        ["expert eu"],
        [ties],
        ["expert skill"],
    ]


def test_the_merged_model_is_told_from_the_others(page: Page) -> None:
    assert [" ".join(row[0].split()) for row in page.rows if "the merged model" in row[0]] == [
        "PSO star the merged model"
    ]


def test_the_page_says_what_ran_and_what_it_cost(page: Page) -> None:
    words = " ".join(page.text.split())
    for part in (
        "Initial swarm star",
        "5 steps, 43 judgements",
        "engine 1.4 GiB, pipeline 697 MiB",
        "5 min 11 s",
        "2026-02-03 10:15:00 UTC",
    ):
        assert part in words
    assert page.row("score")[1] == "1 min 21 s"
    # Wall 311.2 s less the phases' 300.65 s; and (.9 + 1.6 + .05 + .7) / 81.4 = 3.99 %.
    assert page.row("everything else")[1] == "10.6 s"
    assert "cost 4.0 % of scoring" in words


def test_the_page_says_which_items_selected_and_which_report(page: Page) -> None:
    assert page.row("optimisation")[:2] == ["optimisation 704 items", "fitness of particles, tuning of baselines"]
    assert page.row("test")[:2] == ["test 1,105 items", "this report, once; promotion"]


def test_the_page_says_what_was_asked_under_several_names() -> None:
    told = "12 questions are asked under several names"
    assert told in report.render(replace(example(), equal=told))
    assert "several names" not in report.render(example())


def test_recipe_and_provenance_are_on_the_page(page: Page) -> None:
    assert "0.6103125" in page.text
    assert "embedded://skill@0" in page.row("skill")
    assert "torch 2.13.0" in page.text
    assert example().run in page.text


def test_paired_differences_have_sign_interval_and_p(page: Page) -> None:
    assert page.row("PSO star − TIES")[1:] == ["+3.7 −0.4 to +7.9", "0.081"]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = report.render(hostile())
    for tag, attributes in Page(text).tags:
        assert tag not in ("script", "link", "iframe", "img", "object", "embed", "base"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
                assert (value or "").startswith("#"), (tag, name, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert "<script" not in text


def test_hostile_names_are_shown_and_never_run() -> None:
    text = report.render(hostile())
    found = Page(text)
    assert found.broken == []
    assert HOSTILE in found.text
    assert "&lt;script&gt;" in text
    assert not any(tag in ("script", "img") for tag, _ in found.tags)


def test_a_failed_particle_is_listed_as_failed_with_its_reason(page: Page) -> None:
    assert page.row("step 3, particle 3") == [
        "step 3, particle 3",
        "failed : engine: pick-tk answered NaN for 3 of 106 items",
    ]


def test_a_row_that_failed_says_so_and_shows_no_number() -> None:
    rows = tuple(
        replace(r, mean=None, benchmarks={}, languages={}, failure="engine died twice") if r.label == "PSO paper" else r
        for r in example().rows
    )
    found = Page(report.render(replace(example(), rows=rows)))
    cells = found.row("PSO paper")
    assert cells[1] == "failed: engine died twice"
    assert len(cells) == 4
    assert ["PSO paper", "failed : engine died twice"] in [
        [" ".join(cell.split()) for cell in row] for row in found.rows
    ]


def test_a_run_without_failures_says_so() -> None:
    history = tuple(
        SearchStep(tuple(p for p in step.particles if p.fitness is not None), step.best) for step in example().history
    )
    text = Page(report.render(replace(example(), history=history))).text
    assert "No judgement failed." in text
    assert "never a best" not in text


def test_parts_that_are_missing_are_said_to_be() -> None:
    bare = replace(
        example(),
        history=(),
        rows=(),
        comparisons=(),
        splits=(),
        candidates=(),
        seconds={},
        wall_seconds=0.0,
        engine_bytes=0,
        main_bytes=0,
        registration=None,
    )
    text = " ".join(Page(report.render(replace(bare, recipe={"method": "ties"}))).text.split())
    for sentence in (
        "The merged model has no score on test items; not registered.",
        "This model was not registered.",
        "No pair of models was compared item by item.",
        "The splits were not recorded.",
        "The time was not measured.",
        "No candidates were ranked again",
        "engine not measured, pipeline not measured",
    ):
        assert sentence in text


def test_a_model_that_was_not_promoted_has_its_reason_on_the_page() -> None:
    kept = Registration("psomerge-quickstart", "4", None, False, "it does not beat the base (p = 0.3)")
    text = " ".join(Page(report.render(replace(example(), registration=kept))).text.split())
    assert "version 4, no alias: not promoted, it does not beat the base (p = 0.3)" in text


def test_several_groups_of_coefficients_are_drawn_and_counted() -> None:
    groups = ((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8))
    rows = tuple(replace(r, coefficients=groups) if r.label == "PSO star" else r for r in example().rows)
    recipe = dict(example().recipe) | {"coefficients": [list(group) for group in groups]}
    text = Page(report.render(replace(example(), rows=rows, recipe=recipe, groups=("attention", "rest")))).text
    assert "2 groups" in text
    assert "attention" in text


def test_equal_runs_have_equal_pages() -> None:
    assert report.render(example()) == report.render(example())


def test_the_page_is_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    path = report.write(example(), tmp_path / "run" / "report")
    assert path.read_text(encoding="utf-8") == report.render(example())
    assert [child.name for child in path.parent.iterdir()] == ["index.html"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(SpaceError, match="expected to write here") as caught:
        report.write(example(), tmp_path / "report")
    assert "\n" not in str(caught.value)


def test_text_is_large_enough_for_a_phone() -> None:
    text = report.render(example())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "font: 1rem/" in text
    # Figures are drawn as wide as a phone shows them, so their text is scaled up, never down: 302 units against some
    # 358 pixels.
    assert {float(box.split()[2]) for box in re.findall(r'viewBox="([^"]*)"', text)} == {302.4}


def test_warnings_about_experts_are_shown_escaped_and_only_where_there_are_some() -> None:
    warning = FitWarning("so", "eos token", "'</s>' (id 2)", HOSTILE, 'tokenizer_from "base" decides')
    page = Page(report.render(replace(example(), warnings=(warning,))))
    assert ["so", "eos token", "'</s>' (id 2)", HOSTILE, 'tokenizer_from "base" decides'] in [
        [" ".join(cell.split()) for cell in row] for row in page.rows
    ]
    assert "Warnings about the experts" not in Page(report.render(example())).text
