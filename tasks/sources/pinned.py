"""What the addresses of a run meant when it began.

Each run resolves its addresses anew: a branch, a tag, an alias, what lies below a prefix. Until it is finished it goes
on with what they were, whatever they mean since:

    HOME/pinned/CONFIG.json    CONFIG is a digest of the config; sealed; goes with the end of the run
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from psomerge.errors import ArtefactError, PsomergeError, StateError
from psomerge.files.digest import digest_of
from psomerge.files.durable import from_bytes, seal, to_bytes, write_atomic, writing
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.fetch import fetch
from psomerge.tasks.sources.origin import Access, Fetched


@dataclass(frozen=True)
class Pinned:
    """Of an unfinished run."""

    path: Path
    """Of the record."""
    since: str
    """When the run began: a date and a time of day, UTC."""
    addresses: Mapping[str, str]
    """What its models are, by name: addresses that cannot move."""

    def drop(self) -> None:
        """Removes the record: the run is finished."""
        self.path.unlink(missing_ok=True)

    def fetch(self, name: str, access: Access) -> Fetched:
        """Returns a model. Raises as `tasks.sources.fetch.fetch`; says how to begin anew where its files are not to be
        had any more."""
        try:
            return fetch(self.addresses[name], access.home, access.progress, store=access.store)
        except ArtefactError as error:
            raise type(error)(f"{error}; to begin anew with what the addresses mean now, remove {self.path}") from error

    def moved(self, addresses: Mapping[str, str], access: Access) -> list[str]:
        """Returns a line for each address, by name, that means something else by now, or of which that cannot be
        known."""

        def now(name: str) -> str:
            try:
                return parse(addresses[name]).resolve(access).address
            except PsomergeError as error:
                return f"not to be known now ({error})"

        with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
            found = dict(zip(addresses, pool.map(now, addresses), strict=True))
        return [
            f"{addresses[name]} is {one}; the run that began on {self.since} goes on with {self.addresses[name]} until "
            f"it is finished; to begin anew, remove {self.path}"
            for name, one in found.items()
            if one != self.addresses[name]
        ]


def pinned(home: Path, config: Mapping[str, Any], program: Mapping[str, Any]) -> Pinned | None:
    """Returns what the addresses of a config's unfinished run are; None where there is none, or where another state of
    the program began it, which goes on with none of its judgements.

    Args:
        home: PSOMERGE_HOME.
        config: canonical.
        program: JSON data; what a run's results may depend on beside the config.

    Raises:
        StateError: the record is damaged.
    """
    path = _path(home, config)
    try:
        record = from_bytes(path.read_bytes(), indent=2)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateError(f"{path}: {error}; remove it: the run then begins with what its addresses mean now") from error
    same = record["program"] == digest_of(program)
    return Pinned(path, record["since"], record["addresses"]) if same else None


def pin_addresses(
    addresses: Mapping[str, str], access: Access, config: Mapping[str, Any], program: Mapping[str, Any]
) -> Pinned:
    """Returns what addresses mean now, after keeping it for the case that the run is interrupted.

    Args:
        addresses: by name.
        access: to what may be asked.
        config, program: as of `pinned`.

    Raises:
        SpaceError: the record cannot be written.
        PsomergeError: as `tasks.sources.fetch.fetch`.
    """
    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        origins = pool.map(partial(_resolved, access=access), addresses.values())
        found = dict(zip(addresses, (one.address for one in origins), strict=True))
    made = Pinned(_path(access.home, config), datetime.now(UTC).isoformat(" ", "seconds"), found)
    record = {"since": made.since, "addresses": found, "program": digest_of(program)}
    with writing(made.path):
        made.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(made.path, to_bytes(seal(record), indent=2))
    return made


def _resolved(address: str, access: Access) -> Any:
    return parse(address).resolve(access)


def _path(home: Path, config: Mapping[str, Any]) -> Path:
    return home / "pinned" / f"{digest_of(config)[:16]}.json"
