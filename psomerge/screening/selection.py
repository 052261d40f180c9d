"""Which files of a repository, a prefix or a registered version make up a checkpoint."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from psomerge.errors import ArtefactError
from psomerge.files.names import ADAPTER, INDEX, MORE_TEMPLATES, adapter_weights, allowed
from psomerge.files.untrusted import MAX_INDEX, read_json

WEIGHTS = ".safetensors"
_PLAIN = re.compile(r"\w[\w.+=, @-]{0,199}", re.ASCII)
_OF_MLX = re.compile(r"\d+_adapters\.safetensors", re.ASCII)
"""What MLX's trainer leaves of the steps before the last."""
T = TypeVar("T")


def checkpoint_files(address: str, files: Mapping[str, T]) -> dict[str, T]:
    """Returns the files of a checkpoint among those of a repository, or of an adapter where it holds no checkpoint;
    names that lead into or out of folders are left alone, but for further chat templates.

    Args:
        address: to name in messages.
        files: what is known of each file, by its name as the source sends it.

    Raises:
        ArtefactError: there is neither among them.
    """
    inner = f"{MORE_TEMPLATES}/"
    found = {name: one for name, one in files.items() if allowed(name) and _PLAIN.fullmatch(name.removeprefix(inner))}
    adapter = {name: found.pop(name) for name in (ADAPTER, adapter_weights(found)) if name in found}
    if len(adapter) == 2 and not any(name.endswith(WEIGHTS) and not _OF_MLX.fullmatch(name) for name in found):
        return {name: one for name, one in found.items() if not _OF_MLX.fullmatch(name)} | adapter
    if "config.json" not in found or not any(name.endswith(WEIGHTS) for name in found):
        others = ", ".join(sorted(name for name in files if name.isprintable())[:6]) or "nothing"
        raise ArtefactError(
            f"{address}: expected config.json and safetensors, or a LoRA adapter's, found {others}; name such a "
            "model, or convert it and give its folder"
        )
    return found


def weight_files(folder: Path, names: Collection[str]) -> list[str]:
    """Returns the weights that loaders take: what the index names, else model.safetensors, else all; repositories often
    hold them a second time.

    Args:
        folder: holds the index, if there is one among `names`.
        names: of the checkpoint's files, as by `checkpoint_files`.

    Raises:
        ArtefactError: the index cannot be read.
    """
    every = [name for name in names if name.endswith(WEIGHTS)]
    if INDEX in names:
        named = read_json(folder / INDEX, MAX_INDEX).get("weight_map")
        shards = (
            {one for one in cast(dict[str, Any], named).values() if isinstance(one, str)}
            if isinstance(named, dict)
            else set[str]()
        )
        return [name for name in every if name in shards]
    return ["model.safetensors"] if "model.safetensors" in every else every
