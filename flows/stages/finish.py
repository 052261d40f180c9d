"""From finished searches to a registered, verified model and a report: the last steps of the main flow. Each can be
repeated after a crash."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psomerge import recipe as recipes
from psomerge.errors import EngineError, VerificationError
from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness import FailedBenchmark, build
from psomerge.evals.suites.fitness import missing
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.flows.stages.opening import Run
from psomerge.flows.stages.summarise import facts, rows_of, summarise
from psomerge.flows.stages.tracking import tell
from psomerge.merge.materialize import write_model
from psomerge.tasks.release import publish, registry
from psomerge.tasks.release.card import front_matter, model_card
from psomerge.tasks.release.champion import judge_champion
from psomerge.tasks.release.flavour import is_paired
from psomerge.tasks.release.promote import CHALLENGER, CHAMPION, Promotion, decide, promote
from psomerge.tasks.release.registry import Version
from psomerge.tasks.release.verify import Question, verify
from psomerge.tasks.report import figures
from psomerge.tasks.report import page as pages
from psomerge.tasks.report import summary as summaries
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.table import Outcome, Result, by_kind
from psomerge.tasks.tracking import run as track


def start_engine(run: Run) -> None:
    """Starts the engine, so that its time is not the first judgement's, and notes in the journal what it is."""
    with run.time("start engine"), run.progress.phase("starting the engine"):
        run.folder.journal.append({"kind": "engine", **asdict(run.engine.capabilities)})


def write(run: Run, outcome: Outcome) -> Path:
    """Returns the folder of the chosen model's checkpoint, which appears whole or not at all; one that an earlier
    process made stays."""
    folder = run.folder.path / "checkpoint"
    with run.time("write"):
        if folder.exists():
            return folder
        write_model(outcome.chosen, run.basis, folder)
        run.folder.journal.append({"kind": "written", "recipe": outcome.chosen.digest()})
    return folder


def ask_again(run: Run, outcome: Outcome) -> Answers:
    """Returns the engine's answers of the chosen model on the validation items, for comparison with the registered
    copy's; then ends the engine.

    Raises:
        VerificationError: they score otherwise than when the model was selected.
    """
    answers = run.judging.answers(outcome.chosen, "validation")
    run.peak_bytes = max(run.peak_bytes, answers.peak_bytes)
    key = run.judging.book.key(outcome.chosen, "validation")
    before = run.judging.book.find(outcome.chosen, "validation")
    if before is None or before.scores != run.sets["validation"].score(answers, run.judging.memory):
        raise VerificationError(
            f"the chosen model scores otherwise than before on the validation items (journal key {key[:12]}); the "
            "engine is not repeatable"
        )
    run.engine.close()  # its memory is needed for the verifying one
    return answers


def register(run: Run, tracking: track.Run, outcome: Outcome, table: Sequence[Result], checkpoint: Path) -> Version:
    """Returns the one version of this run in the registry; it bears no alias yet."""
    with run.time("register"):
        name, key, recipe = run.config.register_as.model, run.folder.key, outcome.chosen
        paired = is_paired(run.basis.base.config)
        card = model_card(recipe, rows_of(table), name=name, facts=facts(run), paired=paired)
        published = publish.lay_out(
            checkpoint, run.folder.path / "published", recipe=recipe, card=front_matter(paired=paired) + card
        )
        model_id = registry.upload(tracking, published, run_key=key, name=name)
        chosen = outcome.selections[0].chosen
        tags = {
            "psomerge.recipe": recipe.digest(),
            "psomerge.fitness": repr(chosen.judgement.fitness),
            "psomerge.suite": run.suite.name,
        }
        version = registry.register(tracking, name, run_key=key, model_id=model_id, tags=tags, description=card)
        tell(run, f"registered {version.uri}")
        return version


def verify_version(run: Run, version: Version, expected: Answers) -> None:
    """Returns if the registered copy, downloaded by a clean process, answers as the model that was judged. Raises
    VerificationError if not."""
    question = Question(run.sets["validation"].batch, expected, run.choice.kind, run.settings)
    with run.time("verify"), run.progress.phase("verifying the registered copy"):
        verify(run.store, version, question=question, scratch=run.folder.path / "verify")


def promote_version(run: Run, version: Version, table: Sequence[Result]) -> Promotion:
    """Returns what became of the verified version: challenger, and champion if it deserves to be, by paired tests on
    the test items."""
    with run.time("promote"):
        champion = registry.bearer(run.store, version.name, CHAMPION)
        if champion is not None and champion.version == version.version:
            champion = None  # a run that was interrupted after the alias was given
        decision = _decide(run, table, champion)
        return promote(run.store, version, decision=decision, compared_with=champion)


