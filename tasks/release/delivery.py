"""The checkpoint of a registered version, whoever registered it.

A version that psomerge published comes whole and is held against its manifest. Of any other the checkpoint is taken
where MLflow's transformers flavour keeps it (`model/`, or `peft/` for an adapter; the tokenizer may lie in
`components/tokenizer/`), else where it lies: at the top, or in the one folder that has one.
"""

import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from psomerge.errors import ArtefactError, VerificationError
from psomerge.files.durable import writing
from psomerge.files.names import MORE_TEMPLATES, TOKENIZER_FILES, is_template
from psomerge.files.untrusted import read_bytes
from psomerge.screening.selection import checkpoint_files
from psomerge.tasks.release.publish import MANIFEST, misfits
from psomerge.tasks.release.registry import download
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import MODEL_SCHEME, RUN_KEY, Store

DEPTH = 3
"""Folders below each other that are looked into."""
MOST = 10_000
"""Files and folders of a version."""
_PLAIN = re.compile(r"[\w.+=,@ -]+(/[\w.+=,@ -]+)*", re.ASCII)
"""Paths that reach MLflow's addresses as they are; with `#` or `%20` another file would be meant."""
_HUB_MODEL = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_COMMIT = re.compile(r"[\w./-]{1,200}", re.ASCII)
_TOKENIZER = "components/tokenizer"
_MLMODEL_LIMIT = 2**20


def version_files(store: Store, address: str) -> tuple[str, dict[str, int]]:
    """Returns where a version's files are (a path, `file://`, `http(s)://` or a store's own address), and their sizes
    in bytes by path below it, 0 where MLflow does not know.

    Args:
        store: the registry.
        address: `models:/NAME/VERSION`.

    Raises:
        ServiceError: MLflow does not answer or refuses.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with connect(store.models):
        repository: Any = get_artifact_repository(address)
        while hasattr(repository, "repo"):  # of models, then of runs, then of the files themselves
            repository = repository.repo
        sizes: dict[str, int] = {}
        folders = [""]
        while folders:
            for one in repository.list_artifacts(folders.pop() or None):
                if not one.is_dir:
                    sizes[one.path] = one.file_size or 0
                elif one.path.count("/") < DEPTH:
                    folders.append(one.path)
            if len(sizes) + len(folders) > MOST:
                raise ArtefactError(f"{address}: holds more than {MOST} files and folders; this is no model")
        return repository.artifact_uri, sizes


def find_checkpoint(store: Store, address: str, files: Mapping[str, int], scratch: Path) -> dict[str, str]:
    """Returns the paths of a version's checkpoint or adapter, by file name.

    Args:
        store: the registry.
        address: of the version.
        files: of the version: bytes by path.
        scratch: an existing folder for what has to be read.

    Raises:
        ArtefactError: it holds none, or several.
        ServiceError, SpaceError: MLflow does not deliver; no room.
    """
    try:
        return checkpoint_paths(address, files)
    except ArtefactError as error:
        raise _named_only(store, address, files, scratch) or error from None


def checkpoint_paths(address: str, files: Mapping[str, int]) -> dict[str, str]:
    """Returns what `find_checkpoint` does, from the paths alone; `address` is for messages. Raises ArtefactError."""
    folders: dict[str, dict[str, str]] = {}
    for path in filter(_PLAIN.fullmatch, files):
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = path
    found: dict[str, dict[str, str]] = {}
    for folder, names in folders.items():
        with suppress(ArtefactError):
            found[folder] = checkpoint_files(address, names | _templates(folders, folder))
    customary = [folder for folder in ("peft", "model", "") if folder in found]
    chosen = customary[:1] or list(found)
    if len(chosen) != 1:
        have = ", ".join(filter(str.isprintable, sorted(chosen or files)[:8])) or "nothing"
        what = "one checkpoint, found several" if chosen else "config.json and safetensors, or a LoRA adapter's, found"
        raise ArtefactError(f"{address}: expected {what}: {have}; name a version of such a model, or give a folder")
    model = found[chosen[0]]
    if not model.keys() & set(TOKENIZER_FILES):
        apart = folders.get(_TOKENIZER, {}) | _templates(folders, _TOKENIZER)
        model |= {name: path for name, path in apart.items() if name in TOKENIZER_FILES or is_template(name)}
    return model


def _templates(folders: Mapping[str, Mapping[str, str]], folder: str) -> dict[str, str]:
    """Paths of a folder's further chat templates, by name below it."""
    found = folders.get(f"{folder}/{MORE_TEMPLATES}".removeprefix("/"), {})
    return {f"{MORE_TEMPLATES}/{name}": path for name, path in found.items()}


