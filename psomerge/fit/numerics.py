"""Settings in config.json that two models give other values: those of `settings.FIELDS`, rope and window, which change
what is computed, and those of which nobody knows here what they do.

A config may leave out what equals its class's default. What that is knows the library of the class, which is not asked
here: without it, two configs contradict each other only where both speak.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from psomerge.checkpoint.config import sections
from psomerge.checkpoint.rope import SPELLINGS, rope_settings
from psomerge.fit.settings import FIELDS, is_known
from psomerge.screening.companions import objects

_OFF_WHERE_NULL = frozenset(
    ("attn_logit_softcapping", "final_logit_softcapping", "clip_qkv", "swiglu_limit", "attention_chunk_size")
)
"""Settings for which null, spelt out, says that they are off."""
_NO_PART = ("id2label", "label2id", "task_specific_params", "quantization_config", "generation_config")
"""Objects in a config that describe no part of a model."""
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


def parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields a config and the objects in it at any depth, but for those that describe no part of a model."""
    for prefix, section in objects(dict(config)):
        names = prefix.split(".")[:-1]
        if not any(f"{name}." in SPELLINGS or name in _NO_PART for name in names):
            yield prefix, section


def positions(config: Mapping[str, Any]) -> int | None:
    """Returns the number of positions that a config says its model was made for, None where it says none."""
    for _, section in sections(config):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
            if isinstance(section.get(key), int):
                return section[key]
    return None


def unknown_differences(base: Mapping[str, Any], expert: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Yields every setting of which nobody knows here what it does, and of which both configs speak, otherwise.

    Args:
        base, expert: contents of config.json.
    """
    ours, theirs = _unknown(base), _unknown(expert)
    for key in ours:
        if key in theirs and ours[key] != theirs[key]:
            yield Contradiction(key, ours[key], theirs[key])


def _unknown(config: Mapping[str, Any]) -> dict[str, object]:
    return {
        prefix + key: value
        for prefix, section in parts(config)
        for key, value in section.items()
        if value is not None and not isinstance(value, dict) and not is_known(key)
    }


def _settings(config: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for prefix, section in parts(config):
        plain = {
            key: _listed(section[key])
            for key in FIELDS
            if section.get(key) is not None or (key in _OFF_WHERE_NULL and key in section)
        }
        if (newer := plain.pop("hidden_activation", None)) is not None:
            plain["hidden_act"] = newer  # Gemma's first configs hold both; the newer key counts
        if "layer_types" in plain:
            for key in ("sliding_window_pattern", "_sliding_window_pattern"):
                plain.pop(key, None)  # classes make the layers' types of it where they are not said
        found |= {prefix + key: value for key, value in (plain | _window(section) | rope_settings(section)).items()}
    return found


def _listed(value: object) -> object:
    """Returns a value as older files have it: classes have tuples as defaults, and write numbers without end as
    objects."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return float(found["__float__"]) if found.keys() == {"__float__"} else found
    return [_listed(one) for one in cast("Sequence[object]", value)] if isinstance(value, (list, tuple)) else value


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