def _decide(run: Run, table: Sequence[Result], champion: Version | None) -> Promotion:
    result, base = by_kind(table, "search").get(run.searches[0].label), by_kind(table, "base").get("base")
    if result is None or base is None:
        failed = "the base" if result else "the model"
        return Promotion(False, f"{failed} could not be judged on the test items")
    experts = {label.removeprefix("expert "): one.test.scores for label, one in by_kind(table, "expert").items()}
    try:
        scores = None if champion is None else _champion_scores(run, champion)
    except (EngineError, FailedBenchmark, VerificationError) as error:
        return Promotion(False, f"the champion could not be judged: {error}")
    lacks = missing(run.suite, result.test.scores, run.judging.references(("test",)))
    return decide(result.test.scores, champion=scores, base=base.test.scores, experts=experts, lacks=lacks)


def _champion_scores(run: Run, champion: Version) -> tuple[BenchmarkScore, ...]:
    def evaluation_set(model: Path) -> Any:
        cache = run.home / "cache" / "datasets"
        return build(
            run.suite, "test", model, seed=run.config.seed, cache=cache, allow_task_code=run.config.allow_task_code
        )

    with run.progress.phase(f"judging the champion {champion.uri}"):
        scratch = run.folder.path / "verify"
        return judge_champion(
            run.store,
            champion,
            evaluation_set,
            engine=run.choice.kind,
            settings=run.settings,
            scratch=scratch,
            memory=run.judging.memory,
        )


def _write_particles(run: Run, outcome: Outcome) -> None:
    """Writes the recipe of every particle ever judged, for `psomerge materialize`."""
    folder = run.folder.path / "particles"
    folder.mkdir(exist_ok=True)
    for course in outcome.courses:
        for one in course.judged:
            name = f"{course.search.name}-step-{one.step + 1}-particle-{one.particle}.json"
            recipes.write(one.recipe, folder / name)


def report(
    run: Run,
    tracking: track.Run,
    outcome: Outcome,
    table: Sequence[Result],
    version: Version,
    promotion: Promotion,
    checkpoint: Path,
) -> dict[str, Any]:
    """Returns the result of the run after writing report and summary and logging them, and finishes the run's
    folder."""
    alias = CHAMPION if promotion.promoted else CHALLENGER
    with run.time("bookkeeping"):
        particles = [
            {
                "search": course.search.name,
                "step": number + 1,
                "particle": place,
                "coefficients": str(one.coefficients),
                "fitness": one.fitness,
                "stopped_at": one.bound,
                "failure": one.failure,
            }
            for course in outcome.courses
            for number, step in enumerate(course.history)
            for place, one in enumerate(step.particles)
        ]
        track.log_table(tracking, "particles", particles)
        _write_particles(run, outcome)
        track.log_file(tracking, checkpoint / "recipe.json")
        sound = [
            (one.label, traces.path_of(run.folder.path, run.judging.book.key(one.recipe, "test")))
            for one in table
            if one.test.fitness is not None
        ]
        track.log_table(tracking, "items-test", traces.together(sound, run.folder.report / "items-test.parquet"))
        track.log_file(tracking, run.folder.report / "items-test.parquet")
    summary = summarise(
        run,
        outcome,
        table,
        summaries.Registration(version.name, version.version, alias, promotion.promoted, promotion.reason),
    )
    summaries.write(summary, run.folder.report / "summary.json")
    page = pages.write(summary, run.folder.report)
    for name, draw in (
        ("fitness", figures.fitness_figure),
        ("coefficients", figures.coefficients_figure),
        ("languages", figures.languages_figure),
    ):
        track.log_figure(tracking, name, draw(summary))
    track.log_file(tracking, page)
    row = summary.row(summary.result)
    result = {
        "run": run.folder.key,
        "recipe": str(checkpoint / "recipe.json"),
        "checkpoint": str(checkpoint),
        "model_uri": version.uri,
        "version": version.version,
        "alias": alias,
        "promoted": promotion.promoted,
        "reason": promotion.reason,
        "tracking_uri": run.store.address,
        "report": str(page),
        "summary": str(run.folder.report / "summary.json"),
        "scores": {one.label: None if one.mean is None else asdict(one.mean) for one in summary.rows},
        "test": None if row is None or row.mean is None else row.mean.mean,
        "coefficients": recipes.read(checkpoint / "recipe.json").coefficients,
    }
    run.folder.finish(result)
    return result
