"""What asks the same stands in one split, and is no example of itself, whatever it is called."""

import json
import logging
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from made.models import tiny_llama
from psomerge.errors import ArtefactError
from psomerge.evals.harness import build_all, inspect
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS, split_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

SHARES = {"optimisation": 0.3, "validation": 0.2, "test": 0.3}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def task(folder: Path, name: str, rows: list[dict], **more) -> None:
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    }
    (folder / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(content | more))


def row(question: str, **more) -> dict:
    return {"question": question, "choices": ["yes", "no"], "label": 0} | more


def sets_of(folder: Path, model: Path, *entries: dict, shares: dict | None = None, **more):
    benchmarks = [{"metric": "acc"} | entry for entry in entries]
    content = {"name": "made", "salt": "made-1", "include": ["tasks"], "benchmarks": benchmarks} | more
    if not all("split" in entry for entry in entries):
        content["shares"] = shares or SHARES
    (folder / "made.yaml").write_text(yaml.safe_dump(content))
    suite = load_suite(folder / "made.yaml")
    return build_all(suite, SPLITS, model, cache=folder / "cache", allow_task_code=True)


def where(sets, key="question") -> dict[str, set[str]]:
    """The splits of each question, as a person compares them."""
    found = defaultdict(set)
    for split, one in sets.items():
        for prepared in one.prepared:
            for doc in prepared.items.docs:
                found[" ".join(doc[key].lower().split())].add(split)
    return found


def test_sixty_questions_each_twice_under_two_ids_stand_in_one_split_and_are_no_example_of_themselves(
    tmp_path, model, caplog
):
    rows = [row(f"Question {k}?", id=f"{side}{k}") for side in "ab" for k in range(60)]
    task(tmp_path, "twice", rows)
    with caplog.at_level(logging.WARNING):
        sets = sets_of(tmp_path, model, {"task": "twice", "group": "id", "prompting": {"num_fewshot": 3}})
    found = where(sets)
    assert {len(splits) for splits in found.values()} == {1}
    # By hand: of the 60 pairs "a" is the first of the two names, so each pair is where the suite's salt puts "a".
    expected = {f"question {k}?": split_of("made-1", f"a{k}", SHARES) for k in range(60)}
    assert {question: {split} for question, split in expected.items() if split} == found
    for one in sets.values():
        (prepared,) = one.prepared
        for instance in prepared.task.instances:
            *examples, asked = instance.args[0].split("\n\n")
            assert len(examples) == 3
            assert not [example for example in examples if example.split("?")[0] == asked.split("?")[0]]
            assert not [example for example in examples if found.get(f"{example.split('?')[0].lower()}?")]
    apart = sum(split_of("made-1", f"a{k}", SHARES) != split_of("made-1", f"b{k}", SHARES) for k in range(60))
    assert apart > 12
    assert "60 questions are asked under several names, by 120 items" in caplog.text
    assert f"({apart} were in several)" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        "what  is\tthe\u00a0capital of perú? {k}\n",
        "WHAT IS THE CAPITAL OF PERU\u0301? {k}",
        "Ｗhat is the capital of Perú\uff1f {k}",
        "\ufeffWhat is the capi\u00adtal of Perú? {k}\u200b",
    ],
)
def test_a_question_is_the_same_in_another_form_case_and_with_other_blanks(tmp_path, model, other):
    rows = [row(f"What is the capital of Perú? {k}", id=f"a{k}") for k in range(40)]
    task(tmp_path, "forms", rows + [row(other.format(k=k), id=f"b{k}", label=1) for k in range(40)])
    sets = sets_of(tmp_path, model, {"task": "forms", "group": "id"})
    splits = defaultdict(set)
    for split, one in sets.items():
        for doc in one.prepared[0].items.docs:
            splits[doc["id"][1:]].add(split)
    assert {len(one) for one in splits.values()} == {1}
    assert sum(len(one.prepared[0].items.docs) for one in sets.values()) % 2 == 0


