"""Scorers by name: whose code may run, what fits, and that no number outside [0, 1] comes through."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from psomerge.errors import ConfigError, ServiceError
from psomerge.evals.scorers import Item, ScorerError, load_scorer

pytestmark = pytest.mark.heavy

ITEMS = [Item("toy", "so", name, {"text": name}, f"Say {name}.", name) for name in ("one", "two")]

MODULE = """
import numpy as np

def equal(item, output, *, weight=1.0):
    return weight * (output == item.reference)

def tensor(item, output):
    return np.float32(0.5)

def broken(item, output):
    return {"one": 0.5, "two": eval(output)}[item.name]

class Length:
    def __init__(self, most):
        if most < 1:
            raise ValueError("most must be positive")
        self.most = most

    def score(self, items, outputs, memory):
        memory["seen"] = str(len(items))
        return [min(1, len(output) / self.most) for output in outputs]

class Short:
    def score(self, items, outputs, memory):
        return [1.0]

class NoScorer:
    pass

number = 3
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder to start from, with a module of the user's; what a test adds to the interpreter is taken away again."""
    (tmp_path / "toy_metrics.py").write_text(MODULE)
    (tmp_path / "toy_broken.py").write_text("import no_such_library\n")
    (tmp_path / "toy_raising.py").write_text("raise RuntimeError('two\\nlines')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]


def score(
    name: str, outputs: Sequence[str] = ("one", "2"), memory: dict[str, str] | None = None, **options: Any
) -> list[float]:
    return load_scorer(name, options, allowed=True).score(ITEMS, outputs, {} if memory is None else memory)


def test_a_function_beside_where_psomerge_is_started_scores_each_item() -> None:
    assert score("toy_metrics:equal") == [1.0, 0.0]
    assert score("toy_metrics:equal", weight=0.25) == [0.25, 0.0]


def test_a_number_of_numpy_s_is_a_number_and_leaves_as_python_s() -> None:
    values = score("toy_metrics:tensor")
    assert values == [0.5, 0.5]
    assert [type(value) for value in values] == [float, float]


def test_a_class_is_made_with_the_options_and_gets_the_memory() -> None:
    memory: dict[str, str] = {}
    assert score("toy_metrics:Length", ("ab", ""), memory, most=4) == [0.5, 0.0]
    assert memory == {"seen": "2"}


def test_a_file_in_the_current_folder_does_not_take_the_place_of_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not this one')\n")
    score("toy_metrics:tensor")
    assert sys.path[-1] == str(tmp_path)
    assert np.float32(1) == 1


def test_code_that_is_not_psomerge_s_needs_leave_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "toy_trap.py").write_text("raise SystemExit('imported')\n")
    with pytest.raises(ConfigError, match="allow_task_code"):
        load_scorer("toy_trap:anything", {}, allowed=False)


def test_a_shipped_scorer_needs_no_leave() -> None:
    assert load_scorer("psomerge.evals.scorers.language:InLanguage", {"language": "en"}, allowed=False).score(
        ITEMS, ["This is a sentence in English.", ""], {}
    ) == [
        1.0,
        0.0,
    ]


@pytest.mark.parametrize(
    "name", ["loading:importlib", "loading:_OfFunction", "language:Path", "identifiers:Callable", "comet:subprocess"]
)
def test_what_a_shipped_module_only_imports_is_no_way_around_the_leave(name: str) -> None:
    with pytest.raises(ConfigError, match="has no"):
        load_scorer(f"psomerge.evals.scorers.{name}", {}, allowed=False)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("toy_metrics", {}, "package.module:name"),
        ("toy_metrics:eqal", {}, "did you mean equal?"),
        (
            "toy_metrcs:equal",
            {},
            "no module toy_metrcs; it must be installed, or lie in the folder where you start psomerge",
        ),
        ("psomerge.evals.scorers.languag:InLanguage", {}, "did you mean psomerge.evals.scorers.language?"),
        ("psomerge.evals.scorers.language:InLanguag", {}, "did you mean InLanguage?"),
        ("toy_broken:equal", {}, "needs no_such_library, which is not installed"),
        ("toy_raising:equal", {}, "RuntimeError: two lines"),
        ("toy_metrics:number", {}, "expected a class or a function, found int"),
        ("toy_metrics:NoScorer", {}, "no method score"),
        ("toy_metrics:equal", {"wieght": 1}, "unexpected keyword argument 'wieght'"),
        ("toy_metrics:Length", {}, "missing a required argument: 'most'"),
        ("toy_metrics:Length", {"most": 0}, "ValueError: most must be positive"),
    ],
)
def test_what_cannot_be_a_scorer_is_said_when_the_suite_is_loaded(
    name: str, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scorer(name, options, allowed=True)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("float('nan')", "found nan"),
        ("1.5", r"expected a number in \[0, 1\], found 1.5"),
        ("-0.1", "found -0.1"),
        ("'0.5'", "found '0.5'"),
        ("None", "found None"),
        ("float('inf')", "found inf"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_score_names_scorer_benchmark_and_item(output: str, text: str) -> None:
    with pytest.raises(ScorerError, match=rf"scorer toy_metrics:broken: benchmark toy: item two: .*{text}"):
        score("toy_metrics:broken", ("1", output))


def test_a_scorer_that_loses_an_item_is_caught() -> None:
    with pytest.raises(ScorerError, match="expected 2 numbers, one for each item, found 1"):
        score("toy_metrics:Short")


def test_a_service_that_is_away_stays_a_service_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "toy_away.py").write_text(
        "from psomerge.errors import ServiceError\ndef away(item, output):\n    raise ServiceError('away')\n"
    )
    with pytest.raises(ServiceError, match=r"^away$"):
        score("toy_away:away")