def is_ours(store: Store, address: str, files: Mapping[str, int]) -> bool:
    """Returns whether psomerge published a version: then it must hold its manifest, and be as that says."""
    name, version = address.removeprefix(MODEL_SCHEME).split("/")
    with connect(store) as client:
        return MANIFEST in files or RUN_KEY in client.get_model_version(name, version).tags


def deliver(store: Store, address: str, folder: Path) -> Path:
    """Returns the folder below the existing `folder` that a version was copied to; its `model` is the checkpoint.

    Raises:
        ArtefactError: it holds no checkpoint, or a file came short.
        VerificationError: psomerge published it, and it is not what was published.
        ServiceError, SpaceError: MLflow does not deliver; no room.
    """
    _, files = version_files(store, address)
    if is_ours(store, address, files):
        place = folder / "copy"
        place.mkdir()
        published = download(store, address, place)
        if problems := misfits(published):
            raise VerificationError(
                f"{address} at {store.registry} is not what was published: {problems[0]} ({len(problems)} in all)"
            )
        return published
    paths = find_checkpoint(store, address, files, folder)
    copy_files(store, address, {name: (path, files[path]) for name, path in paths.items()}, folder / "version")
    return folder / "version"


def copy_files(store: Store, address: str, files: Mapping[str, tuple[str, int]], folder: Path) -> None:
    """Copies files of a version into `folder / "model"`, which is made if missing; those that are there stay.

    Args:
        store: the registry.
        address: of the version.
        files: path below the version, and bytes (0: not known), by name.
        folder: on a disk with room.

    Raises:
        ArtefactError: a file came short: MLflow itself delivers such without a word.
        ServiceError, SpaceError: as `deliver`.
    """
    model = folder / "model"
    with writing(folder):
        model.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="arrived.", dir=folder) as arrived:  # others may look at it meanwhile
        for name, (path, size) in files.items():
            if (model / name).is_file():
                continue
            came = download(store, f"{address}/{path}", Path(arrived))
            if size and came.stat().st_size != size:
                raise ArtefactError(
                    f"{address}: {path}: the registry lists {size} bytes, {came.stat().st_size} came; run the same "
                    "command again, or give a folder"
                )
            (model / name).parent.mkdir(exist_ok=True)
            came.replace(model / name)


def _named_only(store: Store, address: str, files: Mapping[str, int], scratch: Path) -> ArtefactError | None:
    """What to say of a version without weights that names where they are, as MLflow's `save_pretrained=False` leaves
    it."""
    if "MLmodel" not in files or any(path.endswith((".safetensors", ".bin")) for path in files):
        return None
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        path = download(store, f"{address}/MLmodel", Path(place))
        # A stranger's file: dates that are none and deep nesting raise what they like.
        with suppress(yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError, ArtefactError):
            flavour = yaml.safe_load(read_bytes(path, _MLMODEL_LIMIT))["flavors"]["transformers"]
            name, revision = flavour["source_model_name"], flavour["source_model_revision"]
            if _HUB_MODEL.fullmatch(name) and _COMMIT.fullmatch(revision):
                source = f"hf://{name}@{revision}"
                return ArtefactError(f"{address}: holds no weights, it only names a model of the hub; name {source}")
    return None
