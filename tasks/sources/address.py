"""The kinds of addresses: which one a text is, from what is there, else from what it begins with.

A new kind is a module or folder with a `Scheme`, and a line in `SCHEMES`.
"""

import os

from psomerge.errors import ConfigError
from psomerge.tasks.sources import embedded, local
from psomerge.tasks.sources.hub import model as hub
from psomerge.tasks.sources.origin import Origin, Scheme
from psomerge.tasks.sources.registry import version as registry
from psomerge.tasks.sources.s3 import model as s3

SCHEMES: dict[str, Scheme] = {
    "hf://": hub.SCHEME,
    "s3://": s3.SCHEME,
    "models:/": registry.SCHEME,
    "embedded://": embedded.SCHEME,
}
"""By what such an address begins with; what begins with none of these, or is there as a whole, is a local folder."""


def parse(address: str) -> Origin:
    """Returns where the model of an address comes from; asks nobody, and looks only whether a folder is there that is
    called so: then it is the model, whatever its name looks like.

    Raises:
        ConfigError: an address that cannot be, or an embedded model that does not exist.
    """
    if _is_folder(address):
        return local.SCHEME.parse(address)
    for prefix, scheme in SCHEMES.items():
        if address.startswith(prefix):
            return scheme.parse(address)
    if "://" in address:
        *others, last = [form for scheme in (local.SCHEME, *SCHEMES.values()) for form in scheme.forms]
        kinds = f"{', '.join(others)} or {last}"
        raise ConfigError(f"{address}: expected {kinds}; download the model first and give its folder")
    return local.SCHEME.parse(address)


def is_recipe(address: str) -> bool:
    """Returns whether an address means a recipe's file, not a model: it ends in .json, and is neither a folder nor of
    another kind."""
    return address.endswith(".json") and not address.startswith(tuple(SCHEMES)) and not _is_folder(address)


def _is_folder(address: str) -> bool:
    return os.path.isdir(os.path.expanduser(address))  # unlike pathlib's it leaves the `~` of an unknown user alone
