"""What can go wrong, one class per exit code of the command line.

    PsomergeError                 1  our own bug when raised as itself
    ├── ConfigError               2  a config that says something impossible
    ├── ArtefactError             3  a checkpoint, recipe or data set that is broken or does not fit
    ├── ServiceError              4  a hub, registry or server that does not answer
    ├── LockedError               5  another run holds the folder
    ├── SpaceError                6  no room, or no right to write
    ├── EngineError               7  the engine that judges models died, hung or refused
    ├── StateError                8  a run's journal is damaged
    └── VerificationError         9  what was registered is not what was judged

Every message is one line: what was expected, what was found and where, what to do. Several faults that are told
together have a line each.
"""

import difflib
from collections.abc import Sequence


class PsomergeError(Exception):
    """Base of all errors that the command line prints as one line, without a traceback."""

    exit_code = 1


class ConfigError(PsomergeError):
    """A config or a command line asks for something that cannot be."""

    exit_code = 2


class ArtefactError(PsomergeError):
    """A checkpoint, recipe, suite or data set is broken, unsafe or does not fit the others."""

    exit_code = 3


class ServiceError(PsomergeError):
    """A service outside this process (hub, MLflow, Prefect) is not available."""

    exit_code = 4


class LockedError(PsomergeError):
    """Another process works in the same run folder."""

    exit_code = 5


class SpaceError(PsomergeError):
    """A folder is full or cannot be written."""

    exit_code = 6


class EngineError(PsomergeError):
    """The engine died, hung, or failed one of its checks; the text says which."""

    exit_code = 7


class StateError(PsomergeError):
    """The journal or another state file of a run is damaged."""

    exit_code = 8


class VerificationError(PsomergeError):
    """A registered model differs from the one that was judged."""

    exit_code = 9


def together(errors: Sequence[PsomergeError]) -> PsomergeError:
    """Returns one error that tells of several, of the first one's class; of a single one that itself."""
    return errors[0] if len(errors) == 1 else type(errors[0])("\n".join(dict.fromkeys(map(str, errors))))


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns `; did you mean X?` for the known name most like `name`, else a list of all known names, else nothing."""
    if match := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"; did you mean {match[0]}?"
    return f"; known are {', '.join(sorted(known))}" if 0 < len(known) <= 30 else ""
