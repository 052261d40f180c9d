"""A version of the registry before it is copied: its files' sizes, and as much of it as MLflow gives without the
weights.

Where the registry's files lie on this machine, they are opened where they are. Of a server's, config, tokenizer and
index are copied to `.VERSION.look` beside the copy's place, until that is made, and the weights' headers are read from
the beginning of what it sends, which is then broken off. Of files that lie in a store of their own, which MLflow only
names, the headers stay unseen.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from psomerge.checkpoint.adapter import is_adapter
from psomerge.checkpoint.config import read_config
from psomerge.checkpoint.headers import checkpoint_of_headers, header_guesses
from psomerge.checkpoint.layers import with_rows
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.durable import writing
from psomerge.files.names import ADAPTER
from psomerge.files.untrusted import MAX_TOKENIZER, read_start
from psomerge.fit.vocabulary import declared_rows
from psomerge.merge.basis import open_expert
from psomerge.screening.selection import WEIGHTS
from psomerge.tasks.release.delivery import copy_files, find_checkpoint, version_files
from psomerge.tasks.sources.cache.headers import read_header
from psomerge.tasks.sources.origin import Preview
from psomerge.tasks.sources.registry.copy import Copy, must_exist
from psomerge.tasks.tracking.store import Store

CHUNK = 2**14
"""Bytes of an answer that are read together."""
_SERVED = ("http", "https")
"""Schemes of files that the tracking server passes on."""
_ONE_AT_A_TIME = Lock()
"""MLflow keeps the address in use for the whole process, and makes a store's tables when it is first asked."""


def preview(copy: Copy, name: str, base: Checkpoint | None, store: Store) -> Preview:
    """Returns what can be known of a version.

    Args:
        copy: which version, and where its copy belongs.
        name: that messages use: `base`, or an expert's name.
        base: that it will be merged with, where that is known.
        store: the registry.

    Raises:
        ArtefactError: there is no such version, or it is no sound checkpoint.
        ServiceError, SpaceError: the registry cannot be reached; no room.
    """
    with _ONE_AT_A_TIME:
        if store.database and not store.database.exists():
            raise ArtefactError(
                f"{copy.address}: there is no registry at {store.registry} yet; name another model, or set "
                "MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI"
            )
        must_exist(copy, store)
        location, files = version_files(store, copy.address)
        with writing(copy.folder):
            copy.folder.parent.mkdir(parents=True, exist_ok=True)
        paths = find_checkpoint(store, copy.address, files, copy.folder.parent)
        sizes = {file: files[path] for file, path in paths.items()}
        address = urlsplit(location)
        root = Path(unquote(address.path)) if address.scheme in ("", "file") else None
        folders = {path.rpartition("/")[0] for path in paths.values()}
        if root and len(folders) == 1 and root.is_dir():
            place = root / folders.pop()
            if base is None and is_adapter(place):
                return Preview(copy.address, None, sizes, unseen="whether it fits")
            opened = open_checkpoint(place, name) if base is None else open_expert(place, name, base)
            return Preview(copy.address, opened, sizes)
        small = {
            file: (paths[file], size)
            for file, size in sizes.items()
            if not file.endswith(WEIGHTS) and size <= MAX_TOKENIZER
        }
        folder = copy.folder.with_name(f".{copy.version}.look")
        copy_files(store, copy.address, small, folder)
        folder /= "model"
        if root or address.scheme in _SERVED:
            start = partial(_start, root or location, paths, store)
            headers = {
                file: read_header(start, file, sizes[file], guess, folder)
                for file, guess in header_guesses(folder, sizes).items()
            }
            if ADAPTER in sizes and base is None:
                return Preview(copy.address, None, sizes, unseen="whether it fits")
            return Preview(copy.address, checkpoint_of_headers(folder, name, sizes, headers, base), sizes)
    if ADAPTER in sizes:
        return Preview(copy.address, None, sizes, unseen="whether it fits")
    config = read_config(folder, sizes)
    if base is not None:
        # Its tensors are taken to be the base's, with a row for each token of its own.
        tensors = with_rows(base.tensors, rows) if (rows := declared_rows(config)) else base.tensors
        base = replace(base, folder=folder, name=name, config=config, files=sizes, tensors=tensors)
    return Preview(copy.address, base, sizes, unseen="whether its tensors fit")


def _start(location: Path | str, paths: Mapping[str, str], store: Store, name: str, count: int) -> bytes:
    """Returns the first bytes of a file of a version, from its folder or as MLflow's own client asks the server; the
    rest is not waited for."""
    if isinstance(location, Path):
        return read_start(location / paths[name], count)
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.request_utils import augmented_raise_for_status
    from mlflow.utils.rest_utils import http_request

    from psomerge.tasks.tracking.run import connect

    content = bytearray()
    with (
        connect(store),
        cast(Any, http_request)(get_default_host_creds(location), f"/{paths[name]}", "GET", stream=True) as answer,
    ):
        augmented_raise_for_status(answer)
        for piece in answer.iter_content(CHUNK):
            content += piece
            if len(content) >= count:
                break
    return bytes(content[:count])