def test_an_item_that_asks_what_two_groups_ask_makes_one_group_of_them_across_benchmarks(tmp_path, model):
    # Passages A-k and B-k share nothing; an item of another benchmark, of group C-k, asks one question of each, and a
    # third benchmark writes the answer.
    task(
        tmp_path,
        "one",
        [row(f"{side} {k} {n}?", passage=f"{side}-{k}") for k in range(30) for side in "AB" for n in (1, 2)],
    )
    task(tmp_path, "two", [row(f"{side} {k} 1?", passage=f"C-{k}") for k in range(30) for side in "AB"])
    writes = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{choices[label]}}"}
    writes |= {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}}
    writes |= {"metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]}
    task(tmp_path, "three", [row(f"b {k} 2 ?".replace(" ?", "?"), passage=f"D-{k}") for k in range(30)], **writes)
    sets = sets_of(
        tmp_path,
        model,
        *({"task": name, "group": "passage"} for name in ("one", "two")),
        {"task": "three", "group": "passage", "metric": "exact_match"},
    )
    found = defaultdict(set)
    for split, one in sets.items():
        for prepared in one.prepared:
            for doc, group in zip(prepared.items.docs, prepared.items.groups, strict=True):
                found[doc["passage"].split("-")[1]].add((split, group))
    assert {len(one) for one in found.values()} == {1}
    assert {group for one in found.values() for _, group in one} <= {f"A-{k}" for k in range(30)}


def test_data_that_name_their_own_splits_keep_what_is_held_out(tmp_path, model, caplog):
    rows = [row(f"Question {k}?", part=part) for part in SPLITS for k in range(10)]
    rows += [row(f"Only {part} {k}?", part=part) for part in SPLITS for k in range(10)]
    task(tmp_path, "own", rows)
    with caplog.at_level(logging.WARNING):
        sets = sets_of(tmp_path, model, {"task": "own", "split": "part"})
    found = where(sets)
    assert {question: splits for question, splits in found.items() if question.startswith("question")} == {
        f"question {k}?": {"test"} for k in range(10)
    }
    assert {split: len(one.prepared[0].items.docs) for split, one in sets.items()} == {
        "optimisation": 10,
        "validation": 10,
        "test": 20,
    }
    assert "20 items are left out, as a split that is more held out asks the same" in caplog.text


def test_hashed_items_follow_what_the_data_of_another_benchmark_name(tmp_path, model):
    task(tmp_path, "own", [row(f"Question {k}?", part=SPLITS[k % 3]) for k in range(30)])
    task(tmp_path, "hashed", [row(f"question {k} ?".replace(" ?", "?"), id=str(k)) for k in range(60)])
    sets = sets_of(tmp_path, model, {"task": "own", "split": "part"}, {"task": "hashed", "group": "id"})
    found = where(sets)
    assert all(found[f"question {k}?"] == {SPLITS[k % 3]} for k in range(30))


def test_questions_that_choices_tell_are_not_one(tmp_path, model, caplog):
    # An empty prompt (the choices are the sentences), one prompt for all, and four for hundreds.
    task(tmp_path, "empty", [row("", choices=[f"a {k}", f"b {k}"], id=str(k)) for k in range(60)])
    task(tmp_path, "general", [row("Which is right?", choices=[f"c {k}", f"d {k}"], id=str(k)) for k in range(60)])
    task(tmp_path, "few", [row(f"Which {k % 4}?", choices=[f"e {k}", f"f {k}"], id=str(k)) for k in range(60)])
    again = [row("", choices=[f"b {k}", f"a {k}"], id=f"again {k}") for k in range(60)]
    with caplog.at_level(logging.WARNING):
        sets_of(tmp_path, model, *({"task": name, "group": "id"} for name in ("empty", "general", "few")))
        assert "several names" not in caplog.text
        task(tmp_path, "again", again)
        sets = sets_of(tmp_path, model, *({"task": name, "group": "id"} for name in ("empty", "again")))
    found = defaultdict(set)
    for split, one in sets.items():
        for prepared in one.prepared:
            for doc in prepared.items.docs:
                found[doc["id"].removeprefix("again ")].add(split)
    assert {len(one) for one in found.values()} == {1}


def groups_of(sets) -> set[str]:
    return {group for one in sets.values() for prepared in one.prepared for group in prepared.items.groups}


ALL = {"optimisation": 0.3, "validation": 0.3, "test": 0.4}


@pytest.mark.parametrize("texts", [7, 20, 59])
def test_other_choices_under_the_same_instruction_are_other_questions(tmp_path, model, texts, caplog):
    # The story: 60 items under 7 instructions became 7 groups, and the test split was 9 items of one.
    rows = [row(f"Instruction {k % texts}: pick", choices=[f"a {k}", f"b {k}"], id=str(k)) for k in range(60)]
    task(tmp_path, "generic", rows)
    with caplog.at_level(logging.WARNING):
        sets = sets_of(tmp_path, model, {"task": "generic", "group": "id"}, shares=ALL)
    assert len(groups_of(sets)) == 60
    assert "several names" not in caplog.text


def test_a_question_with_a_choice_in_common_or_with_none_is_the_same(tmp_path, model):
    # Each question thrice: the second has its choices in another case and one other, the third shares one with the
    # second alone. Questions told by letters are one, too. By hand: 20 + 10 groups.
    rows = []
    for k in range(20):
        for n, choices in enumerate(([f"Red {k}", "blue"], [f"red  {k}", f"green {k}"], [f"GREEN {k}", "white"])):
            rows.append(row(f"Which colour {k}?", choices=choices, id=f"{n}-{k}"))
    rows += [row(f"Which {k}? A. x B. y", choices=["A", "B"], id=f"{n}-letter-{k}") for k in range(10) for n in (0, 1)]
    task(tmp_path, "coloured", rows)
    assert len(groups_of(sets_of(tmp_path, model, {"task": "coloured", "group": "id"}, shares=ALL))) == 30
    # Without choices it is all of them: two that share none are one with a third that is written.
    task(tmp_path, "picks", [row(f"Say {k}?", choices=[f"{s} {k}"], id=f"{s}{k}") for k in range(20) for s in "ab"])
    writes = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{choices[0]}}"}
    writes |= {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}}
    writes |= {"metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]}
    task(tmp_path, "says", [row(f"say {k}?", choices=["x"], id=f"c{k}") for k in range(20)], **writes)
    entries = {"task": "picks", "group": "id"}, {"task": "says", "group": "id", "metric": "exact_match"}
    assert groups_of(sets_of(tmp_path, model, *entries, shares=ALL)) == {f"a{k}" for k in range(20)}


def test_an_example_with_other_choices_asks_another_question(tmp_path, model):
    items = [row("Pick one", choices=[f"a {k}", f"b {k}"], id=f"i{k}") for k in range(9)]
    items += [row("Pick another", choices=[f"c {k}", f"d {k}"], id=f"j{k}") for k in range(9)]
    shown = [row("pick one", choices=["b 0", "y"], id="x"), row("pick one", choices=["e", "f"], id="y")]
    shown += [row(f"Free {k}", choices=["e", "f"], id=f"f{k}") for k in range(2)]
    (tmp_path / "shown.jsonl").write_text("".join(json.dumps(one) + "\n" for one in shown))
    files = {"test": str(tmp_path / "made.jsonl"), "dev": str(tmp_path / "shown.jsonl")}
    task(tmp_path, "made", items, fewshot_split="dev", dataset_kwargs={"data_files": files})
    entry = {"task": "made", "group": "id"}
    sets_of(tmp_path, model, entry | {"prompting": {"num_fewshot": 3}}, shares=ALL)
    with pytest.raises(ArtefactError, match=r"at least 4 examples .* found 3 of 4 \(1 ask what an item"):
        sets_of(tmp_path, model, entry | {"prompting": {"num_fewshot": 4}}, shares=ALL)


def test_examples_of_a_group_that_asks_what_an_item_asks_are_not_shown_and_too_few_are_said(tmp_path, model, caplog):
    # Examples from a part of their own: example 0 asks what item 0 asks, example 1 is of its passage, example 2 asks
    # what example 1 asks.
    items = [row(f"Item {k}?", passage=f"i{k}") for k in range(12)]
    shown = [row("item 0 ?".replace(" ?", "?"), passage="x"), row("Other?", passage="x"), row("other?", passage="y")]
    shown += [row(f"Free {k}?", passage=f"f{k}") for k in range(4)]
    (tmp_path / "shown.jsonl").write_text("".join(json.dumps(one) + "\n" for one in shown))
    files = {"test": str(tmp_path / "asked.jsonl"), "dev": str(tmp_path / "shown.jsonl")}
    task(tmp_path, "asked", items, fewshot_split="dev", dataset_kwargs={"data_files": files})
    shares = {"optimisation": 0.3, "validation": 0.3, "test": 0.4}
    entry = {"task": "asked", "group": "passage"}
    with caplog.at_level(logging.WARNING):
        sets = sets_of(tmp_path, model, entry | {"prompting": {"num_fewshot": 4}}, shares=shares)
    for one in sets.values():
        for instance in one.prepared[0].task.instances:
            assert sorted(part.split("?")[0] for part in instance.args[0].split("\n\n")[:-1]) == [
                f"Free {k}" for k in range(4)
            ]
    assert "3 examples ask what an item asks, or are of a group with one, and are not shown" in caplog.text
    with pytest.raises(
        ArtefactError, match=r"at least 5 examples .* found 4 of 7 \(3 ask what an item of a split asks"
    ):
        sets_of(tmp_path, model, entry | {"prompting": {"num_fewshot": 5}}, shares=shares)


def test_an_inspection_tells_what_is_joined_and_nothing_where_nothing_is(tmp_path, model):
    task(tmp_path, "twice", [row(f"Question {k % 30}?", id=str(k)) for k in range(60)])
    task(tmp_path, "once", [row(f"Other {k}?", id=str(k)) for k in range(60)])
    sets_of(tmp_path, model, {"task": "twice", "group": "id"}, {"task": "once", "group": "id"})
    suite = load_suite(tmp_path / "made.yaml")
    found = inspect(suite, SPLITS, cache=tmp_path / "cache", allow_task_code=True)
    assert not found.problems
    assert found.equal.startswith("30 questions are asked under several names, by 60 items")
    assert sum(found.items.values()) > 0
    sets_of(tmp_path, model, {"task": "once", "group": "id"})
    assert (
        inspect(load_suite(tmp_path / "made.yaml"), SPLITS, cache=tmp_path / "cache", allow_task_code=True).equal == ""
    )


def test_a_document_that_a_task_cannot_take_asks_nothing_until_it_is_chosen(tmp_path, model):
    names = [name for name in map(str, range(40, 80)) if split_of("made-1", name, SHARES) is None]
    rows = [row(f"Question {k}?", id=str(k)) for k in range(40)] + [row("", id=name) for name in names]
    task(tmp_path, "made", rows, doc_to_text="{{question[0]}}: {{question}}")
    assert names
    assert len(where(sets_of(tmp_path, model, {"task": "made", "group": "id"}))) > 20
    task(
        tmp_path,
        "made",
        [*rows, *(row("", id=f"b{k}") for k in range(40))],
        doc_to_text="{{question[0]}}: {{question}}",
    )
    with pytest.raises(ArtefactError, match=r"benchmark made: item .*: cannot make its prompt: UndefinedError"):
        sets_of(tmp_path, model, {"task": "made", "group": "id"})
