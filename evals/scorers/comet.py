"""COMET, a learned metric of translations, run in an environment of its own.

It cannot share ours: unbabel-comet 2.2.7, its newest, wants transformers < 5, huggingface-hub < 1, numpy < 2 and
protobuf < 5, and all that judges here is on later ones. So it is installed apart, once, and the environment variable
PSOMERGE_COMET_PYTHON names the interpreter there:

    python3.11 -m venv comet && comet/bin/pip install unbabel-comet && export
    PSOMERGE_COMET_PYTHON=$PWD/comet/bin/python

Each call starts that interpreter and loads the model: seconds to a minute, so it suits a comparison of finished models
better than a search.
"""

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError, ServiceError
from psomerge.evals.scorers.scorer import Item, ScorerError
from psomerge.files.digest import digest_of

PYTHON = "PSOMERGE_COMET_PYTHON"
WORKER = Path(__file__).with_name("comet_worker.py")
INSTALL = f"python3.11 -m venv comet && comet/bin/pip install unbabel-comet && export {PYTHON}=$PWD/comet/bin/python"


class Comet:
    """The scorer `psomerge.evals.scorers.comet:Comet`."""

    def __init__(
        self,
        source: str,
        model: str = "Unbabel/wmt22-comet-da",
        batch_size: int = 16,
        gpus: int = 0,
        timeout: float = 3600,
    ) -> None:
        """Looks whether COMET is there.

        Args:
            source: field of the documents, or Jinja template over them, with the text that was to be translated.
            model: name on the hub, of Unbabel's: a checkpoint is a pickle, so one of somebody else's would be code.
            batch_size: translations at once.
            gpus: 0 for the processor; judging has the GPU for itself.
            timeout: for one call, in seconds, the download of the model at the first one included.

        Raises:
            ConfigError: no COMET in the environment that PSOMERGE_COMET_PYTHON names, or a model that is not Unbabel's.
        """
        if not model.startswith("Unbabel/"):
            raise ConfigError(
                f"COMET: expected one of Unbabel's models, such as Unbabel/wmt22-comet-da, found {model!r}: a "
                "checkpoint can run code"
            )
        self._python = os.environ.get(PYTHON, "")
        if not self._python:
            raise ConfigError(
                f"COMET needs an environment of its own, its requirements contradict ours; install it: {INSTALL}"
            )
        self._render, self._model = _renderer(source), model
        self._settings = {"batch_size": batch_size, "gpus": gpus}
        self._timeout = timeout
        self._run(
            ["-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('comet') is None)"],
            "",
            ConfigError,
            f"has no COMET; install it: {INSTALL}",
        )

    def score(self, items: Sequence[Item], outputs: Sequence[str], memory: MutableMapping[str, str]) -> list[float]:
        """Returns COMET's score of each translation, cut to [0, 1] (wmt22-comet-da's lie there but for rounding); an
        empty output gets 0.

        Args:
            items: (N,) documents with the source, reference translations; of several references the first counts.
            outputs: (N,) translations.
            memory: scores by digest of model and texts.

        Raises:
            ScorerError: an item whose reference is no text.
            ConfigError: documents without the source.
            ServiceError: COMET fails or takes too long, e.g. as its model cannot be downloaded.

        Source: Rei et al., WMT 2022 (COMET-22); the 0 for nothing: Zouhar et al., WMT 2024, "Pitfalls and Outlooks in
            Using COMET", where models give an
        empty translation a fair score.
        """
        texts = {
            place: {"src": self._render(item), "mt": output, "ref": _reference(item)}
            for place, (item, output) in enumerate(zip(items, outputs, strict=True))
            if output.strip()
        }
        keys = {place: digest_of([self._model, text]) for place, text in texts.items()}
        missing = {key: texts[place] for place, key in keys.items() if key not in memory}
        if missing:
            memory.update(zip(missing, map(repr, self._predict(list(missing.values()))), strict=True))
        return [min(1.0, max(0.0, float(memory[keys[place]]))) if place in keys else 0.0 for place in range(len(items))]

    def _predict(self, data: list[dict[str, str]]) -> list[float]:
        request = json.dumps({"model": self._model, "data": data, **self._settings})
        answer = self._run([str(WORKER)], request, ServiceError, f"fails to run {self._model}")
        try:
            scores = [float(score) for score in json.loads(answer)]
        except (ValueError, TypeError) as error:
            raise ServiceError(f"COMET: expected scores from {self._python}, found {answer[:100]!r}") from error
        if len(scores) != len(data) or not all(map(math.isfinite, scores)):
            raise ServiceError(
                f"COMET: expected {len(data)} finite scores from {self._python}, found {len(scores)}: {scores[:3]}"
            )
        return scores

    def _run(self, arguments: Sequence[str], given: str, kind: type[ConfigError | ServiceError], failing: str) -> str:
        """Standard output of COMET's interpreter, which sees nothing of ours: no module path, no current folder."""
        environment = {
            key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        }
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(
                    [str(Path(self._python).absolute()), *arguments],
                    input=given,
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    encoding="utf-8",
                    errors="replace",
                    timeout=self._timeout,
                )
            except OSError as error:
                raise ConfigError(
                    f"COMET: cannot start {self._python}, which {PYTHON} names ({error.strerror}); install it: "
                    f"{INSTALL}"
                ) from error
            except subprocess.TimeoutExpired as error:
                raise ServiceError(
                    f"COMET: no answer from {self._python} within {self._timeout:g} s; raise `timeout`, or set `gpus`"
                ) from error
        if done.returncode:
            last = next(
                (line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()),
                f"exit code {done.returncode}",
            )
            raise kind(f"COMET: {self._python} {failing} ({last[:300]})")
        return done.stdout


def _renderer(pattern: str) -> Callable[[Item], str]:
    """A function from an item to its source text; a template runs where it can reach no code: a suite is data."""
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    template = SandboxedEnvironment(undefined=StrictUndefined).from_string(pattern) if "{{" in pattern else None

    def render(item: Item) -> str:
        document: Mapping[str, Any] = item.document
        try:
            return str(document[pattern]) if template is None else template.render(**document)
        except (KeyError, TemplateError) as error:
            raise ConfigError(
                f"COMET: benchmark {item.benchmark}: `source` {pattern!r} does not fit its documents "
                f"({', '.join(document)}): {error}"
            ) from error

    return render


def _reference(item: Item) -> str:
    reference = item.reference[0] if isinstance(item.reference, list | tuple) and item.reference else item.reference
    if not isinstance(reference, str):
        raise ScorerError(
            f"benchmark {item.benchmark}: item {item.name}: expected a reference translation, found {reference!r:.100}"
        )
    return reference
