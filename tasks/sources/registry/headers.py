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

from psomerge.checkpoint.config import read_config
from psomerge.checkpoint.headers import checkpoint_of_headers, header_guesses
from psomerge.checkpoint.layers import with_rows
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.durable import writing
from psomerge.files.untrusted import MAX_TOKENIZER, allowed
from psomerge.fit.vocabulary import declared_rows
from psomerge.tasks.sources.cache.headers import read_header
from psomerge.tasks.sources.cache.selection import WEIGHTS
from psomerge.tasks.sources.origin import Preview
from psomerge.tasks.sources.registry.copy import Copy, must_exist
from psomerge.tasks.tracking.store import MODEL_SCHEME, Store

CHUNK = 2**14
"""Bytes of an answer that are read together."""
_LOGGED = f"{MODEL_SCHEME}m-"
"""What a version's source begins with if its files belong to a logged model, as those of all versions do that psomerge
publishes."""
_SERVED = "mlflow-artifacts"
"""Scheme of files that the tracking server passes on."""
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
                f"{copy.address}: there is no registry at {store.address} yet; name another model, or set "
                "MLFLOW_TRACKING_URI"
            )
        must_exist(copy, store)
        location, sizes = _files(copy, store)
        local = urlsplit(location)
        folder = Path(unquote(local.path)) / "model"
        if local.scheme in ("", "file") and folder.is_dir():
            return Preview(copy.address, open_checkpoint(folder, name), sizes)
        folder = _copy_small(copy, sizes, store)
        if local.scheme == _SERVED:
            start = partial(_start, location, store)
            headers = {
                file: read_header(start, file, sizes[file], guess, folder)
                for file, guess in header_guesses(folder, sizes).items()
            }
            return Preview(copy.address, checkpoint_of_headers(folder, name, sizes, headers, base), sizes)
    config = read_config(folder, sizes)
    if base is not None:
        # Its tensors are taken to be the base's, with a row for each token of its own.
        tensors = with_rows(base.tensors, rows) if (rows := declared_rows(config)) else base.tensors
        base = replace(base, folder=folder, name=name, config=config, files=sizes, tensors=tensors)
    return Preview(copy.address, base, sizes, unseen="whether its tensors fit")


def _files(copy: Copy, store: Store) -> tuple[str, dict[str, int]]:
    """Returns where the version's files are, and the sizes of those of its checkpoint."""
    from psomerge.tasks.tracking.run import connect

    with connect(store) as client:
        source = str(client.get_model_version(copy.name, copy.version).source)
        if not source.startswith(_LOGGED):
            raise ArtefactError(
                f"{copy.address}: is no model that was logged with its files; name a version that psomerge has "
                "published"
            )
        found = client.list_logged_model_artifacts(source.removeprefix(MODEL_SCHEME), "model")
        sizes = {Path(one.path).name: one.file_size or 0 for one in found if not one.is_dir}
        return client.get_logged_model(source.removeprefix(MODEL_SCHEME)).artifact_location, {
            name: size for name, size in sizes.items() if allowed(name)
        }


def _start(location: str, store: Store, name: str, count: int) -> bytes:
    """Returns the first bytes of a file of a version, as MLflow's own client reads it; the rest is not waited for."""
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.request_utils import augmented_raise_for_status
    from mlflow.utils.rest_utils import http_request

    from psomerge.tasks.tracking.run import connect

    address = MlflowArtifactsRepository.resolve_uri(location, store.tracking_uri)
    content = bytearray()
    with (
        connect(store),
        cast(Any, http_request)(get_default_host_creds(address), f"/model/{name}", "GET", stream=True) as answer,
    ):
        augmented_raise_for_status(answer)
        for piece in answer.iter_content(CHUNK):
            content += piece
            if len(content) >= count:
                break
    return bytes(content[:count])


def _copy_small(copy: Copy, sizes: Mapping[str, int], store: Store) -> Path:
    """Returns the folder with the version's files but its weights."""
    from psomerge.tasks.release.registry import download

    place = copy.folder.with_name(f".{copy.version}.look")
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
    for file, size in sizes.items():
        if not file.endswith(WEIGHTS) and size <= MAX_TOKENIZER and not (place / "model" / file).is_file():
            download(store, f"{copy.address}/model/{file}", place)  # MLflow keeps the path below the version
    return place / "model"
