"""COMET by an interpreter of its own: a stand-in package with COMET's functions takes its place."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from psomerge.errors import ConfigError, ServiceError
from psomerge.evals.scorers import Item, ScorerError
from psomerge.evals.scorers.comet import Comet

pytestmark = pytest.mark.heavy

STAND_IN = """
import json, pathlib, types
LOG = pathlib.Path(__file__).with_name("log.jsonl")
print("COMET talks while it is imported")

def download_model(name):
    return "checkpoint of " + name

def load_from_checkpoint(path):
    class Model:
        def predict(self, data, batch_size=16, gpus=1, progress_bar=True):
            print("and while it predicts")
            with LOG.open("a") as log:
                log.write(json.dumps([path, batch_size, gpus, data]) + "\\n")
            return types.SimpleNamespace(scores=[SCORE(row) for row in data], system_score=0.5)
    return Model()
"""
ITEMS = [
    Item("flores", "so", name, {"sentence": name, "id": 3}, f"Translate {name}.", f"ref {name}")
    for name in ("a", "b", "c", "d")
]


def interpreter(folder: Path, score: str = "0.5", package: bool = True) -> str:
    """A `python` that finds the stand-in, whatever the environment of the caller says."""
    if package:
        (folder / "comet").mkdir()
        (folder / "comet" / "__init__.py").write_text(STAND_IN.replace("SCORE(row)", score))
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" -W ignore "$@"\n')
    script.chmod(0o755)
    return str(script)


def asked(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "comet" / "log.jsonl").read_text().splitlines()]


def score(comet: Comet, outputs: Sequence[str], memory: dict[str, str]) -> list[float]:
    return comet.score(ITEMS[: len(outputs)], outputs, memory)


def test_sources_translations_and_references_go_in_and_scores_come_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path, "len(row['mt']) / 10"))
    comet = Comet("sentence", batch_size=4)
    assert score(comet, ["xxx", "x", "xx"], {}) == [0.3, 0.1, 0.2]
    ((checkpoint, batch_size, gpus, data),) = asked(tmp_path)
    assert (checkpoint, batch_size, gpus) == ("checkpoint of Unbabel/wmt22-comet-da", 4, 0)
    assert data[1] == {"src": "b", "mt": "x", "ref": "ref b"}


def test_scores_are_cut_to_0_and_1_and_nothing_scores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path, "{'high': 1.02, 'low': -0.1}[row['mt']]"))
    assert score(Comet("sentence"), ["high", "low", " \n"], {}) == [1.0, 0.0, 0.0]


def test_the_source_may_be_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path))
    score(Comet("{{ sentence | upper }} ({{ id }})"), ["x"], {})
    assert asked(tmp_path)[0][3][0]["src"] == "A (3)"


def test_what_the_memory_holds_does_not_start_comet_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path, "0.1 + 0.2"))
    memory: dict[str, str] = {}
    assert (
        score(Comet("sentence"), ["x", "y"], memory) == score(Comet("sentence"), ["x", "y"], memory) == [0.1 + 0.2] * 2
    )
    score(Comet("sentence"), ["x", "z"], memory)
    assert [[row["mt"] for row in data] for *_, data in asked(tmp_path)] == [["x", "y"], ["z"]]


def test_without_comet_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PSOMERGE_COMET_PYTHON", raising=False)
    with pytest.raises(ConfigError, match=r"environment of its own.*pip install unbabel-comet"):
        Comet("sentence")
    for python, text in (
        (str(tmp_path / "absent"), "cannot start"),
        (interpreter(tmp_path, package=False), "has no COMET"),
    ):
        monkeypatch.setenv("PSOMERGE_COMET_PYTHON", python)
        with pytest.raises(ConfigError, match=rf"{text}.*pip install unbabel-comet"):
            Comet("sentence")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("float('nan')", "expected 1 finite scores"),
        ("exec('raise KeyError(\"not supported by COMET\")')", "not supported by COMET"),
    ],
)
def test_what_goes_wrong_in_comet_is_one_line(
    code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path, code))
    with pytest.raises(ServiceError, match=text) as caught:
        score(Comet("sentence"), ["x"], {})
    assert "\n" not in str(caught.value)


def test_a_comet_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path, "__import__('time').sleep(60)"))
    with pytest.raises(ServiceError, match="within 2 s"):
        score(Comet("sentence", timeout=2), ["x"], {})


def test_a_checkpoint_of_somebody_else_s_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path))
    with pytest.raises(ConfigError, match="can run code"):
        Comet("sentence", model="somebody/comet")


def test_a_wrong_source_and_a_reference_that_is_no_text_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSOMERGE_COMET_PYTHON", interpreter(tmp_path))
    for source in ("sentense", "{{ sentense }}"):
        with pytest.raises(
            ConfigError, match=r"benchmark flores: `source` .* does not fit its documents \(sentence, id\)"
        ):
            score(Comet(source), ["x"], {})
    with pytest.raises(ScorerError, match="item a: expected a reference translation, found 2"):
        Comet("sentence").score([Item("flores", "so", "a", {"sentence": "a"}, "", 2)], ["x"], {})
