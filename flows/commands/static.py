"""Commands that need no service: static merges, checks, rebuilding from a recipe. They import neither Prefect nor
MLflow.

Importing torch takes a third of a merge's time: it is done inside the functions, while the models' files are being
hashed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psomerge import recipe as recipes
from psomerge.errors import ArtefactError, ConfigError, PsomergeError, VerificationError, nearest, together
from psomerge.evals.suites.strict_yaml import parse_value
from psomerge.fit.warning import FitWarning
from psomerge.flows.environment.home import home_folder, prepare
from psomerge.flows.terminal.progress import Progress
from psomerge.merge.methods.table import METHODS, form_of
from psomerge.recipe import Recipe, Source
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.fetch import fetch, pin_fetched
from psomerge.tasks.sources.local import Folder
from psomerge.tasks.sources.origin import Access, Fetched
from psomerge.tasks.tracking.store import Store

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint


def merge_models(
    method: str,
    base: str,
    experts: Sequence[str],
    out: Path,
    settings: Sequence[str],
    tokenizer_from: str | None = None,
) -> dict[str, Any]:
    """Returns where the merged checkpoint and its recipe were written, and what a user should know about the experts.

    Args:
        method: a name in `psomerge.merge.methods.table.METHODS`.
        base: MODEL.
        experts: `MODEL` or `MODEL=WEIGHT` each; what is there as a whole is the model.
        out: folder to write.
        settings: `KEY=VALUE` each, parameters of the method.
        tokenizer_from: `base` or an expert's address; None where it need not be said.

    Raises:
        ConfigError: an unknown method or parameter, a number that it cannot have, tokenizers that differ and none
            chosen.
        ArtefactError, SpaceError: as `open_fitting` and `write_model`.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}{nearest(method, list(METHODS))}")
    options = dict(_option(method, setting) for setting in settings)
    weighed = [_weighed(expert) for expert in experts]
    names = _names([address for address, _ in weighed])
    known = (
        {"base": "base", base: "base"}
        | {address: name for name, (address, _) in zip(names, weighed, strict=True)}
        | {name: name for name in names}
    )
    if tokenizer_from not in (None, *known):
        raise ConfigError(
            f"--tokenizer-from {tokenizer_from}: expected base or an expert's "
            f"address{nearest(str(tokenizer_from), list(known))}"
        )
    plain = Recipe(Source("base", "", ""), tuple(Source(name, "", "") for name in names))
    recipe = METHODS[method].recipe(plain, [weight for _, weight in weighed], **options)
    models = _fetched({"base": base} | {name: address for name, (address, _) in zip(names, weighed, strict=True)})
    with _pinning(models) as pins:
        from psomerge.merge.materialize import write_model
        from psomerge.tasks.experts.check import file_warnings
        from psomerge.tasks.experts.fitting import open_fitting

        folders = {name: model.folder for name, model in models.items()}
        found = open_fitting(folders, tokenizer_from and known[tokenizer_from], compiled=False)
        recipe = replace(recipe, tokenizer_from=found.tokenizer_from, vocabulary=found.basis.vocabulary)
        write_model(recipe, found.basis, out, pins=lambda: {name: one.result() for name, one in pins.items()})
        told = file_warnings(found.base, found.experts, found.tokenizer_from)
    made = {
        "checkpoint": str(out),
        "recipe": str(out / "recipe.json"),
        "method": method,
        "coefficients": recipe.coefficients,
    }
    return made | {"warnings": [asdict(warning) for warning in told]}


def merge_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns what `merge_models` did, for people."""
    return [
        *(f"{key}: {value}" for key, value in found.items() if key != "warnings"),
        *(f"warning: {FitWarning(**warning)}" for warning in found["warnings"]),
    ]


@contextmanager
def _pinning(models: Mapping[str, Fetched]) -> Iterator[Mapping[str, Future[Source]]]:
    """Yields the source records of models, made one after the other beside whatever the block does."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        yield {name: pool.submit(pin_fetched, name, model) for name, model in models.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after an error nobody waits for gigabytes to be read


def _option(method: str, setting: str) -> tuple[str, float]:
    known = [parameter.name for parameter in METHODS[method].parameters]
    name, _, text = setting.partition("=")
    if name not in known:
        raise ConfigError(f"--set {setting}: {method} has no parameter {name!r}{nearest(name, known)}")
    return name, _number(text, f"--set {setting}")


