"""Every setting of every rope of a config is read, whatever its layers are called, in both spellings alike."""

from copy import deepcopy
from typing import Any

import pytest

from psomerge.checkpoint.rope import rope_contradictions, rope_settings

YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}
DEFAULT = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    "layers",
    [
        ("full_attention", "sliding_attention"),
        ("main", "compress"),
        ("hybrid", "hybrid_sliding"),
    ],  # gemma3, deepseek_v4
)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("key", "value"), [("rope_theta", 123.0), ("factor", 8.0), ("rope_type", "linear")])
def test_another_setting_of_any_type_of_layers_is_another_setting(
    layers: tuple[str, str], which: int, key: str, value: object
) -> None:
    """Only full_attention and the theta of sliding_attention were read."""
    ours = {"rope_parameters": {name: dict(YARN) for name in layers}}
    theirs = deepcopy(ours)
    theirs["rope_parameters"][layers[which]][key] = value
    one, other = rope_settings(ours), rope_settings(theirs)
    assert one.keys() == other.keys()
    place = {"full_attention": "rope"}.get(layers[which], f"rope.{layers[which]}")
    assert {name for name in one if one[name] != other[name]} == {f"{place}.{key}"}


def test_a_window_s_rope_is_one_in_both_spellings() -> None:
    old = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    new = {"rope_parameters": {"full_attention": full, "sliding_attention": DEFAULT}}
    assert rope_settings(old) == rope_settings(new) == rope_settings(old | new)
    assert not list(rope_contradictions(old | new))
    scaled = {"rope_parameters": {"full_attention": full, "sliding_attention": DEFAULT | {"rope_type": "linear"}}}
    assert rope_settings(scaled)["rope.sliding_attention.rope_type"] == "linear"


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({}, {}),
        ({"rope_parameters": {}}, {}),
        ({"rope_theta": 5.0}, {"rope.rope_type": "default", "rope.rope_theta": 5.0}),
        (
            {"rope_parameters": {"rope_theta": 5.0, "factor": 2.0}},
            {"rope.rope_type": "default", "rope.rope_theta": 5.0},
        ),
        (
            {"rope_parameters": {"main": {"rope_theta": 5.0}}},
            {"rope.main.rope_type": "default", "rope.main.rope_theta": 5.0},
        ),
        (
            {"rope_local_base_freq": 5.0},
            {
                "rope.rope_type": "default",
                "rope.sliding_attention.rope_type": "default",
                "rope.sliding_attention.rope_theta": 5.0,
            },
        ),
    ],
)
def test_a_rope_without_a_type_is_not_scaled(section: dict[str, Any], found: dict[str, object]) -> None:
    assert rope_settings(section) == found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["gemma3_text", "deepseek_v4", "zaya", "modernbert-decoder", "olmo3", "llama"])
def test_every_rope_that_the_library_writes_is_read(kind: str) -> None:
    from transformers import CONFIG_MAPPING

    section = CONFIG_MAPPING[kind]().to_dict()
    written = section["rope_parameters"]
    ropes = [rope for rope in written.values() if isinstance(rope, dict)] or [written]
    for rope in ropes:
        rope["rope_theta"] = 123.0
    assert list(rope_settings(section).values()).count(123.0) == len(ropes)
