"""The model card's text, whole (`cards/`), and that no name can break its table."""

import re
from pathlib import Path

import pytest

from psomerge.evals.significance.intervals import Interval
from psomerge.recipe import Recipe, Source
from psomerge.tasks.release.card import model_card
from psomerge.tasks.report.summary import Row

CARDS = Path(__file__).parent / "cards"
ONE, TWO = Interval(0.25, 0.2, 0.3, 40), Interval(0.61031, 0.548, 0.6666, 141)


def source(name: str, address: str) -> Source:
    return Source(name, address, name[0] * 40, {"model.safetensors": name[0] * 64})


BASE = source("base", "hf://org/base@" + "b" * 40)
STAR = Recipe(
    base=BASE,
    experts=(source("so", "/models/so"), source("tk", "s3://bucket/tk@r1")),
    coefficients=((0.1 + 0.2, -0.0), (1.0, 1e-17)),
    psomerge="0.1.0",
)
ROWS = (
    Row("base", "base", ONE, {"pick-so": ONE, "kind-en": ONE}),
    Row("expert so", "expert", TWO, {"pick-so": TWO}),
    Row("PSO star", "search"),
)
FACTS = (("suite", "cldr"), ("run", "0123abcd"))


def card(recipe: Recipe = STAR, *, paired: bool = False) -> str:
    return model_card(recipe, ROWS, name="merged", facts=FACTS, paired=paired)


@pytest.mark.parametrize("paired", [False, True], ids=["causal", "paired"])
def test_the_card_of_each_kind_of_model_is_this_text(paired: bool) -> None:
    assert card(paired=paired) == (CARDS / f"{'paired' if paired else 'causal'}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("address", "cell"),
    [
        # GitHub Flavored Markdown: in a table `\|` is a bar, also in code; n backticks inside need n + 1 around.
        ("/data/a|b", "`/data/a\\|b`"),
        ("/data/`a`", "`` /data/`a` ``"),
        ("/data/a``|", "``` /data/a``\\| ```"),
        ("/data/a\n\n| x | y |\r\n", "`/data/a  \\| x \\| y \\|`"),
        ("/data/<b>&*_", "`/data/<b>&*_`"),
    ],
)
def test_an_address_stays_in_its_cell_whatever_it_holds(address: str, cell: str) -> None:
    text = card(Recipe(base=BASE, experts=(source("so", address),), coefficients=((1.0,),), psomerge="0.1.0"))
    assert f"\n| expert 1 | so | {cell} | `{'s' * 40}` |\n\nCoefficients" in text
    table = re.search(r"\| role .*?\n\n", text, flags=re.DOTALL)
    assert table
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table[0].splitlines() if line] == [5] * 4
