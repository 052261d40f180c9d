"""The main flow: experts in, a verified and registered merged checkpoint out. It reads like the method; the work is in
`tasks`."""

from typing import Any

from prefect import flow

from psomerge.flows.config.loading import load_config
from psomerge.flows.environment.home import home_folder, prepare
from psomerge.flows.stages import finish
from psomerge.flows.stages.opening import Run, open_run
from psomerge.flows.stages.tracking import tell, tell_sparsified, tell_step, tracked
from psomerge.flows.terminal.progress import Progress
from psomerge.search.pso import Update
from psomerge.tasks.experts.sparsify import sparsify
from psomerge.tasks.search.baselines import tune
from psomerge.tasks.search.select import rerank
from psomerge.tasks.search.steps import Search, begin, judge_step, move_step, observe_step
from psomerge.tasks.search.table import Outcome, judge_results
from psomerge.tasks.step import Bar, step
from psomerge.tasks.tracking import run as track


@flow(name="psomerge merge", flow_run_name="{config}", persist_result=False, validate_parameters=False)
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
            run.bar = Bar("judgements", "judgements made, of all that the run may ask for")
            step("start engine", finish.start_engine, run)
            step("sparsify", _sparsify, run)
            swarms = dict.fromkeys((settings.swarm.initial, *settings.compare.swarms))
            searches = [_search(run, name, tracking) for name in swarms]
            selections = [step(f"re-rank {one.name}", rerank, one, run.judging, settings.rerank) for one in searches]
            tuned = [step(f"tune {name}", tune, name, run.recipe, run.judging) for name in settings.compare.baselines]
            outcome = Outcome(tuple(searches), tuple(selections), tuple(one for one in tuned if one))
            checkpoint = step("write", finish.write, run, outcome)
            table = step("test", judge_results, outcome, run.judging)
            expected = step("ask again", finish.ask_again, run, outcome)
            version = step("register", finish.register, run, tracking, outcome, table, checkpoint)
            step("verify", finish.verify_version, run, version, expected)
            promotion = step("promote", finish.promote_version, run, version, table)
            return step("report", finish.report, run, tracking, outcome, table, version, promotion, checkpoint)


def _search(run: Run, name: str, tracking: track.Run) -> Search:
    """PSO-Merging from one initial swarm: judge, observe, move; no move after the last observe."""
    swarm = run.config.swarm
    update = Update(swarm.inertia, swarm.cognitive, swarm.social, swarm.factors)
    search = begin(name, run.recipe, run.groups, scale=swarm.scale, pull=swarm.pull)
    for number in range(1, swarm.steps + 1):
        judgements = step(
            f"{name} step {number}: judge", judge_step, search, run.recipe, run.judging, run.config.stopping != "off"
        )
        search = step(f"{name} step {number}: observe", observe_step, search, run.recipe, judgements)
        tell_step(run, tracking, search, judgements)
        if number < swarm.steps:
            search = step(f"{name} step {number}: move", move_step, search, update, run.config.seed)
    return search


def _sparsify(run: Run) -> None:
    swarm = run.config.swarm
    if "paper" in (swarm.initial, *run.config.compare.swarms):
        tell_sparsified(run, sparsify(run.basis, swarm.drop_rate, swarm.mask_seed))
    else:
        tell(run, "sparsify: the star swarm uses no sparsified directions")
