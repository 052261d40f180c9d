"""Share of tokens that exact early stopping saves, first and later steps, and seconds with and without; real searches on the embedded models."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import yaml

from evals.engine import EngineSettings
from evals.harness import EvaluationSet, build
from evals.suite import Suite
from evals.suite_file import load_suite
from evals.supervisor import SupervisedEngine
from flows.environment import home_folder
from flows.schema import configs_folder
from psomerge.journal import Journal
from psomerge.pins import pin
from psomerge.recipe import Recipe
from psomerge.swarm import Swarm, Update
from tasks.fetch import fetch
from tasks.judge import Judging
from tasks.search import Search, begin, contenders, judge_step, move_step, observe_step

EXPERTS = ("so", "tk", "eu", "skill")
THOUSAND = {"shares": {"optimisation": 0.4, "validation": 0.02, "test": 0.32}, "limits": {"optimisation": 143}}
"""Laid over the quickstart's suite: 7 x 143 items, out of the same concepts that no embedded model was trained on."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the search")
    parser.add_argument("--swarms", nargs="+", default=["star", "paper"], choices=["star", "paper"])


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns shares and seconds by suite, swarm and seed; `--small` judges 6 items a benchmark in two steps of one swarm.

    Raises:
        RuntimeError: a search that stops did not end as the one that does not.
    """
    folders = {name: fetch(f"embedded://{name}@0", home_folder(), lambda what, share: None).folder for name in ("base", *EXPERTS)}
    suites = {"6 items a benchmark": {"limits": {"optimisation": 6}}} if options.small else {"quickstart": {}, "1,000 items": THOUSAND}
    swarms, steps = (options.swarms[:1], 2) if options.small else (options.swarms, options.steps)
    found: dict[str, Any] = {}
    for label, changes in suites.items():
        suite = _suite(scratch / f"{label}.yaml", changes)
        evaluation = build(suite, "optimisation", folders["base"])
        for swarm in swarms:
            for seed in options.seeds:
                name = f"{label} ({len(evaluation.batch)} requests), {swarm} swarm, seed {seed}"
                found[name] = _case(folders, suite, evaluation, scratch / f"{label}-{swarm}-{seed}", swarm=swarm, seed=seed, steps=steps)
                print(f"  {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def _suite(path: Path, changes: Mapping[str, Any]) -> Suite:
    content = yaml.safe_load((configs_folder() / "suites" / "quickstart.yaml").read_text())
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return load_suite(path)


def _case(folders: Mapping[str, Path], suite: Suite, evaluation: EvaluationSet, scratch: Path, *, swarm: str, seed: int, steps: int) -> dict[str, float]:
    """One search without stopping, then with it, each on a new engine and journal."""
    searches, seconds = {}, {}
    for stopping in (False, True):
        settings = EngineSettings(max_model_len=evaluation.longest + 1)
        place = scratch / ("exact" if stopping else "off")
        engine = SupervisedEngine(folders, "vllm", settings, work=place, log=place / "engine.log")
        journal = Journal(place / "journal.jsonl", "0123456789abcdef")
        try:
            assert engine.capabilities  # started before the clock is
            judging = Judging(engine, suite, {"optimisation": evaluation}, journal=journal, told=lambda label, judgement: None)
            start = perf_counter()
            searches[stopping] = _search(_recipe(folders), judging, swarm, steps=steps, seed=seed, stopping=stopping)
            seconds[stopping] = perf_counter() - start
        finally:
            engine.close()
            journal.close()
    _check_same(searches[False], searches[True])
    return _figures(searches[True]) | {"seconds_off": seconds[False], "seconds_exact": seconds[True]}


def _recipe(folders: Mapping[str, Path]) -> Recipe:
    base, *experts = (pin(folder, name, f"embedded://{name}@0") for name, folder in folders.items())
    return Recipe(base, tuple(experts), coefficients=((0.0,) * len(experts),))


def _search(recipe: Recipe, judging: Judging, name: str, *, steps: int, seed: int, stopping: bool) -> Search:
    search = begin(name, recipe, 1, scale=None, pull=0.5)
    for number in range(steps):
        search = move_step(search, Update(0.2, 2.0, 2.0, "particle"), seed) if number else search
        search = observe_step(search, recipe, judge_step(search, recipe, judging, stopping))
    return search


def _check_same(off: Search, exact: Search) -> None:
    names = [field.name for field in fields(Swarm) if field.name != "fitness"]  # of those that were stopped only a bound is known
    other = [name for name in names if not np.array_equal(getattr(off.swarm, name), getattr(exact.swarm, name))]
    ways = [[particle.coefficients for step in search.history for particle in step.particles] for search in (off, exact)]
    picked = [[(one.recipe, one.judgement.fitness, one.judgement.scores) for one in contenders(search, 3)] for search in (off, exact)]
    if other or ways[0] != ways[1] or picked[0] != picked[1]:
        raise RuntimeError(f"expected the same search with and without stopping, found another {', '.join(other) or 'way or choice'}")


def _figures(search: Search) -> dict[str, float]:
    """Share of tokens saved in the first, second and later steps, and in all; particles that had not moved cost nothing either way."""
    judged = [[particle for particle in step.particles if particle.judged] for step in search.history]
    parts = {"first_step": judged[:1], "second_step": judged[1:2], "later_steps": judged[2:], "all_steps": judged}
    shares = {f"saved_{name}": _saved([particle for step in steps for particle in step]) for name, steps in parts.items() if steps}
    later = [particle for step in judged[1:] for particle in step]
    return shares | {"judged_after_the_first_step": float(len(later)), "of_these_stopped": float(sum(particle.bound is not None for particle in later))}


def _saved(particles: list[Any]) -> float:
    whole = sum(particle.tokens_of for particle in particles)
    return 1 - sum(particle.tokens for particle in particles) / whole if whole else 0.0
