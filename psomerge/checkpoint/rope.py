"""Rotary positions as config.json says them: in two spellings, of which one file may hold both.

Old: rope_theta, rope_scaling, rope_local_base_freq, partial_rotary_factor side by side. New: rope_parameters, one for
all layers or one for each type of layers, whatever its name.
"""

import reprlib
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, cast

SPELLINGS = ("rope_parameters.", "rope_scaling.")
"""Prefixes of the objects that are read here."""
_KEYS = {"type": "rope_type", "rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}
"""Older names of the same key."""
_TYPES = {"su": "longrope", "mrope": "default"}
"""Older names of the same rope."""
_BESIDE = ("rope_theta", "rotary_emb_base", "partial_rotary_factor", "rotary_pct")
_FULL, _SLIDING = "full_attention", "sliding_attention"
"""Types of layers whose ropes the older spelling has, too."""
_NOT_COMPUTED = ("finetuned", "mscale_all_dim")


def rope_settings(section: Mapping[str, Any]) -> dict[str, object]:
    """Returns the settings of both spellings under one set of keys: `rope.X`, and `rope.TYPE.X` for each other type of
    layer that has a rope of its own."""
    main, others = _new(section)
    beside = {key: section[key] for key in _BESIDE if section.get(key) is not None}
    scaling = _mapping(section.get("rope_scaling"))
    if local := _local(section):
        beside = {"rope_type": "default"} | beside  # it speaks of those without a window, too
        others = {_SLIDING: local} | others
    ropes = {"rope": _renamed(beside) | _renamed(scaling) | _renamed(main)}
    ropes |= {f"rope.{layers}": _renamed(rope) for layers, rope in others.items()}
    return {
        f"{name}.{key}": value
        for name, rope in ropes.items()
        if rope
        # No class scales by default: a config that speaks of a rope and names no scaling has none.
        for key, value in ({"rope_type": "default"} | rope).items()
        if key != "factor" or rope.get("rope_type", "default") != "default"
    }


def rope_contradictions(section: Mapping[str, Any]) -> Iterator[str]:
    """Yields in words what a section of a config says twice, and in two ways; libraries disagree about which one
    counts."""
    main, others = _new(section)
    newer = "rope_parameters" if main is section.get("rope_parameters") else "rope_parameters.full_attention"
    said = [(newer, main), ("rope_scaling", _mapping(section.get("rope_scaling")))]
    said += [("", {key: section[key]}) for key in _BESIDE if section.get(key) is not None]
    yield from _disagreements(said)
    sliding = others.get(_SLIDING, {})
    yield from _disagreements([(f"rope_parameters.{_SLIDING}", sliding), ("", _local(section, spelt=True))])


def _disagreements(said: list[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yields each pair of places that give one key two values."""
    places = [
        (_KEYS.get(key, key), f"{where}.{key}".lstrip("."), value)
        for where, rope in said
        for key, value in rope.items()
        if value is not None and key not in _NOT_COMPUTED
    ]
    for (one, first, ours), (other, second, theirs) in combinations(places, 2):
        key = "rope_theta" if one == "rope_local_base_freq" else one
        twin = "rope_theta" if other == "rope_local_base_freq" else other
        if key == twin and _value(key, ours) != _value(key, theirs):
            yield f"{first} {reprlib.repr(ours)} and {second} {reprlib.repr(theirs)}"


def _new(section: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Mapping[str, Any]]]:
    """The newer spelling's rope of all layers, or of those without a window, and those of other types of layers."""
    new = _mapping(section.get("rope_parameters"))
    nested = {layers: rope for layers, value in new.items() if (rope := _mapping(value))}
    return (nested.pop(_FULL, {}), nested) if nested else (new, {})


def _local(section: Mapping[str, Any], *, spelt: bool = False) -> Mapping[str, Any]:
    """The older spelling's rope of the layers with a window, under its key as it is spelt or as it is called now."""
    value = section.get("rope_local_base_freq")
    return {} if value is None else {"rope_local_base_freq" if spelt else "rope_theta": value}


def _renamed(rope: Mapping[str, object]) -> dict[str, object]:
    return {
        _KEYS.get(key, key): _value(_KEYS.get(key, key), value)
        for key, value in rope.items()
        if value is not None and key not in _NOT_COMPUTED
    }


def _value(key: str, value: object) -> object:
    return _TYPES.get(str(value), value) if key == "rope_type" else value


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
