"""Records read back from plain JSON data, strictly."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from psomerge.errors import StateError

T = TypeVar("T")


def record(kind: type[T], content: Mapping[str, Any], where: str, *, remedy: str) -> T:
    """Returns a frozen dataclass of plain JSON data, floats to the last bit.

    Args:
        kind: the dataclass.
        content: its fields; further keys are left alone.
        where: file or name, for the error's text.
        remedy: what to do about damage.

    Raises:
        StateError: a key that is missing or of another type; names the first.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StateError(f"{where}: damaged at {place!r}: {first['msg']}; {remedy}") from error