def _weighed(expert: str) -> tuple[str, float]:
    """Address and weight; what is there as a whole is the address, and its weight 1."""
    address, equals, weight = expert.rpartition("=")
    if not equals or _is_there(expert):
        return expert, 1.0
    return address, _number(weight, f"--expert {expert}")


def _is_there(address: str) -> bool:
    """Whether a text is a model's whole address: a folder's at once; elsewhere it is asked for what holds a `=`, which
    few may."""
    try:
        origin = parse(address)
        if not isinstance(origin, Folder):
            with Progress() as progress:
                origin.resolve(Access(home_folder(), progress.fetching, _store))
    except (ArtefactError, ConfigError):
        return False
    return not isinstance(origin, Folder) or origin.cached(home_folder()) is not None


def _number(text: str, where: str) -> float:
    number = parse_value(text, where)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ConfigError(f"{where}: expected a number after '=', found {text!r}")
    return float(number)


def _names(addresses: Sequence[str]) -> list[str]:
    """A name for every expert: what its address calls it, numbered where two are equal or one is called base."""
    names: list[str] = []
    for number, address in enumerate(addresses, 1):
        name = parse(address).short
        names.append(f"{name}-{number}" if name in {"base", *names} else name)
    return names


def _fetched(addresses: dict[str, str]) -> dict[str, Fetched]:
    """The models of these addresses; an alias means the version that it names now."""
    with Progress() as progress:
        return {
            name: fetch(address, home_folder(), progress.fetching, store=_store) for name, address in addresses.items()
        }


def _store() -> Store:
    return prepare(home_folder()).mlflow


def check_models(models: Sequence[str], base: str | None) -> dict[str, Any]:
    """Returns for every model, all of which are sound, its `verdict`, and its `warnings` as plain data.

    Raises:
        ArtefactError: models are broken, hold values that are not finite, or do not fit the base; all that is wrong
            with all of them is listed.
        VerificationError: nothing else is wrong, but files differ from the manifest beside them.
    """
    from psomerge.checkpoint.reader import open_checkpoint
    from psomerge.merge.basis import open_expert
    from psomerge.tasks.experts.check import examine

    against = None if base is None else open_checkpoint(_fetched({"base": base})["base"].folder, "base")
    opened: dict[str, tuple[Checkpoint, str]] = {}
    wrong: list[PsomergeError] = []
    for address in dict.fromkeys(models):
        try:
            place, told = _published(_fetched({address: address})[address].folder)
            opened[address] = open_expert(place, address, against) if against else open_checkpoint(place, address), told
        except (ArtefactError, VerificationError) as error:
            wrong.append(error)
    lines, warnings = examine(against, [one for one, _ in opened.values()])
    wrong += map(ArtefactError, lines)
    if wrong:
        raise together(sorted(wrong, key=lambda error: isinstance(error, VerificationError)))
    return {
        address: {
            "verdict": f"sound, {len(one.tensors)} tensors{', fits the base' if against else ''}{told}",
            "warnings": [asdict(warning) for warning in warnings if warning.expert == address],
        }
        for address, (one, told) in opened.items()
    }


def _published(folder: Path) -> tuple[Path, str]:
    """The checkpoint in a folder, which may be a published model's, and what to say of its manifest. Raises
    VerificationError where files differ from that."""
    from psomerge.tasks.release.publish import MANIFEST, misfits

    published = next((place for place in (folder, folder.parent) if (place / MANIFEST).exists()), None)
    if published and (problems := misfits(published)):
        raise VerificationError(f"{published}: {problems[0]} ({len(problems)} in all); download it again")
    return folder / "model" if published == folder else folder, ", manifest holds" if published else ""


def check_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns what `check_models` found, for people."""
    return [
        line
        for address, one in found.items()
        for line in (
            f"{address}: {one['verdict']}",
            *(f"  warning: {FitWarning(**warning)}" for warning in one["warnings"]),
        )
    ]


def materialize(recipe: Path, out: Path) -> dict[str, Any]:
    """Returns where the recipe's model was written, from the sources that it pins. Raises ArtefactError where the
    recipe cannot be, or a source differs from its pin."""
    from psomerge.tasks.experts.rebuild import rebuild

    content = recipes.read(recipe)
    form_of(content, str(recipe))
    try:
        models = _fetched({name: source.source for name, source in content.sources.items()})
    except PsomergeError as error:
        raise type(error)(f"{recipe}: {error}") from error
    rebuild(content, {name: model.folder for name, model in models.items()}, out)
    return {"checkpoint": str(out), "recipe": str(out / "recipe.json"), "digest": content.digest()}
