"""Is the registered version the model that was judged? Asked by a clean process that knows only the registry.

It downloads the version, compares every file with the manifest, has a fresh engine on the downloaded weights judge the
validation items in the search's order, and plain transformers answer some of them. Run as
`python -m psomerge.tasks.release.verify FOLDER`: `FOLDER/question.json` goes in, `FOLDER/answer.json` comes out.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from psomerge import errors
from psomerge.checkpoint.pins import pin
from psomerge.errors import PsomergeError, ServiceError, VerificationError
from psomerge.evals.engines.engine import Answers, Batch, EngineSettings, Judge
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.recipe import Recipe
from psomerge.tasks.release import consumer as plain
from psomerge.tasks.release import publish, registry
from psomerge.tasks.release.registry import Version
from psomerge.tasks.secrets import redact
from psomerge.tasks.tracking.store import Store

TAG = "verification"
BATCH = "validation"
TEXTS = 0.05
"""Share of free texts that may differ where the engine is not exact: a text shows no margin to excuse it."""


@dataclass(frozen=True)
class Question:
    """What the answers of a version must be, and how to ask for them."""

    batch: Batch
    expected: Answers
    engine: str
    """`vllm` or `transformers`: what judged the search."""
    settings: EngineSettings
    """The search's. The tokenizer is the downloaded one, whatever `tokenizer_from` says."""
    tolerance: float = 0.05
    """Natural-log margin below which an engine that is not exact may answer an item differently; exact engines get
    none."""


def verify(store: Store, version: Version, *, question: Question, scratch: Path, seconds: float = 3600.0) -> None:
    """Tags the version `verification=passed`, or `failed` and takes its aliases away.

    Args:
        scratch: Folder for this alone, with room for one copy of the model: emptied before, removed after.
        seconds: Deadline of the whole check.

    Raises:
        VerificationError: files or answers differ.
        PsomergeError: of any other class if the check could not be made; the version is not tagged then.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        asked = {"tracking_uri": store.tracking_uri, "uri": version.uri, **asdict(question)}
        descriptor = os.open(
            scratch / "question.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )  # the address may hold a password
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asked, file)
        answer = _ask(scratch, version, seconds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if "error" in answer:
        raise getattr(errors, answer["error"], PsomergeError)(answer["text"])
    problems = answer["problems"]
    if "answers" in answer:
        problems = differences(question, msgspec.convert(answer["answers"], Answers), exact=answer["exact"]) + problems
    registry.tag(store, version, {TAG: "failed" if problems else "passed"})
    if problems:
        registry.withdraw(store, version)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VerificationError(
            f"{version.uri} is not the model that was judged: {problems[0]}{more}; it keeps no alias, publish it again"
        )


def _ask(folder: Path, version: Version, seconds: float) -> dict[str, Any]:
    """Returns the clean process's answer. Its process group is ended if the deadline passes."""
    with (folder / "log").open("wb") as log:
        # -P and the working folder: modules come from the installation alone.
        command = [sys.executable, "-P", "-m", "psomerge.tasks.release.verify", str(folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, start_new_session=True
        ) as child:
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired as error:
                raise ServiceError(
                    f"{version.uri}: no verification within {seconds:.0f} s; see whether registry and engine answer, "
                    "then repeat the command"
                ) from error
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
    result = folder / "answer.json"
    if not result.exists():
        tail = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise PsomergeError(
            f"{version.uri}: the verifying process ended with status {child.returncode} and no answer: "
            f"{redact(''.join(tail))}"
        )
    return json.loads(result.read_text(encoding="utf-8"))


def answer(
    asked: Mapping[str, Any],
    folder: Path,
    judge: Callable[[Path], Judge],
    consumer: Callable[[Path, str], list[str]],
) -> dict[str, Any]:
    """Returns the child's answer: `problems` of the files, or `answers` of a judge on the downloaded weights, whether
    it is `exact`, and the `problems` of a consumer.

    Args:
        asked: the question, and where to find the version.
        folder: to work in.
        judge: of a model's folder.
        consumer: tells, for a model's folder and the dtype that was computed in, what plain transformers answers
            otherwise.
    """
    target = folder / "download"
    target.mkdir()
    published = registry.download(Store(asked["tracking_uri"]), asked["uri"], target)
    if problems := publish.misfits(published):
        return {"problems": problems}
    model = published / "model"
    engine = judge(model)
    try:
        engine.put(BATCH, msgspec.convert(asked["batch"], Batch))
        # The base alone is the downloaded model: there are no experts to add.
        answers = engine.judge(Recipe(base=pin(model, "base", asked["uri"]), experts=()), BATCH)
        found = {"answers": asdict(answers), "exact": engine.capabilities.exact}
        dtype = engine.capabilities.dtype
    finally:
        engine.close()
    return found | {"problems": consumer(model, dtype)}


def differences(question: Question, found: Answers, *, exact: bool) -> list[str]:
    """Returns in what answers differ from those expected, one line each.

    An exact engine must give equal bits. Another one must choose the same continuation of each context, but where the
    expected margin is below the tolerance; a continuation without rivals must lie within the tolerance; and all but a
    small share of the texts must be equal.
    """
    expected = question.expected
    if (len(found.loglikelihood), len(found.generation)) != (len(expected.loglikelihood), len(expected.generation)):
        return [
            f"expected {len(expected.loglikelihood)} + {len(expected.generation)} answers, found "
            f"{len(found.loglikelihood)} + {len(found.generation)}"
        ]
    texts = [
        f"text {n}: expected {a!r}, found {b!r}"
        for n, (a, b) in enumerate(zip(expected.generation, found.generation, strict=True))
        if a != b
    ]
    if exact:
        pairs = zip(expected.loglikelihood, found.loglikelihood, strict=True)
        return [
            f"log-likelihood {n}: expected {a.logprob!r}, found {b.logprob!r}"
            for n, (a, b) in enumerate(pairs)
            if a != b
        ] + texts
    problems = texts if len(texts) > TEXTS * len(expected.generation) else []
    for _, group in groupby(
        range(len(question.batch.loglikelihood)), key=lambda n: question.batch.loglikelihood[n].context
    ):
        indices = list(group)
        before, after = ([answers.loglikelihood[n].logprob for n in indices] for answers in (expected, found))
        # Written so that NaN, which is not below anything, is a difference.
        if not plain.apart(before, after) <= question.tolerance or any(value != value for value in after):
            problems.append(
                f"log-likelihoods {indices[0]} to {indices[-1]}: expected {before}, found {after}, beyond a "
                f"tolerance of {question.tolerance}"
            )
    return problems


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def main(folder: Path) -> None:
    """Reads the question in `folder`, writes the answer there, whole or not at all. Ends at once when the parent is
    gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asked = json.loads((folder / "question.json").read_text(encoding="utf-8"))

    def judge(model: Path) -> Judge:
        settings = EngineSettings(**asked["settings"] | {"tokenizer_from": "base"})
        return SupervisedEngine(
            {"base": model}, asked["engine"], settings, work=folder / "engine", log=folder / "engine.log"
        )

    def consumer(model: Path, dtype: str) -> list[str]:
        batch, expected = msgspec.convert(asked["batch"], Batch), msgspec.convert(asked["expected"], Answers)
        return plain.differences(model, batch, expected, dtype=dtype, threads=asked["settings"]["threads"])

    try:
        content = answer(asked, folder, judge, consumer)
    except PsomergeError as error:
        kind = next(one.__name__ for one in type(error).__mro__ if hasattr(errors, one.__name__))
        content = {"error": kind, "text": str(error)}
    partial = folder / "answer.part"
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.rename(folder / "answer.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
