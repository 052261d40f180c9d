"""What early stopping saves, exact and sequential, in the first and later steps, and how often the sequential is wrong;
searches on the embedded models."""

import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import yaml

from psomerge.checkpoint.pins import pin
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.pool import OneEngine
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.harness import EvaluationSet, build
from psomerge.evals.stopping.policy import Stopping
from psomerge.evals.stopping.sequential import Draw, SequentialTest
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.suite import Suite
from psomerge.flows.config.loading import configs_folder
from psomerge.flows.environment.home import home_folder
from psomerge.recipe import Recipe
from psomerge.run.journal import Journal
from psomerge.search.pso import Settings
from psomerge.search.searches import SEARCHES
from psomerge.tasks.search.judge import Judging
from psomerge.tasks.search.steps import Course, ask_step, begin, contenders, judge_step, observe_step
from psomerge.tasks.sources.fetch import fetch

ERROR_RATE = 0.05
ORDERS = 200
"""Random orders of the items, for each judgement."""
EXPERTS = ("so", "tk", "eu", "skill")
THOUSAND = {"shares": {"optimisation": 0.4, "validation": 0.02, "test": 0.32}, "limits": {"optimisation": 143}}
"""Laid over the quickstart's suite: 7 x 143 items, out of the same concepts that no embedded model was trained on."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the search")
    parser.add_argument("--swarms", nargs="+", default=["star", "paper"], choices=["star", "paper"])


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns shares and seconds by suite, swarm and seed; `--small` judges 6 items a benchmark in two steps of one
    swarm.

    Raises:
        RuntimeError: a search that stops did not end as the one that does not.
    """
    folders = {
        name: fetch(f"embedded://{name}@0", home_folder(), lambda what, share: None).folder
        for name in ("base", *EXPERTS)
    }
    suites = (
        {"6 items a benchmark": {"limits": {"optimisation": 6}}}
        if options.small
        else {"quickstart": {}, "1,000 items": THOUSAND}
    )
    swarms, steps = (options.swarms[:1], 2) if options.small else (options.swarms, options.steps)
    found: dict[str, Any] = {}
    for label, changes in suites.items():
        suite = _suite(scratch / f"{label}.yaml", changes)
        evaluation = build(suite, "optimisation", folders["base"])
        for swarm in swarms:
            for seed in options.seeds:
                name = f"{label} ({len(evaluation.batch)} requests), {swarm} swarm, seed {seed}"
                found[name] = _case(
                    folders, suite, evaluation, scratch / f"{label}-{swarm}-{seed}", swarm=swarm, seed=seed, steps=steps
                )
                print(f"  {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def _suite(path: Path, changes: Mapping[str, Any]) -> Suite:
    content = yaml.safe_load((configs_folder() / "suites" / "quickstart.yaml").read_text())
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return load_suite(path)


def _case(
    folders: Mapping[str, Path],
    suite: Suite,
    evaluation: EvaluationSet,
    scratch: Path,
    *,
    swarm: str,
    seed: int,
    steps: int,
) -> dict[str, float]:
    """One search for each kind of stopping, each on a new engine and journal; then the sequential test on what the
    first one judged."""
    searches, seconds = {}, {}
    for kind in ("off", "exact", "sequential"):
        settings = EngineSettings(max_model_len=evaluation.longest + 1)
        sets = {"optimisation": evaluation.shuffled("order") if kind == "sequential" else evaluation}
        engine = SupervisedEngine(folders, "vllm", settings, work=scratch / kind, log=scratch / kind / "engine.log")
        journal = Journal(scratch / kind / "journal.jsonl", "0123456789abcdef")
        try:
            assert engine.capabilities  # started before the clock is
            stopping = Stopping(kind, ERROR_RATE)
            judging = Judging(
                OneEngine(engine),
                suite,
                sets,
                journal=journal,
                on_judgement=lambda label, judgement, made: None,
                stopping=stopping,
            )
            start = perf_counter()
            searches[kind] = _search(_recipe(folders), judging, swarm, steps=steps, seed=seed)
            seconds[kind] = perf_counter() - start
        finally:
            engine.close()
            journal.close()
    _check_same(searches["off"], searches["exact"])
    best = {f"best_{kind}": course.state.best_fitness for kind, course in searches.items()}
    told = {
        f"{kind}_{name}": value for kind in ("exact", "sequential") for name, value in _figures(searches[kind]).items()
    }
    return (
        told | {f"seconds_{kind}": value for kind, value in seconds.items()} | best | _simulated(searches["off"], seed)
    )


def _simulated(course: Course, seed: int) -> dict[str, float]:
    """The sequential test in many random orders of the items, on every judgement of a search after the first step
    against the personal best before it."""
    draw, size = random.Random(seed), len(course.asked)
    best = {one.particle: one.judgement for one in course.judged[:size]}
    found: dict[bool, list[tuple[int, float]]] = {True: [], False: []}
    for one in course.judged[size:]:
        judgement, rival = one.judgement, best[one.particle]
        worths = [1 / len(score.values) for score in judgement.scores for _ in score.values]
        values, others = ([value for score in one.scores for value in score.values] for one in (judgement, rival))
        if values != others:  # else it is the same model, or answers the same: nothing to decide
            orders = [draw.sample(range(len(values)), len(values)) for _ in range(ORDERS)]
            counts = [_given_up([(worths[item], values[item], others[item]) for item in order]) for order in orders]
            share = sum(1 - (count or len(values)) / len(values) for count in counts) / ORDERS
            found[(judgement.fitness or 0) > (rival.fitness or 0)].append(
                (sum(count is not None for count in counts), share)
            )
        if (judgement.fitness or 0) > (rival.fitness or 0):
            best[one.particle] = judgement
    winners, losers = found[True], found[False]
    every = [share for _, share in winners + losers]
    return {
        "simulated_judgements_that_win": float(len(winners)),
        "of_these_given_up": sum(count for count, _ in winners) / (ORDERS * len(winners)) if winners else 0.0,
        "most_of_one_given_up": max((count for count, _ in winners), default=0) / ORDERS,
        "simulated_judgements_that_lose": float(len(losers)),
        "simulated_items_saved": sum(every) / len(every) if every else 0.0,
    }


def _given_up(items: list[tuple[float, float, float]]) -> int | None:
    """After how many items (worth, value, the rival's value) a model is given up."""
    test = SequentialTest(
        [[Draw((), -worth * other, worth * (1 - other)) for worth, _, other in items]], 0.0, ERROR_RATE
    )
    for count, (worth, value, other) in enumerate(items, 1):
        test.add(worth * (value - other))
        if test.given_up:
            return count
    return None


def _recipe(folders: Mapping[str, Path]) -> Recipe:
    base, *experts = (pin(folder, name, f"embedded://{name}@0") for name, folder in folders.items())
    return Recipe(base, tuple(experts), coefficients=((0.0,) * len(experts),))


def _search(recipe: Recipe, judging: Judging, name: str, *, steps: int, seed: int) -> Course:
    course = begin(SEARCHES[name](Settings(steps, seed)), recipe)
    for number in range(steps):
        course = ask_step(course) if number else course
        course = observe_step(course, judge_step(course, judging))
    return course


def _check_same(off: Course, exact: Course) -> None:
    ways = [np.stack(course.state.positions) for course in (off, exact)]
    bests = [[(one, course.state.fitness_at(one)) for one in course.state.bests.values()] for course in (off, exact)]
    picked = [
        [(one.recipe, one.judgement.fitness, one.judgement.scores) for one in contenders(course, 3)]
        for course in (off, exact)
    ]
    if not np.array_equal(*ways) or bests[0] != bests[1] or picked[0] != picked[1]:
        raise RuntimeError("expected the same search with and without stopping, found another way or choice")


def _figures(course: Course) -> dict[str, float]:
    """Share of tokens saved in the first, second and later steps, and in all; particles that had not moved cost nothing
    either way."""
    judged = [[particle for particle in step.particles if particle.judged] for step in course.history]
    parts = {"first_step": judged[:1], "second_step": judged[1:2], "later_steps": judged[2:], "all_steps": judged}
    shares = {
        f"saved_{name}": _saved([particle for step in steps for particle in step])
        for name, steps in parts.items()
        if steps
    }
    later = [particle for step in judged[1:] for particle in step]
    return shares | {
        "judged_after_the_first_step": float(len(later)),
        "of_these_stopped": float(sum(particle.bound is not None for particle in later)),
    }


def _saved(particles: list[Any]) -> float:
    whole = sum(particle.tokens_of for particle in particles)
    return 1 - sum(particle.tokens for particle in particles) / whole if whole else 0.0
