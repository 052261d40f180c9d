"""A published checkpoint: an MLflow model folder with recipe, model card and a manifest over every file.

    MLmodel  conda.yaml  python_env.yaml  requirements.txt     what MLflow needs
    model/                  weights, config and tokenizer: what `vllm serve` takes
    components/tokenizer/   the same tokenizer files: where `mlflow.transformers.load_model` looks for them
    recipe.json  README.md  MANIFEST.json

Only files of an allow-list get in or are accepted back: no pickle, no Python. Registering is `tasks.release.registry`'s
matter.
"""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from psomerge import recipe as recipes
from psomerge.checkpoint.pins import digest_file
from psomerge.errors import ArtefactError
from psomerge.files.durable import sync
from psomerge.files.names import TOKENIZER_FILES, allowed, is_template
from psomerge.files.untrusted import listing, read_json
from psomerge.recipe import Recipe
from psomerge.tasks.release import flavour

FORMAT = 1
MANIFEST = "MANIFEST.json"
GENERATION = "generation_config.json"
TOP_FILES = ("README.md", "conda.yaml", "python_env.yaml", "recipe.json", "requirements.txt")
UNLISTED = ("MLmodel", MANIFEST, "registered_model_meta")
"""Not in the manifest: MLflow writes ids into the first when a model is logged, and the last into every copy that it
downloads."""
JSON_LIMIT = 64 * 2**20
_TOKENIZER = "components/tokenizer"


def lay_out(checkpoint: Path, folder: Path, *, recipe: Recipe, card: str) -> Path:
    """Returns `folder`, written as a model folder of the checkpoint; if it is there and whole for this recipe, it stays
    as it is.

    Weights are hard links to the checkpoint's where the file system has them. All is written beside `folder` and
    renamed at the end.

    Raises:
        ArtefactError: the checkpoint wants remote code, or `folder` holds something else.
    """
    if folder.exists():
        if problems := misfits(folder):
            raise ArtefactError(f"{folder}: expected a published model or nothing: {problems[0]}; remove the folder")
        if recipes.read(folder / "recipe.json") != recipes.from_dict(recipe.to_dict()):
            raise ArtefactError(f"{folder}: holds a model of another recipe; remove the folder")
        return folder
    names = [name for name in listing(checkpoint) if allowed(name)]
    for name in names:
        if name.endswith("config.json") and "auto_map" in read_json(checkpoint / name, JSON_LIMIT):
            raise ArtefactError(
                f"{checkpoint / name}: auto_map asks for remote code, which is never run; remove that entry"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        building = Path(scratch) / "published"
        _model_folder(checkpoint, building, names=names, recipe=recipe)
        recipes.write(recipe, building / "recipe.json")
        (building / "README.md").write_text(card, encoding="utf-8")
        _seal(building)
        building.rename(folder)
    sync(folder.parent)
    return folder


def _model_folder(checkpoint: Path, building: Path, *, names: Sequence[str], recipe: Recipe) -> None:
    skeleton = building.with_name("checkpoint")
    skeleton.mkdir()
    weights = [name for name in names if name.endswith(".safetensors")]
    for name in set(names).difference(weights):
        _copy(checkpoint / name, skeleton / name)
    _sample_only_if_asked(skeleton / GENERATION)
    flavour.save_model(
        skeleton,
        building,
        origin=f"psomerge recipe {recipe.digest()}",
        metadata={"recipe": recipe.digest(), "method": recipe.method},
    )
    (building / "LICENSE.txt").unlink()  # MLflow's advice to look for a licence under this machine's path
    for name in weights:
        _link(checkpoint / name, building / "model" / name)
    tokenizer = building / "components" / "tokenizer"
    shutil.rmtree(tokenizer)  # MLflow has loaded and saved it again, which adds settings of this machine
    tokenizer.mkdir()
    for name in filter(_of_tokenizer, names):
        _copy(checkpoint / name, tokenizer / name)


def _of_tokenizer(name: str) -> bool:
    return name in TOKENIZER_FILES or is_template(name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def _sample_only_if_asked(path: Path) -> None:
    """Has generation_config.json say that nothing is drawn unless it says otherwise: a pipeline of transformers samples
    where it is silent."""
    content = read_json(path, JSON_LIMIT) if path.exists() else {}
    if "do_sample" not in content:
        path.write_text(json.dumps(content | {"do_sample": False}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _seal(folder: Path) -> None:
    """Writes the manifest, makes everything readable by others and durable."""
    files = {name: digest_file(folder / name) for name in _files(folder) if name not in UNLISTED}
    content = {"format": FORMAT, "flavors": _flavors(folder), "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        sync(path)


def _flavors(folder: Path) -> Any:
    return json.loads(json.dumps(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"]))


def _files(folder: Path) -> list[str]:
    """Returns every entry below the folder that is not itself a folder, as relative path with `/`. Follows no link."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )


def _expected(name: str) -> bool:
    place = next((place for place in ("model", _TOKENIZER) if name.startswith(f"{place}/")), "")
    file = name.removeprefix(f"{place}/")
    plain = "/" not in file or is_template(file)
    return plain and {"": name in TOP_FILES, "model": allowed(file), _TOKENIZER: _of_tokenizer(file)}[place]


def misfits(folder: Path) -> list[str]:
    """Returns in what a folder, e.g. downloaded, differs from its manifest, one line each: files missing, extra,
    changed or of a kind that is never published, and the flavour section of MLmodel. An empty list says that all bytes
    are those that were published."""
    try:
        manifest = read_json(folder / MANIFEST, JSON_LIMIT)
        files, flavors = dict(manifest["files"]), _flavors(folder)
    except (ArtefactError, OSError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        return [f"{folder}: no manifest or MLmodel to be read: {error}"]
    if manifest.get("format") != FORMAT:
        return [f"{MANIFEST}: expected format {FORMAT}, found {manifest.get('format')!r}"]
    found = set(_files(folder)) - set(UNLISTED)
    problems = [f"{name}: in the manifest but not there" for name in sorted(files.keys() - found)]
    problems += [f"{name}: there but not in the manifest" for name in sorted(found - files.keys())]
    for name in sorted(found & files.keys()):
        if not _expected(name):
            problems.append(f"{name}: a file of this name is never published")
        elif not stat.S_ISREG((folder / name).lstat().st_mode):
            problems.append(f"{name}: expected a regular file")
        elif (digest := digest_file(folder / name)) != files[name]:
            problems.append(f"{name}: expected SHA-256 {files[name]}, found {digest}")
    if flavors != manifest.get("flavors"):
        problems.append("MLmodel: its flavors differ from the manifest's")
    return problems
