"""The main flow: experts in, a verified and registered merged checkpoint out. It reads like the method; the work is in
`tasks`."""

from typing import Any

from prefect import flow

from psomerge.flows.config.loading import load_config
from psomerge.flows.environment.home import home_folder, prepare
from psomerge.flows.stages import finish
from psomerge.flows.stages.opening import Run, open_run
from psomerge.flows.stages.tracking import tell_sparsified, tell_step, tracked
from psomerge.flows.terminal.progress import Progress
from psomerge.search.search import Search, first_points
from psomerge.tasks.experts.sparsify import sparsify
from psomerge.tasks.search.baselines import tune
from psomerge.tasks.search.select import rerank
from psomerge.tasks.search.steps import Course, ask_step, begin, judge_step, observe_step
from psomerge.tasks.search.table import Outcome, judge_results
from psomerge.tasks.step import cancellable, step
from psomerge.tasks.tracking import run as track


@flow(name="psomerge merge", flow_run_name="{config}", persist_result=False, validate_parameters=False)
@cancellable
def merge(config: str, overrides: list[str]) -> dict[str, Any]:
    """Returns the run's result; a finished run's is read, an unfinished run goes on.

    Args:
        config: a shipped config's name, or a path.
        overrides: `key.key=value` each.

    Raises:
        PsomergeError: as the command line reports it.
    """
    settings = load_config(config, overrides)
    with Progress() as progress, open_run(settings, prepare(home_folder()), progress) as run:
        if finished := run.folder.result():
            progress.say("this run is finished: nothing is judged or registered again")
            return finished
        with tracked(run) as tracking:
            run.monitor.begin_judgements()
            step("start engine", finish.start_engine, run)
            step("sparsify", _sparsify, run)
            courses = [_search(run, search, tracking) for search in run.inputs.searches]
            selections = [
                step(f"re-rank {one.search.name}", rerank, one, run.judging, run.inputs.rerank) for one in courses
            ]
            tuned = [step(f"tune {one}", tune, one, run.inputs.recipe, run.judging) for one in run.inputs.baselines]
            outcome = Outcome(tuple(courses), tuple(selections), tuple(one for one in tuned if one))
            checkpoint = step("write", finish.write, run, outcome)
            table = step("test", judge_results, outcome, run.judging)
            expected = step("ask again", finish.ask_again, run, outcome)
            version = step("register", finish.register, run, tracking, outcome, table, checkpoint)
            step("verify", finish.verify_version, run, version, expected)
            promotion = step("promote", finish.promote_version, run, version, table)
            return step("report", finish.report, run, tracking, outcome, table, version, promotion, checkpoint)


def _search(run: Run, search: Search, tracking: track.MlflowRun) -> Course:
    """One search: judge what it asks for, tell it what was observed, move on; nothing is asked after the last step."""
    course = begin(search, run.inputs.recipe)
    for number in range(1, search.steps + 1):
        name = f"{search.name} step {number}"
        judgements = step(f"{name}: judge", judge_step, course, run.judging)
        course = step(f"{name}: observe", observe_step, course, judgements)
        tell_step(run, tracking, course, judgements)
        if number < search.steps:
            course = step(f"{name}: move", ask_step, course)
    return course


def _sparsify(run: Run) -> None:
    recipe, found = run.inputs.recipe, run.inputs.searches
    n = len(recipe.experts)
    if any(first_points(one, n).shape[-1] > n for one in found):
        tell_sparsified(run, sparsify(run.inputs.basis, recipe.drop_rate, recipe.mask_seed))
    else:
        run.monitor.say(f"sparsify: the {found[0].title} uses no sparsified directions")
