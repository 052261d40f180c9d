"""The lists of settings are complete: held against every class of the installed library that writes text."""

import inspect
from collections import Counter
from typing import Any

import pytest

from psomerge.fit.settings import FIELDS, NAMES, SHAPE_FIELDS, is_known

OLDER = {"attn_rotary_emb", "full_attention_interval", "global_rope_theta", "local_rope_theta", "moe_layer_freq"}
"""Of FIELDS, those that no class of the installed library has any more, or that published configs have beside it."""


def classes() -> set[Any]:
    """Config classes of all models that write text, and of their parts."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    tables = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SPEECH_SEQ_2_SEQ", "MULTIMODAL_LM")
    kinds = {kind for table in tables for kind in getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES")}
    waiting = [CONFIG_MAPPING[kind] for kind in kinds if kind in CONFIG_MAPPING]
    found = set()
    while waiting:
        if (one := waiting.pop()) not in found and isinstance(one, type) and one.__name__ != "AutoConfig":
            found.add(one)
            waiting += (getattr(one, "sub_configs", None) or {}).values()
    return found


def settings_of(kind: Any) -> set[str]:
    """What a class takes, and what it writes where it comes up from its own defaults."""
    taken = {name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "args", "kwargs")}
    try:
        return taken | set(kind().to_dict())
    except Exception:  # made of other configs
        return taken


@pytest.mark.filterwarnings("ignore")
def test_every_setting_of_every_class_stands_in_a_list() -> None:
    """Whoever takes a newer library sorts its new settings in: does one change what is computed at inference?"""
    found = {kind.__name__: settings_of(kind) for kind in classes()}
    assert len(found) > 400  # the library was really asked
    unsorted = {name: kind for kind, names in found.items() for name in sorted(names) if not is_known(name)}
    assert unsorted == {}
    assert set(FIELDS) - set().union(*found.values()) - {"tie_encoder_decoder"} == OLDER


def test_every_setting_stands_in_one_list_only() -> None:
    from psomerge.fit import settings

    lists = [*settings._COMPUTED.values(), " ".join(SHAPE_FIELDS), settings._SIZES, *settings._HARMLESS.values()]
    counted = Counter(name for one in lists for name in one.split())
    assert [name for name, times in counted.items() if times > 1] == []
    assert counted.keys() == NAMES


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("attention_dropout", True),
        ("router_aux_loss_coef", True),
        ("image_token_id", True),
        ("text_config", True),
        ("_commit_hash", True),
        ("gate_temperature", False),
        ("initial_scale", False),
    ],
)
def test_what_is_harmless_is_told_by_how_it_is_called(name: str, known: bool) -> None:
    assert is_known(name) is known
