"""Concepts, splits and items of the embedded benchmarks."""

import re
from collections import Counter

import pytest

from places import SHIPPED
from psomerge.evals.benchmarks.cldr.items import CldrItem, kind_items, pick_items
from psomerge.evals.benchmarks.cldr.names import (
    KINDS,
    LANGUAGES,
    SALT,
    SHARES,
    Concept,
    concepts,
    names,
    spare_concepts,
    split_of_concept,
)
from psomerge.evals.suites.file import load_suite

JAPAN = Concept("territory", "JP")


def benchmarks() -> dict[str, list[CldrItem]]:
    return {f"pick-{language}": pick_items(language) for language in LANGUAGES} | {
        f"kind-{language}": kind_items(language) for language in (*LANGUAGES, "en")
    }


def test_training_and_suite_split_by_the_same_salt_and_shares():
    suite = load_suite("quickstart", SHIPPED)
    assert (suite.salt, suite.shares) == (SALT, SHARES)
    assert {benchmark.group for benchmark in suite.benchmarks} == {"concept"}


def test_the_suite_has_the_seven_benchmarks_with_equal_weight():
    suite = load_suite("quickstart", SHIPPED)
    assert [benchmark.name for benchmark in suite.benchmarks] == list(benchmarks())
    assert {benchmark.weight for benchmark in suite.benchmarks} == {1}
    assert {benchmark.limits["optimisation"] for benchmark in suite.benchmarks} == {50}


# Names as in CLDR, looked up by hand.
@pytest.mark.parametrize(
    ("locale", "name"), [("en", "Japan"), ("de", "Japan"), ("so", "Jabaan"), ("tk", "Ýaponiýa"), ("eu", "Japonia")]
)
def test_a_country_has_its_name_in_every_language(locale: str, name: str):
    assert names(locale)[JAPAN] == name


def test_a_unit_without_a_display_name_takes_the_pattern_that_counts_it():
    from babel import Locale

    assert "long" not in Locale.parse("so").unit_display_names["angle-radian"]
    assert names("so")[Concept("unit", "angle-radian")] == "raadiyan"


@pytest.mark.parametrize("locale", ["en", "de", *LANGUAGES])
def test_a_name_is_short_and_plain_and_belongs_to_one_concept(locale: str):
    found = [name.lower() for name in names(locale).values()]
    assert len(found) == len(set(found)) > 900
    assert all(0 < len(name) <= 26 and not set(name) & set("(,0123456789\n") for name in found)


@pytest.mark.parametrize("locale", ["en", "de", *LANGUAGES])
def test_no_name_holds_a_kind_word(locale: str):
    # With "astronomical units" among the names every base answered "unit" to everything, and no mean of experts could
    # change its mind.
    words = {word for name in names(locale).values() for word in re.findall(r"\w+", name.lower())}
    assert not words & {"country", "language", "languages", "currency", "unit", "units"}
    assert "United Kingdom" in names("en").values()


def test_there_are_460_concepts_each_named_in_all_languages():
    assert Counter(concept.kind for concept in concepts()) == {
        "territory": 130,
        "language": 130,
        "currency": 100,
        "unit": 100,
    }
    assert len(set(concepts())) == 460
    assert all(concept in names(locale) for concept in concepts() for locale in ("en", *LANGUAGES))


def test_spare_concepts_are_in_no_benchmark():
    spare = spare_concepts(60)
    assert set(Counter(concept.kind for concept in spare).values()) == {60}
    assert not set(spare) & set(concepts())


def test_every_kind_has_its_share_in_every_split():
    found = Counter((concept.kind, split_of_concept(concept)) for concept in concepts())
    for kind, most in (("territory", 130), ("language", 130), ("currency", 100), ("unit", 100)):
        for split, share in (*SHARES.items(), (None, 0.26)):
            assert abs(found[kind, split] - share * most) <= 3


def test_every_benchmark_has_enough_items_in_every_split():
    splits = {concept.group: split_of_concept(concept) for concept in concepts()}
    for items in benchmarks().values():
        found = Counter(splits[item.concept] for item in items)
        assert found["optimisation"] >= 70
        assert found["validation"] >= 40
        assert found["test"] >= 120


def test_the_right_choice_of_a_pick_item_is_the_name_and_the_others_are_of_its_kind():
    for language in LANGUAGES:
        concept_of = {name: concept for concept, name in names(language).items()}
        for item in pick_items(language):
            chosen = [concept_of[choice.removesuffix(".")] for choice in item.choices]
            assert chosen[item.gold].group == item.concept
            assert len(set(chosen)) == 4
            assert {concept.kind for concept in chosen} == {chosen[item.gold].kind}


def test_a_pick_item_asks_for_the_english_name_in_the_language():
    concept = next(
        concept
        for concept in concepts()
        if concept.kind == "territory" and names("en")[concept] != names("eu")[concept]
    )
    item = next(item for item in pick_items("eu") if item.concept == concept.group)
    assert item.prompt == f"{names('en')[concept]} in Basque is"


def test_the_right_choice_of_a_kind_item_is_the_word_of_its_kind():
    for language in (*LANGUAGES, "en"):
        for item in kind_items(language):
            kind = item.concept.split(":")[0]
            assert item.choices == ("country", "language", "currency", "unit")
            assert item.choices[item.gold] == KINDS[kind]


def test_the_position_of_the_right_choice_tells_nothing():
    for language in LANGUAGES:
        found = Counter(item.gold for item in pick_items(language))
        # 4 equally likely positions: 5 standard deviations of a binomial with p = 1/4.
        n = found.total()
        assert all(abs(found[position] - n / 4) < 5 * (n * 3 / 16) ** 0.5 for position in range(4))


def test_names_equal_to_the_english_ones_are_asked_only_in_english():
    for language in LANGUAGES:
        english, local = names("en"), names(language)
        equal = {concept.group for concept in concepts() if english[concept].lower() == local[concept].lower()}
        assert equal
        assert not equal & {item.concept for item in (*pick_items(language), *kind_items(language))}
    assert len(kind_items("en")) == 460


def test_items_have_identities_of_their_own_and_stay_the_same():
    found = [item.id for items in benchmarks().values() for item in items]
    assert len(found) == len(set(found))
    assert pick_items("so") == pick_items("so")
