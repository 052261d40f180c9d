"""YAML as people mean it: version 1.2's core schema, no tags, no duplicate keys; and its validation with one-line
errors.

In YAML 1.1, which PyYAML reads, Norwegian's code NO is False, 12:30 is 750, 010 is 8 and 1e-3 is text; a key given
twice wins silently.
"""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ValidationError

from psomerge.errors import ConfigError, nearest, together

Model = TypeVar("Model", bound=BaseModel)
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a key that a model, or a dataclass, has not."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own protocol)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if tag := getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(
                problem=f"found the tag {tag.replace('tag:yaml.org,2002:', '!!')}, expected a value without one",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"expected text as a key, found {key!r}; write it in quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in mapping:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice; remove one", problem_mark=key_node.start_mark
                )
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


_INT = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_BASES = {"0o": 8, "0x": 16}


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    try:
        return int(text, _BASES[text[:2]]) if text[:2] in _BASES else int(text, 10)
    except ValueError as error:  # thousands of digits
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error


def _real(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    return float(text.replace(".", "") if text[-1].isalpha() else text)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)


def read(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is no mapping, or as of `parse`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#x} at offset {error.start}"
        ) from error
    content = parse(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of names to values, found {_kind(content)}")
    return content


def parse(text: str, where: str) -> Any:
    """Returns what YAML text says: None where it is empty.

    Args:
        where: file or option, for the error's text.

    Raises:
        ConfigError: the text is not YAML, or holds a tag, a duplicate key or a key that is no text.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError(f"{where}: expected YAML of a few levels, found hundreds of nested ones") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}{_place(error)}: {_problem(error)}") from error


def parse_value(text: str, where: str) -> Any:
    """Returns what a text means as the value of a key of a file, where it stands behind the key in one line. Arguments
    and errors as of `parse`."""
    content = parse(f"value: {text}", where)
    if not isinstance(content, dict) or [*content] != ["value"]:
        raise ConfigError(f"{where}: expected what may stand behind `KEY: ` in a file, found {text!r}")
    return content["value"]


def validate(model: type[Model], content: dict[str, Any], where: str) -> Model:
    """Returns `content` as a pydantic record.

    Raises:
        ConfigError: all that does not fit, a line each, with its path inside the file; for an unknown key the nearest
            name that exists.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = sorted(error.errors(), key=lambda one: one["type"] not in _UNKNOWN)
        raise together([ConfigError(f"{where}: {_said(model, one)}") for one in found]) from error


def _said(model: type, found: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in found["loc"])
    if found["type"] in _UNKNOWN:
        return f"unknown key {place}{nearest(str(found['loc'][-1]), _keys(model, found['loc'][:-1]))}"
    value = "" if found["type"] in ("missing", "value_error") else f", found {found['input']!r}"
    return f"{place + ': ' if place else ''}{found['msg'].removeprefix('Value error, ')}{value}"


def _keys(model: type, location: tuple[int | str, ...]) -> list[str]:
    """Names of the keys at a place inside a model, through lists, tuples and optional fields."""
    current: type | None = model
    for part in location:
        if current is None:
            return []
        if isinstance(part, str) and part in (kinds := _kinds(current)):
            current = _record_in(kinds[part])
    return list(_kinds(current)) if current else []


def _kinds(record: type) -> dict[str, Any]:
    """Types of a record's keys by their names in the file: a key such as `register` is another field's alias."""
    if issubclass(record, BaseModel):
        return {field.alias or name: field.annotation for name, field in record.model_fields.items()}
    return get_type_hints(record)


def _record_in(annotation: Any) -> type | None:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return annotation
    return next((record for part in get_args(annotation) if (record := _record_in(part))), None)


def _place(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f", line {mark.line + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        return error.problem
    return " ".join(str(error).split())


def _kind(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
