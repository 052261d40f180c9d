"""Settings in config.json that change what a model computes while every shape fits: rope, epsilons, activations,
scalings, windows, routing.

A config may leave out what equals its class's default. What that is knows the library of the class, which is not asked
here: without it, two configs contradict each other only where both speak.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from psomerge.checkpoint.config import sections

FIELDS = (
    *(
        "rms_norm_eps",
        "layer_norm_eps",
        "layer_norm_epsilon",
        "norm_epsilon",
        "norm_eps",
        "hidden_act",
        "hidden_activation",
        "activation_function",
    ),
    *(
        "query_pre_attn_scalar",
        "attention_multiplier",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "clip_qkv",
        "use_qk_norm",
    ),
    *(
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "logit_scale",
        "logits_scaling",
        "embedding_multiplier",
        "residual_multiplier",
    ),
    *(
        "scale_emb",
        "scale_depth",
        "dim_model_base",
        "layer_types",
        "no_rope_layers",
        "no_rope_layer_interval",
        "sliding_window_pattern",
    ),
    *(
        "attention_chunk_size",
        "mlp_only_layers",
        "decoder_sparse_step",
        "norm_topk_prob",
        "routed_scaling_factor",
        "scoring_func",
        "topk_method",
    ),
    *(
        "n_group",
        "topk_group",
        "first_k_dense_replace",
        "moe_layer_freq",
        "use_parallel_residual",
        "parallel_attn",
        "alibi",
        "rope_interleave",
    ),
    *(
        "feed_forward_proj",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
        "scale_embedding",
        "do_layer_norm_before",
    ),
)
"""Compared as they stand. Window and rope are spelt in several ways: `_window` and `_rope` read them."""
_ROPE_KEYS = {"type": "rope_type", "rotary_pct": "partial_rotary_factor"}
_ROPE_TYPES = {"su": "longrope", "mrope": "default"}
"""Older names of the same rope."""
_NOT_COMPUTED = ("finetuned", "mscale_all_dim")


Resolve = Callable[[Mapping[str, Any]], "Mapping[str, Any] | None"]
"""Gives a config with every setting of its class spelt out; None where nobody knows the class."""


@dataclass(frozen=True)
class Contradiction:
    """A setting that two configs give different values."""

    key: str
    ours: object
    theirs: object
    unsaid: str = ""
    """Which of both, `base` or `expert`, leaves it to its class."""

    def __str__(self) -> str:
        ours, theirs = (
            f"{shown(value)}{' (as its class has it)' if self.unsaid == name else ''}"
            for name, value in (("base", self.ours), ("expert", self.theirs))
        )
        return f"has {self.key} {theirs} in its config.json, the base {ours}; {self._remedy()}"

    def _remedy(self) -> str:
        """Returns what to do about it."""
        if "rope" in self.key or "window" in self.key or "rotary" in self.key:
            return (
                "where the expert was trained with the base's value, write that into its config.json; else leave it "
                "out, for it reads positions otherwise"
            )
        return (
            "where the expert was trained with the base's value, write that into its config.json; else leave it out, "
            "for it computes otherwise"
        )


def contradictions(
    base: Mapping[str, Any], expert: Mapping[str, Any], resolve: Resolve = lambda config: None
) -> Iterator[Contradiction]:
    """Yields every setting to which two configs give different values.

    Args:
        base, expert: contents of config.json.
        resolve: is asked where one of them leaves out what the other says.
    """
    ours, theirs = _settings(base), _settings(expert)
    for key, value in ours.items():
        if key in theirs and theirs[key] != value:
            yield Contradiction(key, value, theirs[key])
    if (half := ours.keys() ^ theirs.keys()) and (whole := resolve(base)) and (other := resolve(expert)):
        ours_whole, theirs_whole = _settings(whole), _settings(other)
        for key in ours_whole:
            if key in half and key in theirs_whole and ours_whole[key] != theirs_whole[key]:
                yield Contradiction(key, ours_whole[key], theirs_whole[key], "expert" if key in ours else "base")


def positions(config: Mapping[str, Any]) -> int | None:
    """Returns the number of positions that a config says its model was made for, None where it says none."""
    for _, section in sections(config):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
            if isinstance(section.get(key), int):
                return section[key]
    return None


def _settings(config: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for prefix, section in sections(config):
        if prefix in ("rope_parameters.", "rope_scaling."):
            continue
        plain = {key: section[key] for key in FIELDS if section.get(key) is not None}
        if section.get("hidden_activation") is not None:
            plain.pop("hidden_act", None)  # Gemma's first configs hold both; the newer key counts
        found |= {prefix + key: value for key, value in (plain | _window(section) | _rope(section)).items()}
    return found


def _window(section: Mapping[str, Any]) -> dict[str, object]:
    """Returns the sliding window; None, spelt out, is a setting, and one that is switched off is none, whatever its
    size says."""
    if "sliding_window" not in section and "use_sliding_window" not in section:
        return {}
    if section.get("use_sliding_window") is False:
        return {"sliding_window": None}
    found = {"sliding_window": section["sliding_window"]} if "sliding_window" in section else {}
    if section.get("use_sliding_window") and section.get("max_window_layers") is not None:
        found["max_window_layers"] = section["max_window_layers"]
    return found


def _rope(section: Mapping[str, Any]) -> dict[str, object]:
    """Returns the rope settings of both spellings under one set of keys: `rope.X`, and `rope.local.X` for the layers
    with a window.

    Old: rope_theta, rope_scaling, rope_local_base_freq, partial_rotary_factor side by side. New: rope_parameters, one
    for all layers or one for each type.
    """
    new = _mapping(section.get("rope_parameters"))
    if any(isinstance(value, Mapping) for value in new.values()):
        per_type = {str(kind): _mapping(value) for kind, value in new.items()}
        main = per_type.get("full_attention", {})
        local = per_type.get("sliding_attention", {})
    else:
        main = new
        local = (
            {"rope_theta": section["rope_local_base_freq"]} if section.get("rope_local_base_freq") is not None else {}
        )
    beside = {
        key: section[key]
        for key in ("rope_theta", "rotary_emb_base", "partial_rotary_factor", "rotary_pct")
        if section.get(key) is not None
    }
    if "rotary_emb_base" in beside:
        beside["rope_theta"] = beside.pop("rotary_emb_base")
    scaling = _mapping(section.get("rope_scaling"))
    speaks = bool(new or beside or scaling or local)
    # No class scales by default: a config that speaks of rope and names no scaling has none.
    found = ({"rope_type": "default"} if speaks else {}) | _renamed(beside) | _renamed(scaling) | _renamed(main)
    if found.get("rope_type") == "default":
        found.pop("factor", None)
    return {f"rope.{key}": value for key, value in found.items()} | {
        f"rope.local.{key}": value for key, value in _renamed(local).items() if key == "rope_theta"
    }


def _renamed(rope: Mapping[str, object]) -> dict[str, object]:
    named = {
        _ROPE_KEYS.get(key, key): value for key, value in rope.items() if value is not None and key not in _NOT_COMPUTED
    }
    if "rope_type" in named:
        named["rope_type"] = _ROPE_TYPES.get(str(named["rope_type"]), named["rope_type"])
    return named


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def shown(value: object) -> str:
    """Returns a value for a message, cut where it is long."""
    return "none" if value is None else reprlib.repr(value)
