"""What an expert has otherwise than the merged model will have it, though it can be merged: chat template, stop tokens,
generation config, positions, settings that nobody knows, tensors that its class loads without.

The files beside the weights only; `distance` looks at the weights.
"""

import json
from collections.abc import Iterator
from typing import Any

from psomerge.checkpoint.config import MAX_CONFIG
from psomerge.checkpoint.layout import LaidOut, laid_out
from psomerge.checkpoint.reader import Checkpoint
from psomerge.files.untrusted import MAX_TOKENIZER, read_bytes, read_json
from psomerge.fit.adapters import adapter_warnings
from psomerge.fit.numerics import positions, shown, unknown_differences
from psomerge.fit.warning import FitWarning
from psomerge.vocabulary.special_tokens import special_tokens
from psomerge.vocabulary.tokens import few

_NO_SETTING = (
    "transformers_version",
    "_from_model_config",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "use_cache",
)
"""Keys of generation_config.json that say nothing, or are looked at as special tokens."""
_SILENT = {"do_sample": False}
"""What holds where generation_config.json says nothing: a published model says it."""


def differences(base: Checkpoint, expert: Checkpoint, chosen: Checkpoint) -> list[FitWarning]:
    """Returns where an expert was used to something else than the merged model gets; what an expert leaves unsaid is no
    difference.

    Args:
        base: gives the merged model's config.
        expert: that is looked at.
        chosen: gives the merged model's tokenizer, chat template, generation config and stop tokens (`tokenizer_from`).

    Raises:
        ArtefactError: a file is damaged or larger than one can be.
    """
    found = (
        []
        if expert is chosen
        else [*_template(expert, chosen), *_special(expert, chosen), *_generation(expert, chosen)]
    )
    said = [*_unknown(base, expert), *_positions(base, expert)]
    return [*_apart(expert, base), *found, *said, *adapter_warnings(base, expert)]


def _apart(expert: Checkpoint, base: Checkpoint) -> Iterator[FitWarning]:
    laid = laid_out(expert, base)
    if not isinstance(laid, LaidOut):
        return
    if laid.left_out:
        found, advice = few([*map(repr, laid.left_out)]), "its class loads without them: they are left out"
        yield FitWarning(expert.name, "tensors that the base has not", "none", found, advice)
    if laid.taken:
        found, advice = f"none of {few([*map(repr, laid.taken)])}", "its class loads without them: they are the base's"
        yield FitWarning(expert.name, "tensors that the base has", "all of them", found, advice)


def _decided(chosen: Checkpoint) -> str:
    return f'tokenizer_from "{chosen.name}" decides'


def chat_template(checkpoint: Checkpoint) -> str | None:
    """Returns a checkpoint's chat template, several as JSON by name; None where it has none. Raises ArtefactError where
    a file is damaged."""
    if "chat_template.jinja" in checkpoint.files:
        return read_bytes(checkpoint.folder / "chat_template.jinja", MAX_TOKENIZER).decode(errors="replace").strip()
    name = "tokenizer_config.json"
    template: object = (
        read_json(checkpoint.folder / name, MAX_TOKENIZER).get("chat_template") if name in checkpoint.files else None
    )
    return template.strip() if isinstance(template, str) else json.dumps(template, sort_keys=True) if template else None


def _template(expert: Checkpoint, chosen: Checkpoint) -> Iterator[FitWarning]:
    ours, theirs = chat_template(chosen), chat_template(expert)
    if theirs and theirs != ours:
        expected = f"none, as {chosen.name} has none" if ours is None else f"that of {chosen.name}"
        yield FitWarning(
            expert.name, "chat template", expected, f"another one, of {len(theirs)} characters", _decided(chosen)
        )


def _special(expert: Checkpoint, chosen: Checkpoint) -> Iterator[FitWarning]:
    ours, theirs = special_tokens(chosen), special_tokens(expert)
    for role in ("bos", "eos", "pad"):
        a, b = ours[role], theirs[role]
        names = a.token is not None and b.token is not None and a.token != b.token
        # A generation config may stop at more tokens than the tokenizer names; only an id that the merged model would
        # not stop at counts.
        ids = bool(a.ids) and bool(b.ids - a.ids)
        if names or ids:
            yield FitWarning(expert.name, f"{role} token", str(a), str(b), _decided(chosen))


def _generation(expert: Checkpoint, chosen: Checkpoint) -> Iterator[FitWarning]:
    ours, theirs = _settings(chosen), _settings(expert)
    keys = [key for key, value in theirs.items() if ours.get(key, _SILENT.get(key)) != value]
    if keys:
        expected, found = (", ".join(f"{key} {shown(one.get(key))}" for key in keys[:4]) for one in (ours, theirs))
        yield FitWarning(
            expert.name, "generation config", expected, found + (", ..." if len(keys) > 4 else ""), _decided(chosen)
        )


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    name = "generation_config.json"
    content = read_json(checkpoint.folder / name, MAX_CONFIG) if name in checkpoint.files else {}
    return {key: value for key, value in content.items() if key not in _NO_SETTING and value is not None}


def _unknown(base: Checkpoint, expert: Checkpoint) -> Iterator[FitWarning]:
    if settings := [*unknown_differences(base.config, expert.config)]:
        rest = ", ..." if len(settings) > 4 else ""
        expected = ", ".join(f"{one.key} {shown(one.ours)}" for one in settings[:4]) + rest
        found = ", ".join(f"{one.key} {shown(one.theirs)}" for one in settings[:4]) + rest
        advice = "nobody knows here whether they change what is computed; the merged model has the base's"
        yield FitWarning(expert.name, "settings in config.json", expected, found, advice)


def _positions(base: Checkpoint, expert: Checkpoint) -> Iterator[FitWarning]:
    ours, theirs = positions(base.config), positions(expert.config)
    if ours and theirs and ours != theirs:
        longer = "a longer" if theirs > ours else "a shorter"
        advice = f"it was made for {longer} context; the merged model says what the base says"
        yield FitWarning(expert.name, "max_position_embeddings", str(ours), str(theirs), advice)
