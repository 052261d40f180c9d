"""What a run shows while it goes on: MLflow's run, Prefect's artifacts, lines on stderr. The journal is the truth; this
is its public view."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from psomerge.errors import PsomergeError
from psomerge.evals.suites.scores import Judgement
from psomerge.files.digest import digest_of
from psomerge.flows.stages.opening import Run
from psomerge.tasks.experts.sparsify import Sparsified
from psomerge.tasks.search.steps import Course
from psomerge.tasks.step import CancelledError, show_table
from psomerge.tasks.tracking import run as track


@contextmanager
def tracked(run: Run) -> Iterator[track.MlflowRun]:
    """Yields the MLflow run of this pipeline run, begun or gone on with, and ends it with the status that fits."""
    with run.monitor.time("bookkeeping"):
        config = run.config
        tags = {
            "psomerge.config": config.name,
            "psomerge.swarm": run.inputs.searches[0].name,
            "psomerge.seed": str(config.seed),
        }
        tracking = track.start(
            run.store,
            config.register_as.experiment,
            run_key=run.folder.key,
            name=f"{config.name}-{run.folder.key[:8]}",
            tags=tags,
        )
        digests = {name: digest_of(dict(source.files)) for name, source in run.inputs.recipe.sources.items()}
        sets = [
            track.EvaluationInput(run.inputs.suite.name, name, one.digest, sum(map(len, one.items.values())))
            for name, one in run.inputs.sets.items()
        ]
        track.log_setup(tracking, config.canonical(), digests=digests, sets=sets)
    try:
        yield tracking
    except BaseException as error:
        with suppress(PsomergeError):  # what ended the run matters more, and may be what keeps this from being written
            track.finish(tracking, "KILLED" if isinstance(error, (KeyboardInterrupt, CancelledError)) else "FAILED")
        raise
    track.finish(tracking, "FINISHED")


def tell_sparsified(run: Run, rows: Sequence[Sparsified]) -> None:
    """Shows what the DARE masks keep, beside what they should."""
    p = run.inputs.recipe.drop_rate
    table = [
        {"expert": one.expert, "tensors": one.kind, "kept": round(one.kept, 4), "norm ratio": round(one.norm_ratio, 3)}
        for one in rows
    ]
    show_table(
        "sparsified",
        table,
        f"DARE copies, drop rate {p}: expected share kept {1 - p:.4f}, expected norm ratio {1 / math.sqrt(1 - p):.3f}",
    )
    run.monitor.say(
        f"DARE masks keep {min(one.kept for one in rows):.4f} to {max(one.kept for one in rows):.4f} of the entries "
        f"(expected {1 - p:.4f})",
    )


def tell_step(run: Run, tracking: track.MlflowRun, course: Course, judgements: Sequence[Judgement]) -> None:
    """Shows a step that was observed: metrics of the configured search in MLflow, a table in Prefect, a line on
    stderr."""
    step, search, best = len(course.history), course.search, course.state.best_fitness
    sound = [judgement.fitness for judgement in judgements if judgement.fitness is not None]
    with run.monitor.time("bookkeeping"):
        if search.name == run.inputs.searches[0].name:
            track.log_step(tracking, step - 1, judgements, global_best=best)
        rows = [
            {
                "particle": number,
                "fitness": judgement.fitness,
                "stopped at": judgement.bound,
                "failure": judgement.failure or "",
                "coefficients": str([[round(c, 4) for c in row] for row in particle.coefficients]),
            }
            for number, (particle, judgement) in enumerate(zip(course.history[-1].particles, judgements, strict=True))
        ]
        show_table(
            f"{search.name}-step-{step}",
            rows,
            f"Particles of step {step} of the {search.title} on the optimisation items",
        )
    stopped = sum(judgement.bound is not None for judgement in judgements)
    reached = (
        f"best {max(sound):.4f}, mean {sum(sound) / len(sound):.4f}, worst {min(sound):.4f}"
        if sound
        else "no particle above its own best"
    )
    run.monitor.say(
        f"{search.name} step {step}: {reached}, failed {len(judgements) - len(sound) - stopped}, stopped {stopped}, "
        f"best ever {best:.4f}",
    )
