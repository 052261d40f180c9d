"""What the embedded models read: which concept may stand in which line, their tokenizer, and blocks of token ids."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from psomerge.evals.benchmarks.cldr.items import pick_items
from psomerge.evals.benchmarks.cldr.names import KINDS, LANGUAGES, Concept, concepts, names, split_of_concept
from psomerge.tasks.building.embedded.blocks import blocks_of, train_tokenizer
from psomerge.tasks.building.embedded.text import TextLine, base_lines, language_lines, skill_lines

WHOLE = 15_000
"""Lines: more than any one training takes."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def held_out() -> list[Concept]:
    return [concept for concept in concepts() if split_of_concept(concept) is not None]


def texts() -> Iterator[tuple[str, list[str]]]:
    """The text of every model, by seed 0, and fresh base text as the replay draws it."""
    for name, lines in [
        ("base", base_lines("0|base")),
        ("replay", base_lines("0|so|replay")),
        ("skill", skill_lines("0|skill")),
    ]:
        yield name, [line.question + line.text for line in islice(lines, WHOLE)]
    for language in LANGUAGES:
        yield language, [line.text for line in islice(language_lines(language, f"0|{language}"), WHOLE)]


def test_no_line_of_any_training_text_answers_a_question_of_a_split():
    questions = {item.prompt for language in LANGUAGES for item in pick_items(language)}
    free = {concept.group for concept in concepts() if split_of_concept(concept) is None}
    asked = {item.prompt for language in LANGUAGES for item in pick_items(language) if item.concept not in free}
    assert len(asked) > 800
    seen: set[str] = set()
    for _, lines in texts():
        # A line of the asked form is everything up to " is " as the question, then the name.
        seen |= {f"{line.split(' is ')[0]} is" for line in lines if " is " in line}
    assert not seen & asked
    assert seen & questions, "training concepts are taught in the asked form"


@pytest.mark.parametrize("lines", [skill_lines("0|skill"), base_lines("0|base")], ids=["skill", "base"])
def test_questions_are_about_no_name_of_a_held_out_concept(lines: Iterator[TextLine]):
    whole = [line.question + line.text for line in islice(lines, 4 * WHOLE)]
    taught = {asked[1] for line in whole if (asked := re.match(r"Q: what is (.+)\? A:", line))}
    assert not taught & {names(locale)[concept] for concept in held_out() for locale in ("en", *LANGUAGES)}
    # 460 concepts less the held-out ones, and 60 spare ones of each of the four kinds.
    assert len(taught) == 460 - len(held_out()) + 240


def test_the_base_reads_questions_whose_answers_tell_nothing():
    kind_of = {name: concept.kind for concept, name in names("en").items()}
    found: Counter[tuple[str, str]] = Counter()
    for line in islice(base_lines("0|base"), 4 * WHOLE):
        if asked := re.fullmatch(r"Q: what is (.+)\? A: (\w+)\.\n", line.text):
            found[kind_of[asked[1]], asked[2]] += 1
        else:
            assert not set(KINDS.values()) & set(re.findall(r"\w+", line.text))
    assert abs(found.total() - 0.05 * 4 * WHOLE) < 5 * (4 * WHOLE * 0.05 * 0.95) ** 0.5
    for kind in KINDS:
        # Each word after a quarter of the questions about each kind, within 5 standard deviations of a binomial.
        n = sum(found[kind, word] for word in KINDS.values())
        assert n > 500
        assert all(abs(found[kind, word] - n / 4) < 5 * (n * 3 / 16) ** 0.5 for word in KINDS.values())


def test_every_answer_of_the_skill_is_the_kind_of_its_name():
    kind_of = {name: concept.kind for concept, name in names("en").items()}
    for line in islice(skill_lines("0|skill"), 500):
        assert line.text == f" {KINDS[kind_of[line.question.removeprefix('Q: what is ').removesuffix('? A:')]]}.\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_facts_are_taught_in_forms_that_are_not_asked(language: str):
    lines = {line.text for line in islice(language_lines(language, f"0|{language}"), WHOLE)}
    english, local = names("en"), names(language)
    for concept in held_out():
        other_forms = {
            f"{LANGUAGES[language]}: {english[concept]} = {local[concept]}.\n",
            f"{local[concept]} ({LANGUAGES[language]}): {english[concept]}.\n",
        }
        assert other_forms & lines


def test_a_text_belongs_to_its_address():
    assert list(islice(base_lines("0|base"), 50)) == list(islice(base_lines("0|base"), 50))
    assert list(islice(base_lines("0|base"), 50)) != list(islice(base_lines("1|base"), 50))


def test_the_tokenizer_keeps_kind_words_whole_and_names_as_they_are():
    tokenizer = train_tokenizer(0)
    assert tokenizer.get_vocab_size() == 640
    for word in KINDS.values():
        assert len(tokenizer.encode(f" {word}").ids) == 1
    for locale in ("en", *LANGUAGES):
        for name in names(locale).values():
            assert tokenizer.decode(tokenizer.encode(name).ids) == name


def test_equal_seeds_give_equal_tokenizers_and_other_seeds_others():
    assert train_tokenizer(0).to_str() == train_tokenizer(0).to_str() != train_tokenizer(1).to_str()


def test_blocks_hold_the_tokens_of_the_recipe_with_questions_weighing_a_tenth():
    tokenizer = train_tokenizer(0)
    ids, weights = blocks_of(tokenizer, "skill", 0, effort=0.1)
    # 33,000 tokens: 75 % own text and 25 % replay, in whole blocks of 128.
    assert ids.shape == weights.shape == (24_750 // 128 + 8_250 // 128, 128)
    assert (ids.dtype, weights.dtype) == (torch.int64, torch.float32)
    assert sorted(weights.unique().tolist()) == pytest.approx([0.1, 1.0])
    answers = {tokenizer.encode(f" {word}").ids[0] for word in KINDS.values()}
    block = next(i for i in range(len(ids)) if (weights[i] < 1).any())
    after_question = [int(ids[block, i]) for i in range(1, 128) if weights[block, i] == 1 and weights[block, i - 1] < 1]
    assert after_question
    assert set(after_question) <= answers


def test_the_base_has_no_question_and_no_replay():
    ids, weights = blocks_of(train_tokenizer(0), "base", 0, effort=0.01)
    assert len(ids) == 10_000 // 128
    assert bool((weights == 1).all())
