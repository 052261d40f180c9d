"""A setting that two models say otherwise is refused where it changes what is computed, told where nobody knows, and
passed over where it changes nothing."""

from copy import deepcopy
from typing import Any

import pytest

from psomerge.fit.numerics import contradictions, unknown_differences
from psomerge.tasks.experts.class_defaults import spelt_out

COMPUTED = [
    ("gptj", {"rotary_dim": 32}),
    ("codegen", {"rotary_dim": 16}),
    ("gpt_neo", {"window_size": 64}),
    ("gpt_neo", {"attention_types": [[["global"], 24]]}),
    ("mpt", {"attn_config": {"alibi_bias_max": 16}}),
    ("gpt_oss", {"swiglu_limit": 1.0}),
    ("llama4_text", {"attn_scale": 0.5}),
    ("llama4_text", {"attn_temperature_tuning": False}),
    ("ernie4_5_moe", {"moe_k": 2}),
    ("hunyuan_v1_moe", {"moe_topk": 2}),
    ("falcon", {"activation": "relu"}),
    ("falcon", {"new_decoder_architecture": True}),
    ("mamba2", {"time_step_limit": [0, 1]}),
    ("jamba", {"attn_layer_offset": 1}),
    ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ("persimmon", {"qk_layernorm": False}),
    ("recurrent_gemma", {"logits_soft_cap": 1.0}),
    ("recurrent_gemma", {"attention_window_size": 8}),
    ("recurrent_gemma", {"block_types": ["attention"]}),
    ("zamba2", {"use_mem_rope": True}),
    ("falcon_h1", {"embedding_multiplier": 2.0}),
    ("falcon_h1", {"lm_head_multiplier": 2.0}),
    ("falcon_h1", {"key_multiplier": 2.0}),
    ("falcon_h1", {"attention_out_multiplier": 2.0}),
    ("falcon_h1", {"ssm_multipliers": [1.0, 1.0, 1.0, 1.0, 2.0]}),
    ("falcon_h1", {"mlp_multipliers": [1.0, 2.0]}),
    ("falcon_h1", {"mamba_norm_before_gate": False}),
    ("gemma3_text", {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 4.0}}}),
    ("deepseek_v4", {"rope_parameters": {"compress": {"rope_type": "default", "rope_theta": 5.0}}}),
    ("qwen2_5_omni", {"thinker_config": {"text_config": {"rms_norm_eps": 0.1}}}),
    ("qwen2_vl", {"vision_config": {"spatial_merge_size": 4}}),
]


def joined(whole: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config with other values, at any depth."""
    parts = {
        key: joined(whole.get(key) or {}, value) if isinstance(value, dict) else value for key, value in changes.items()
    }
    return whole | parts


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "changes"), COMPUTED)
def test_a_setting_of_a_family_of_its_own_is_held_against_the_base(kind: str, changes: dict[str, Any]) -> None:
    """Only settings that many families share were compared."""
    base = spelt_out({"model_type": kind})
    assert base is not None
    assert list(contradictions(base, deepcopy(dict(base)), spelt_out)) == []
    assert list(contradictions({"model_type": kind}, base, spelt_out)) == []  # what is left to the class
    assert list(contradictions(base, joined(dict(base), changes), spelt_out))


@pytest.mark.filterwarnings("ignore")
def test_a_number_without_end_is_one_in_both_spellings() -> None:
    """The library writes it as an object, older versions as JSON's `Infinity`."""
    old = {"model_type": "mamba2", "time_step_limit": [0.0, float("inf")]}
    new = old | {"time_step_limit": [0.0, {"__float__": "Infinity"}]}
    resolved = spelt_out(new)
    assert resolved is not None
    assert list(resolved["time_step_limit"]) == [0.0, float("inf")]
    assert list(contradictions(old, new, spelt_out)) == list(contradictions(old, new)) == []
    assert list(contradictions(new, new | {"time_step_limit": [0.0, 1.0]}))


def test_a_part_at_any_depth_is_looked_at_and_a_list_of_labels_is_none() -> None:
    deep = {"thinker_config": {"text_config": {"rms_norm_eps": 1e-5}}, "id2label": {"0": "a"}}
    other = {"thinker_config": {"text_config": {"rms_norm_eps": 1e-6}}, "id2label": {"0": "b"}}
    (found,) = contradictions(deep, other)
    assert found.key == "thinker_config.text_config.rms_norm_eps"
    assert list(unknown_differences(deep, other)) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({"gate_temperature": 1.0}, {"gate_temperature": 2.0}, ["gate_temperature"]),
        ({"gate_temperature": 1.0}, {"gate_temperature": 1.0}, []),
        ({"gate_temperature": 1.0}, {}, []),  # left to a class that nobody knows
        ({"gate_temperature": 1.0}, {"gate_temperature": None}, []),
        ({"text_config": {"gates": [1, 2]}}, {"text_config": {"gates": [1, 3]}}, ["text_config.gates"]),
        ({"gates": {"temperature_of": 1}}, {"gates": {"temperature_of": 2}}, ["gates.temperature_of"]),
        ({"rope_scaling": {"beta_of": 1.0}}, {"rope_scaling": {"beta_of": 2.0}}, []),  # refused as rope
        ({"attention_dropout": 0.1, "use_cache": True}, {"attention_dropout": 0.0, "use_cache": False}, []),
        ({"hidden_size": 8, "rms_norm_eps": 1.0}, {"hidden_size": 4, "rms_norm_eps": 2.0}, []),  # refused
        ({"vocab_size": 8, "transformers_version": "4"}, {"vocab_size": 9, "transformers_version": "5"}, []),
    ],
)
def test_a_setting_that_nobody_knows_is_told_where_both_speak_of_it(
    ours: dict[str, Any], theirs: dict[str, Any], told: list[str]
) -> None:
    assert [one.key for one in unknown_differences(ours, theirs)] == told
