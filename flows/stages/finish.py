"""From finished searches to a registered, verified model and a report: the last steps of the main flow. Each can be
repeated after a crash."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psomerge.evals.engines.engine import Answers
from psomerge.evals.suites.fitness import missing
from psomerge.flows.stages.opening import Run
from psomerge.merge.materialize import write_model
from psomerge.tasks.release import publish, registry
from psomerge.tasks.release.card import front_matter, model_card
from psomerge.tasks.release.champion import judge_champion
from psomerge.tasks.release.flavour import is_paired
from psomerge.tasks.release.promote import Promotion, Scores, contend
from psomerge.tasks.release.registry import Version
from psomerge.tasks.release.verify import Question, verify
from psomerge.tasks.report import figures
from psomerge.tasks.report import page as pages
from psomerge.tasks.report import summary as summaries
from psomerge.tasks.report.rows import particle_rows, result_rows
from psomerge.tasks.report.summarise import facts, summarise
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.table import Outcome, Result
from psomerge.tasks.tracking import run as track


def start_engine(run: Run) -> None:
    """Starts the engine, so that its time is not the first judgement's, and notes in the journal what it is."""
    with run.monitor.time("start engine"), run.monitor.progress.phase("starting the engine"):
        run.folder.journal.append({"kind": "engine", **asdict(run.engine.capabilities)})


def write(run: Run, outcome: Outcome) -> Path:
    """Returns the folder of the chosen model's checkpoint, which appears whole or not at all; one that an earlier
    process made stays."""
    folder = run.folder.path / "checkpoint"
    with run.monitor.time("write"):
        if not folder.exists():
            write_model(outcome.chosen, run.inputs.basis, folder)
            run.folder.journal.append({"kind": "written", "recipe": outcome.chosen.digest()})
    return folder


def ask_again(run: Run, outcome: Outcome) -> Answers:
    """Returns the engine's answers of the chosen model on the validation items, for comparison with the registered
    copy's; then ends the engine. Raises VerificationError as `Judging.ask_again`."""
    answers = run.judging.ask_again(outcome.chosen, "validation")
    run.monitor.peak_bytes = max(run.monitor.peak_bytes, answers.peak_bytes)
    run.engine.close()  # its memory is needed for the verifying one
    return answers


def register(
    run: Run, tracking: track.MlflowRun, outcome: Outcome, table: Sequence[Result], checkpoint: Path
) -> Version:
    """Returns the one version of this run in the registry; it bears no alias yet."""
    with run.monitor.time("register"):
        name, key, recipe = run.config.register_as.model, run.folder.key, outcome.chosen
        paired = is_paired(run.inputs.basis.base.config)
        card = model_card(recipe, result_rows(table), name=name, facts=facts(key, run.inputs), paired=paired)
        published = publish.lay_out(
            checkpoint, run.folder.path / "published", recipe=recipe, card=front_matter(paired=paired) + card
        )
        files = registry.run_for_files(tracking, run.config.register_as.experiment, run_key=key, name=name)
        model_id = registry.upload(files, published, run_key=key, name=name)
        tags = {
            "psomerge.recipe": recipe.digest(),
            "psomerge.fitness": repr(outcome.selections[0].chosen.judgement.fitness),
            "psomerge.suite": run.inputs.suite.name,
        }
        version = registry.register(files, name, run_key=key, model_id=model_id, tags=tags, description=card)
        run.monitor.say(f"registered {version.uri}")
        return version


def verify_version(run: Run, version: Version, expected: Answers) -> None:
    """Returns if the registered copy, downloaded by a clean process, answers as the model that was judged. Raises
    VerificationError if not."""
    question = Question(run.inputs.sets["validation"].batch, expected, run.choice.kind, run.settings)
    with run.monitor.time("verify"), run.monitor.progress.phase("verifying the registered copy"):
        verify(run.store, version, question=question, scratch=run.folder.path / "verify")


def promote_version(run: Run, version: Version, table: Sequence[Result]) -> Promotion:
    """Returns what became of the verified version: challenger, and champion if it deserves to be."""

    def judge(champion: Version) -> Scores:
        with run.monitor.progress.phase(f"judging the champion {champion.uri}"):
            return judge_champion(
                run.store,
                champion,
                run.test_items,
                engine=run.choice.kind,
                settings=run.settings,
                scratch=run.folder.path / "verify",
                memory=run.judging.memory,
            )

    def lacks(scores: Scores) -> dict[str, float]:
        return missing(run.inputs.suite, scores, run.judging.references(("test",)))

    with run.monitor.time("promote"):
        return contend(run.store, version, table, run.inputs.searches[0].label, lacks=lacks, judge=judge)


def report(
    run: Run,
    tracking: track.MlflowRun,
    outcome: Outcome,
    table: Sequence[Result],
    version: Version,
    promotion: Promotion,
    checkpoint: Path,
) -> dict[str, Any]:
    """Returns the result of the run after writing report and summary and logging them, and finishes the run's
    folder."""
    folder = run.folder.report
    with run.monitor.time("bookkeeping"):
        track.log_table(tracking, "particles", particle_rows(outcome.courses))
        outcome.write_recipes(run.folder.path / "particles")
        track.log_file(tracking, checkpoint / "recipe.json")
        sound = [
            (one.label, traces.path_of(run.folder.path, run.judging.book.key(one.recipe, "test")))
            for one in table
            if one.test.fitness is not None
        ]
        track.log_table(tracking, "items-test", traces.together(sound, folder / "items-test.parquet"))
        track.log_file(tracking, folder / "items-test.parquet")
        beside = {label: traces.beside([file]) for label, file in sound}
    registration = summaries.Registration(
        version.name, version.version, promotion.alias, promotion.promoted, promotion.reason
    )
    summary = summarise(
        run.folder.key,
        run.inputs,
        outcome,
        table,
        choice=run.choice,
        capabilities=run.engine.capabilities,
        costs=run.monitor.costs,
        registration=registration,
    )
    summaries.write(summary, folder / "summary.json")
    page = pages.write(summary, folder)
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
        "alias": promotion.alias,
        "promoted": promotion.promoted,
        "reason": promotion.reason,
        "tracking_uri": run.store.address,
        "registry_uri": run.store.registry,
        "report": str(page),
        "summary": str(folder / "summary.json"),
        "scores": {one.label: None if one.mean is None else asdict(one.mean) for one in summary.rows},
        "test": None if row is None or row.mean is None else row.mean.mean,
        "beside": {label: others for label, others in beside.items() if others},
        "coefficients": outcome.chosen.coefficients,
    }
    run.folder.finish(result)
    return result
