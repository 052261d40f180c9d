"""From where a model lives to a local folder with pinned bytes."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from psomerge.errors import ArtefactError, ConfigError
from psomerge.pins import pin
from psomerge.recipe import Source
from tasks.embedded import MODELS, embedded_folder, train

Progress = Callable[[str, float], None]
_EMBEDDED = re.compile(r"embedded://(?P<name>[a-z]+)@(?P<seed>\d{1,9})")


def is_here(source: str, home: Path) -> bool:
    """Returns whether a source needs no download and no training. Raises ConfigError as `locate`."""
    return (locate(source, home) / "config.json").is_file()


def locate(source: str, home: Path) -> Path:
    """Returns the local folder of a source, there already or not.

    Args:
        source: a folder, or `embedded://NAME@SEED`.
        home: PSOMERGE_HOME.

    Raises:
        ConfigError: another kind of address, or an embedded model that does not exist.
    """
    if match := _EMBEDDED.fullmatch(source):
        if match["name"] not in MODELS:
            raise ConfigError(f"{source}: there is no embedded model {match['name']!r}; known are {', '.join(MODELS)}")
        return embedded_folder(home, int(match["seed"])) / match["name"]
    if "://" in source or source.startswith("models:/"):
        raise ConfigError(f"{source}: expected a local folder or embedded://NAME@SEED; download the model first and give its folder")
    return Path(source).expanduser().resolve()


def fetch(source: str, home: Path, progress: Progress) -> Path:
    """Returns the local folder of a source, after training it if it is an embedded model that is not there yet.

    Raises:
        ArtefactError: a folder that does not exist.
        ConfigError, SpaceError: as `locate` and `tasks.embedded.train`.
    """
    folder = locate(source, home)
    if match := _EMBEDDED.fullmatch(source):
        return train(folder.parent, seed=int(match["seed"]), progress=progress)[match["name"]]
    if not folder.is_dir():
        raise ArtefactError(f"{folder}: expected a checkpoint folder, found nothing there; check the path")
    return folder


def pin_all(sources: Mapping[str, str], folders: Mapping[str, Path]) -> dict[str, Source]:
    """Returns every source with the SHA-256 of its files, by name."""
    return {name: pin(folders[name], name, source) for name, source in sources.items()}
