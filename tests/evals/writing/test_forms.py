"""One text in several Unicode forms is one text; where the form says something, it is another."""

import unicodedata

import pytest

from psomerge.evals.writing.forms import alike, composed, plain


@pytest.mark.parametrize(
    "text", ["ñandú", "Việt Nam", "한국어", "กำลัง", "ຄຳ", "བོད་སྐད།", "क़लम", "আয়", "שָׁלוֹם", "ἄνθρωπος", "Ω Å"]
)
def test_every_normal_form_is_one(text):
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")] + [text]
    assert len({plain(form) for form in forms}) == 1
    assert len({composed(form) for form in forms[:2]}) == 1


def test_thai_keeps_the_letters_that_texts_are_stored_in():
    assert composed("กำลัง") == "กำลัง"  # NFKC would take sara am apart, which no identifier has read


@pytest.mark.parametrize(
    ("one", "other"), [("3²", "32"), ("x₂", "x2"), ("½", "12"), ("㎡", "m2"), ("می‌خواهم", "میخواهم")]
)
def test_a_form_that_says_something_is_kept(one, other):
    assert plain(one) != plain(other)


def test_marks_that_nobody_sees_and_digits_of_a_language_are_no_difference():
    assert plain("\ufeffso\u00adma\u200bli\u200e ৩১ ３１") == "somali 31 31"


def test_a_prediction_takes_its_references_form_and_they_stay_as_they_are():
    composed_, apart = "é", "e\u0301"
    assert alike(apart, [composed_]) == (composed_, [composed_])
    assert alike(composed_, [apart, apart]) == (apart, [apart, apart])
    assert alike(composed_, [composed_ + apart]) == (composed_, [composed_ * 2])
    assert alike("plain", ["text"]) == ("plain", ["text"])
