"""Generation settings: those that change nothing are taken at their own neutral value, all others are refused."""

import pytest

from psomerge.errors import ConfigError
from psomerge.evals.harness.greedy import NEUTRAL, check_greedy

OWN = {"until": ["\n"], "do_sample": False, "max_gen_toks": 16, "temperature": 0.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frequency_penalty", 0.0),
        ("presence_penalty", 0),
        ("repetition_penalty", 1.0),
        ("no_repeat_ngram_size", 0),
        ("num_beams", 1),
        ("early_stopping", False),
        ("early_stopping", True),
        ("length_penalty", 0.6),
        ("use_cache", True),
        ("skip_special_tokens", True),
        ("min_tokens", 0),
        ("ignore_eos", False),
        ("top_k", 50),
        ("typical_p", 0.9),
        ("seed", 1234),
        ("bad_words_ids", None),
    ],
)
def test_a_setting_at_the_value_that_changes_nothing_is_taken(key, value):
    check_greedy("own", OWN | {key: value})


@pytest.mark.parametrize(
    ("key", "value", "neutral"),
    [
        ("frequency_penalty", 1, "0"),
        ("presence_penalty", 0.5, "0"),
        ("repetition_penalty", 0, "1"),
        ("no_repeat_ngram_size", 1, "0"),
        ("num_beams", 4, "1"),
        ("min_tokens", 1, "0"),
        ("skip_special_tokens", False, "true"),
        ("ignore_eos", True, "false"),
        ("bad_words_ids", [[1]], "null"),
        ("max_length", 64, "null"),
        ("unheard_of", 1, "null"),
    ],
)
def test_any_other_is_refused_with_its_own_neutral_value(key, value, neutral):
    # The story: 1 was taken for the value that changes nothing of every setting, and 0 of none.
    with pytest.raises(ConfigError) as caught:
        check_greedy("own", OWN | {key: value})
    assert f"task own asks for {key}: {value} in its generation_kwargs" in str(caught.value)
    assert f"`config: {{generation_kwargs: {{{key}: {neutral}}}}}`" in str(caught.value)


def test_what_a_message_advises_is_taken():
    check_greedy("own", OWN | dict(NEUTRAL))
