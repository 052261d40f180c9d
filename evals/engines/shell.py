"""Folders with a merged model's configuration and tokenizer, without weights: what an engine starts from, and what cuts
the texts of a suite."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from psomerge.checkpoint.reader import Checkpoint
from psomerge.checkpoint.writer import carried, companion_files, write_companions
from psomerge.errors import ArtefactError
from psomerge.files.durable import write_atomic
from psomerge.merge.basis import Basis
from psomerge.vocabulary.tokenizer import EXPECTED, WITHOUT_TOKENIZER, has_tokenizer


def write_shell(basis: Basis, tokenizer_from: str, folder: Path) -> Mapping[str, Any]:
    """Returns the merged model's config, and writes it with the tokenizer files to a new folder.

    Args:
        basis: of the models that will be judged.
        tokenizer_from: name of the one whose tokenizer they get.
        folder: to write.

    Raises:
        ArtefactError: no model has that name, or it brings no tokenizer.
    """
    chosen = with_tokenizer(basis.named(tokenizer_from))
    folder.mkdir(parents=True, exist_ok=True)
    write_companions(folder, basis.base, chosen, "base")
    return basis.base.config


def with_tokenizer(chosen: Checkpoint) -> Checkpoint:
    """Returns a checkpoint that is to be judged. Raises ArtefactError where it brings no tokenizer."""
    if not has_tokenizer(chosen):
        raise ArtefactError(
            f'"{chosen.name}" ({chosen.folder}): has no tokenizer, expected {EXPECTED}: {WITHOUT_TOKENIZER}, or name '
            "another model in tokenizer_from"
        )
    return chosen


def tokenizer_folder(basis: Basis, tokenizer_from: str, cache: Path) -> Path:
    """Returns the folder of the merged model's tokenizer: that of the model whose tokenizer it is, or one in `cache`
    where tokens of others were added to it, or not all of its files go with a merged model.

    Raises:
        ArtefactError: no model has that name, or it brings no tokenizer.
        SpaceError: `cache` cannot be written.
    """
    chosen = with_tokenizer(basis.named(tokenizer_from))
    if not chosen.edited and not ("tekken.json" in chosen.files and "tekken.json" not in carried(chosen.files)):
        return chosen.folder
    files = companion_files(basis.base, chosen, "base")
    place = cache / sha256(b"".join(files.values())).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        write_atomic(place / name, content)
    return place
