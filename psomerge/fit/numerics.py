"""Settings in config.json that change what a model computes while every shape fits: rope, epsilons, activations,
scalings, windows, routing.

A config may leave out what equals its class's default. What that is knows the library of the class, which is not asked
here: without it, two configs contradict each other only where both speak.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psomerge.checkpoint.config import sections
from psomerge.checkpoint.rope import SPELLINGS, rope_settings

FIELDS = (
    "tie_word_embeddings",
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
"""Compared as they stand. Window and rope are spelt in several ways: `_window` and `rope_settings` read them."""
_OFF_WHERE_NULL = ("attn_logit_softcapping", "final_logit_softcapping", "clip_qkv")
Resolve = Callable[[Mapping[str, Any]], "Mapping[str, Any] | None"]
"""Gives a config with every setting of its class spelt out; None where nobody knows the class."""


@dataclass(frozen=True)
class Contradiction:
    """A setting that two configs give different values."""

    key: str
    ours: object
    theirs: object
    unsaid: tuple[str, ...] = ()
    """Which of both, `base` or `expert`, leave it to their class."""

    def __str__(self) -> str:
        ours, theirs = (
            f"{shown(value)}{' (as its class has it)' if name in self.unsaid else ''}"
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
    """Yields every setting to which two configs give different values. What a config means is what the library of its
    class makes of it; where nobody knows the class, what both say.

    Args:
        base, expert: contents of config.json.
        resolve: is asked where they do not say the same.
    """
    ours, theirs = _settings(base), _settings(expert)
    if ours == theirs:
        return
    whole, other = resolve(base), resolve(expert)
    ours_meant, theirs_meant = (_settings(whole), _settings(other)) if whole and other else (ours, theirs)
    for key in ours_meant:
        if key in theirs_meant and ours_meant[key] != theirs_meant[key]:
            unsaid = [name for name, said in (("base", ours), ("expert", theirs)) if key not in said]
            yield Contradiction(key, ours_meant[key], theirs_meant[key], tuple(unsaid))


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
        if prefix in SPELLINGS:
            continue
        plain = {
            key: section[key]
            for key in FIELDS
            if section.get(key) is not None or (key in _OFF_WHERE_NULL and key in section)
        }
        if (newer := plain.pop("hidden_activation", None)) is not None:
            plain["hidden_act"] = newer  # Gemma's first configs hold both; the newer key counts
        if "layer_types" in plain:
            plain.pop("sliding_window_pattern", None)  # classes make the layers' types of it where they are not said
        found |= {prefix + key: value for key, value in (plain | _window(section) | rope_settings(section)).items()}
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


def shown(value: object) -> str:
    """Returns a value for a message, cut where it is long."""
    return "none" if value is None else reprlib.repr(value)
