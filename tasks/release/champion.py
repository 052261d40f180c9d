"""How the present champion does on the test items: judged anew from the registry's copy, never taken from its card."""

import tempfile
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from pathlib import Path

from psomerge.checkpoint.pins import pin
from psomerge.errors import ArtefactError, VerificationError
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.harness import EvaluationSet
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.recipe import Recipe
from psomerge.tasks.release.delivery import deliver
from psomerge.tasks.release.registry import Version
from psomerge.tasks.tracking.store import Store

SPLIT = "test"


def judge_champion(
    store: Store,
    version: Version,
    build: Callable[[Path], EvaluationSet],
    *,
    engine: str,
    settings: EngineSettings,
    scratch: Path,
    memory: MutableMapping[str, str],
) -> tuple[BenchmarkScore, ...]:
    """Returns the scores of a registered version on the test items.

    Args:
        store: of the registry.
        version: the champion.
        build: makes the evaluation set for a model folder, with that model's own tokenizer.
        engine: kind.
        settings: as in the search; room for this model's own tokens is made.
        scratch: folder with room for a copy; nothing is left there.
        memory: of the run's scorers.

    Raises:
        ArtefactError: it holds no checkpoint.
        VerificationError: psomerge published it, and the registry's copy is not what was published.
        EngineError, FailedBenchmark: it cannot be judged.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="champion.", dir=scratch) as name:
        place = Path(name)
        try:
            model = deliver(store, version.uri, place) / "model"
        except (ArtefactError, VerificationError) as error:
            raise type(error)(f"the champion: {error}; move the alias to a sound version") from error
        evaluation_set = build(model)
        needed = replace(
            settings, max_model_len=max(settings.max_model_len, evaluation_set.longest + 1), tokenizer_from="base"
        )
        judge = SupervisedEngine({"base": model}, engine, needed, work=place / "engine", log=place / "engine.log")
        try:
            judge.put(SPLIT, evaluation_set.batch)
            return evaluation_set.score(judge.judge(Recipe(pin(model, "base", version.uri), ()), SPLIT), memory)
        finally:
            judge.close()
