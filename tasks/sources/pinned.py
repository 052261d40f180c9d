"""What the addresses of a run meant when it began.

Each run resolves its addresses anew: a branch, a tag, an alias, what lies below a prefix. Until it is finished it goes
on with what they were, whatever they mean since:

    HOME/pinned/CONFIG.json    CONFIG is a digest of the config and of where it is read; sealed; goes with the end
                               of the run
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from psomerge.errors import ArtefactError, PsomergeError, StateError
from psomerge.files.digest import digest_of
from psomerge.files.durable import from_bytes, seal, to_bytes, write_atomic, writing
from psomerge.tasks.secrets import redact
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.fetch import fetch
from psomerge.tasks.sources.local import Folder
from psomerge.tasks.sources.origin import Access, Fetched, Origin
from psomerge.tasks.tracking.store import MODEL_SCHEME

ENDPOINTS = ("HF_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
"""Variables that say which hub and which S3 is asked."""


@dataclass(frozen=True)
class Pinned:
    """Of an unfinished run."""

    path: Path
    """Of the record."""
    since: str
    """When the run began: a date and a time of day, UTC."""
    given: Mapping[str, str]
    """The addresses of its models by name, as the config has them and in its order."""
    addresses: Mapping[str, str]
    """What they are: addresses that cannot move; in the same order."""

    def drop(self) -> None:
        """Removes the record, if it is still this run's: it is finished."""
        with suppress(OSError, ValueError, KeyError):
            if from_bytes(self.path.read_bytes(), indent=2)["since"] == self.since:
                self.path.unlink()

    def fetch(self, name: str, access: Access) -> Fetched:
        """Returns a model. Raises as `tasks.sources.fetch.fetch`; says how to begin anew where files of an address that
        can move are not to be had any more."""
        try:
            return fetch(self.addresses[name], access.home, access.progress, store=access.store)
        except ArtefactError as error:
            if self.addresses[name] == _meant(self.given[name], access):
                raise
            raise type(error)(f"{error}; {self.advice}") from error

    @property
    def advice(self) -> str:
        """How to begin anew."""
        return f"to begin anew with what the addresses mean now, remove {self.path}"

    def moved(self, access: Access) -> list[str]:
        """Returns a line for each address that means something else by now, or of which that cannot be known."""

        def now(name: str) -> str:
            try:
                return parse(self.given[name]).resolve(access).address
            except PsomergeError as error:
                return f"not to be known now ({error})"

        with ThreadPoolExecutor(max_workers=len(self.given)) as pool:
            found = dict(zip(self.given, pool.map(now, self.given), strict=True))
        return [
            f"{self.given[name]} is {one}; the run that began on {self.since} goes on with {self.addresses[name]} "
            f"until it is finished; {self.advice}"
            for name, one in found.items()
            if one != self.addresses[name]
        ]


def pinned(
    addresses: Mapping[str, str], access: Access, config: Mapping[str, Any], program: Mapping[str, Any]
) -> Pinned | None:
    """Returns what the addresses of a config's unfinished run are; None where there is none, or where another state of
    the program began it, which goes on with none of its judgements.

    Args:
        addresses: by name, in the config's order.
        access: to what may be asked.
        config: canonical.
        program: JSON data; what a run's results may depend on beside the config.

    Raises:
        StateError: the record is damaged.
    """
    path = _path(addresses, access, config)
    try:
        record = from_bytes(path.read_bytes(), indent=2)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateError(f"{path}: {error}; remove it: the run then begins with what its addresses mean now") from error
    if record["program"] != digest_of(program):
        return None
    # JSON's objects keep no order here, and the order of the experts is that of their coefficients.
    return Pinned(path, record["since"], dict(addresses), {name: record["addresses"][name] for name in addresses})


def pin_addresses(
    addresses: Mapping[str, str], access: Access, config: Mapping[str, Any], program: Mapping[str, Any]
) -> Pinned:
    """Returns what addresses mean now, after keeping it for the case that the run is interrupted; arguments as of
    `pinned`.

    Raises:
        SpaceError: the record cannot be written.
        PsomergeError: as `tasks.sources.fetch.fetch`.
    """
    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        origins = pool.map(partial(_resolved, access=access), addresses.values())
        found = dict(zip(addresses, (one.address for one in origins), strict=True))
    since = datetime.now(UTC).isoformat(" ", "milliseconds")
    made = Pinned(_path(addresses, access, config), since, dict(addresses), found)
    record = {"since": since, "addresses": found, "program": digest_of(program)}
    with writing(made.path):
        made.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(made.path, to_bytes(seal(record), indent=2))
    return made


def _resolved(address: str, access: Access) -> Origin:
    return parse(address).resolve(access)


def _meant(address: str, access: Access) -> str:
    """An address as it would be told elsewhere on this machine: a folder's whole path; asks nobody."""
    origin = parse(address)
    return (origin.resolve(access) if isinstance(origin, Folder) else origin).address


def _path(addresses: Mapping[str, str], access: Access, config: Mapping[str, Any]) -> Path:
    """The record of a config in these surroundings: the same text means other models in another folder, at another hub,
    bucket or registry."""
    meant = {name: _meant(address, access) for name, address in addresses.items()}
    if access.store and any(address.startswith(MODEL_SCHEME) for address in addresses.values()):
        store = access.store()
        meant[MODEL_SCHEME] = (
            "this home's" if store.artifacts and not store.is_divided else store.registry
        )  # with its servers or without
    meant |= {name: redact(os.environ.get(name, "")) for name in ENDPOINTS}
    return access.home / "pinned" / f"{digest_of({'config': config, 'meant': meant})[:16]}.json"
