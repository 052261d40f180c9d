"""From a suite's `package.module:name` to a scorer whose every number is checked.

A user's scorer is looked for as the interpreter finds modules, and last in the current folder, as `python -m` and
`uvicorn` do: a file `metrics.py` where psomerge is started is `metrics:name`. It comes last, so that no file there
takes the place of an installed package.
"""

import hashlib
import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from psomerge.errors import ConfigError, PsomergeError, nearest
from psomerge.evals.scorers.scorer import Item, Scorer, ScorerError

logger = logging.getLogger(__name__)

OWN = "psomerge.evals.scorers."
_FORMER = "evals.scorers."
"""What suites written for earlier versions call it."""


def load_scorer(name: str, options: Mapping[str, Any], *, allowed: bool) -> Scorer:
    """Returns the scorer of a name, its results checked.

    Args:
        name: `package.module:name`, of a class with a method `score` (see `Scorer`), or of a function (item, output) ->
            number in [0, 1].
        options: keyword arguments of the class, or of each call of the function.
        allowed: whether modules of the user's may be imported and run; those under `evals.scorers` always may.

    Raises:
        ConfigError: a module without leave, no such module or name, something that is no scorer, or options that it
            does not take.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"scorer {name!r}: expected package.module:name")
    if not module_name.startswith(OWN) and not allowed:
        raise ConfigError(f"scorer {name!r} is code that is not psomerge's; set allow_task_code if you trust it")
    module = _module(module_name, name)
    found = getattr(module, attribute, None)
    if module_name.startswith(OWN) and (attribute.startswith("_") or getattr(found, "__module__", None) != module_name):
        found = None  # what our modules import needs leave like any other code
    if found is None:
        known = [
            key
            for key, value in vars(module).items()
            if getattr(value, "__module__", None) == module_name and not key.startswith("_")
        ]
        raise ConfigError(f"scorer {name!r}: {module.__file__} has no {attribute!r}{nearest(attribute, known)}")
    if not callable(found):
        raise ConfigError(f"scorer {name!r}: expected a class or a function, found {type(found).__name__}")
    return _Checked(_made(found, name, options), name)


@cache
def present_name(name: str) -> str:
    """Returns the name of a scorer as it is now: `evals.scorers.X:Y`, where X is a module of ours, has moved to
    `psomerge.evals.scorers.X:Y`, which is said once."""
    moved = f"{OWN}{name.removeprefix(_FORMER)}"
    if not name.startswith(_FORMER) or moved.partition(":")[0] not in _own_modules():
        return name
    logger.warning("scorer %s is now %s; change the suite's file", name, moved)
    return moved


def _own_modules() -> list[str]:
    return [OWN + path.stem for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem != "__init__"]


def source_digest(name: str) -> str:
    """Returns the SHA-256 in hex of the file that a loaded scorer's module was read from: another text may score
    otherwise."""
    file = sys.modules[name.partition(":")[0]].__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _module(module_name: str, name: str) -> ModuleType:
    if not module_name.startswith(OWN) and (here := str(Path.cwd())) not in sys.path:
        logger.info("scorer %s: modules are looked for in %s too", name, here)
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            hint = (
                nearest(module_name, _own_modules() if module_name.startswith(OWN) else [])
                or f"; it must be installed, or lie in the folder where you start psomerge, {Path.cwd()}"
            )
            raise ConfigError(f"scorer {name!r}: no module {error.name}{hint}") from error
        raise ConfigError(
            f"scorer {name!r}: module {module_name} needs {error.name}, which is not installed"
        ) from error
    except PsomergeError:
        raise
    except Exception as error:
        raise ConfigError(f"scorer {name!r}: importing {module_name} fails: {_line(error)}") from error


def _made(found: Any, name: str, options: Mapping[str, Any]) -> Scorer:
    """An object of the class, or the function as a scorer, once it is clear that the options fit."""
    is_class = inspect.isclass(found)
    if is_class and not callable(getattr(found, "score", None)):
        raise ConfigError(f"scorer {name!r}: the class has no method score(items, outputs, memory)")
    try:
        inspect.signature(found).bind(*(() if is_class else (None, None)), **options)
    except (TypeError, ValueError) as error:
        takes = "" if is_class else "; a scorer function takes (item, output) and its options by name"
        raise ConfigError(f"scorer {name!r}: `scorer_options` do not fit: {error}{takes}") from error
    if not is_class:
        return _OfFunction(found, dict(options))
    try:
        return cast(Scorer, found(**options))
    except PsomergeError:
        raise
    except Exception as error:
        raise ConfigError(f"scorer {name!r}: cannot be made with these `scorer_options`: {_line(error)}") from error


@dataclass(frozen=True)
class _OfFunction:
    function: Callable[..., Any]
    options: Mapping[str, Any]

    def score(self, items: Sequence[Item], outputs: Sequence[str], memory: MutableMapping[str, str]) -> list[float]:
        return [self._one(item, output) for item, output in zip(items, outputs, strict=True)]

    def _one(self, item: Item, output: str) -> Any:
        try:
            return self.function(item, output, **self.options)
        except (PsomergeError, ScorerError):
            raise
        except Exception as error:
            raise ScorerError(f"benchmark {item.benchmark}: item {item.name}: {_line(error)}") from error


@dataclass(frozen=True)
class _Checked:
    """A scorer whose results are one finite number in [0, 1] for each item, or a ScorerError that says which is not."""

    scorer: Scorer
    name: str

    def score(self, items: Sequence[Item], outputs: Sequence[str], memory: MutableMapping[str, str]) -> list[float]:
        if len(items) != len(outputs):
            raise ValueError(
                f"scorer {self.name}: expected one output for each of {len(items)} items, found {len(outputs)}"
            )
        where = f"benchmark {items[0].benchmark}: " if items else ""
        try:
            values = list(self.scorer.score(items, outputs, memory))
        except ScorerError as error:
            raise ScorerError(f"scorer {self.name}: {error}") from error
        except PsomergeError:
            raise
        except Exception as error:
            raise ScorerError(f"scorer {self.name}: {where}{_line(error)}") from error
        if len(values) != len(items):
            raise ScorerError(
                f"scorer {self.name}: {where}expected {len(items)} numbers, one for each item, found {len(values)}"
            )
        return [self._number(value, item) for value, item in zip(values, items, strict=True)]

    def _number(self, value: Any, item: Item) -> float:
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:  # NaN is not either
            raise ScorerError(
                f"scorer {self.name}: benchmark {item.benchmark}: item {item.name}: expected a number in [0, 1], "
                f"found {value!r:.100}"
            )
        return float(value)


def _line(error: BaseException) -> str:
    """Type and text of an error of foreign code, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
