"""What a run would do and cost, and all that is in its way: from config, headers and sizes alone, before anything large
is fetched or anything started."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError, ConfigError, PsomergeError, ServiceError, SpaceError, together
from psomerge.evals.engines.choice import choose
from psomerge.evals.engines.shell import with_tokenizer
from psomerge.evals.harness import build_all, inspect
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS
from psomerge.evals.suites.suite import Suite
from psomerge.files.names import allowed
from psomerge.fit.misfits import all_misfits, misfit
from psomerge.flows.commands import costs
from psomerge.flows.config.loading import configs_folder
from psomerge.flows.config.schema import Config
from psomerge.flows.environment.home import open_named_stores, prepare, settle
from psomerge.flows.stages.opening import searches
from psomerge.flows.terminal.progress import Progress
from psomerge.merge.basis import Basis
from psomerge.search.search import first_points
from psomerge.tasks.experts.check import file_warnings
from psomerge.tasks.experts.class_defaults import loading, spelt_out
from psomerge.tasks.experts.fitting import merging_basis
from psomerge.tasks.experts.pieces import read_pieces
from psomerge.tasks.search.asked_on import asked_on
from psomerge.tasks.search.inputs import all_judgements
from psomerge.tasks.search.run_identity import program
from psomerge.tasks.secrets import redact
from psomerge.tasks.sources.origin import Access, Preview
from psomerge.tasks.sources.pinned import pinned
from psomerge.tasks.sources.preview import preview_all
from psomerge.tasks.tracking.store import REGISTRY, registry_setting


def describe(config: Config, home: Path, *, count_tokens: bool = False) -> dict[str, Any]:
    """Returns the plan as plain data; of an unfinished run of the config, the plan of how that goes on.

    Args:
        config: of the run.
        home: PSOMERGE_HOME.
        count_tokens: whether to make the suite's requests, where its data are here, and count their tokens: seconds.

    Raises:
        ConfigError: the suite, an address or the home folder cannot be, or several tokenizers differ.
        ArtefactError: a checkpoint is broken or does not fit; the text holds all that is wrong with all of them.
        ServiceError: a model is not here, and nobody tells what it is; MLflow does not answer.
        SpaceError: no room for what would be fetched and written.
    """
    suite = load_suite(config.suite, configs_folder() / "suites")
    settle(home)
    datasets = home / "cache" / "datasets"
    asked = inspect(suite, SPLITS, seed=config.seed, cache=datasets, allow_task_code=config.allow_task_code)
    with Progress() as progress:
        access = Access(home, progress.fetching, lambda: prepare(home).mlflow)
        unfinished = pinned(config.addresses, access, config.canonical(), program())
        moved = unfinished.moved(access) if unfinished else []
        previews, failures = preview_all(unfinished.addresses if unfinished else config.addresses, access)
    seen = {name: one.checkpoint for name, one in previews.items() if one.checkpoint}
    unfit, merged = _fit(config, seen)
    problems = [*asked.problems, *_unregistrable(config, home), *_failed(config, failures), *unfit]
    room = costs.disk(config, previews, home)
    try:
        room.check(home)
    except SpaceError as error:
        problems.append(error)
    if problems:
        error = _joined(problems)
        raise type(error)("\n".join([str(error), *moved])) if moved else error
    plan = _plan(config, home, suite, previews, room)
    plan["suite"] |= {"unseen": list(asked.unseen), "items": dict(asked.items), "tokens": {}}
    plan["suite"] |= {"left_out": asked.left_out, "equal": asked.equal}
    teller = seen.get(merged[1]) if merged and not merged[0].union else None
    if count_tokens and teller and not previews[teller.name].to_train and not asked.unseen:
        try:
            plan["suite"]["tokens"] = _tokens(config, suite, teller.folder, datasets, asked_on(home, suite, keep=False))
        except ServiceError as error:
            plan["warnings"].append(f"tokens are not counted: {error}")
    plan |= {
        "goes_on_since": unfinished and unfinished.since,
        "moved": moved,
        "tokenizer": merged and merged[0].tokenizer(merged[1]),
        "warnings": [*plan["warnings"], *_told(config, seen, merged), *_unseen(config, previews)],
    }
    return plan


def _unregistrable(config: Config, home: Path) -> Iterator[PsomergeError]:
    """What keeps the run from being tracked, or its model from being registered."""
    try:
        open_named_stores(home, model=config.register_as.model)
    except PsomergeError as error:
        yield error


def _tokens(config: Config, suite: Suite, tokenizer: Path, datasets: Path, date: str) -> dict[str, int]:
    """Tokens of the requests of each split with the most that is written."""
    settings = {"seed": config.seed, "cache": datasets, "date": date}
    sets = build_all(suite, SPLITS, tokenizer, allow_task_code=config.allow_task_code, **settings)
    return {split: one.batch.tokens for split, one in sets.items()}


def _failed(config: Config, failures: Mapping[str, PsomergeError]) -> Iterator[PsomergeError]:
    """What models failed with, each with its address; what a service says of several models alike is said once."""
    said: dict[str, list[str]] = {}
    for name, error in failures.items():
        address, text = config.base if name == "base" else config.experts[name], str(error)
        alike = text.replace(address, "") if isinstance(error, ServiceError) else name
        said.setdefault(alike, []).append(address)
        if len(said[alike]) == 1:
            yield type(error)(text if address in text else f"{address}: {text}")
    for others in said.values():
        if len(others) > 1:
            yield ServiceError(f"the same for {', '.join(others[1:])}")


def _fit(config: Config, seen: Mapping[str, Checkpoint]) -> tuple[list[PsomergeError], tuple[Basis, str] | None]:
    """What keeps the experts from being merged with the base, as far as both can be seen; and the basis of those that
    fit, with whose tokenizer it is."""
    problems: list[PsomergeError] = []
    if "base" not in seen:
        return problems, None
    base, experts = seen["base"], [one for name, one in seen.items() if name != "base"]
    if lines := all_misfits(base, experts, read_pieces, spelt_out, loading):
        problems.append(misfit(lines, base.folder))
    fitting = [one for one in experts if not any(f'"{one.name}"' in line for line in lines)]
    merged = None
    try:
        if config.tokenizer_from in (None, "base", *(one.name for one in fitting)):
            merged = merging_basis(base, fitting, config.tokenizer_from)
            if (chosen := merged[0].named(merged[1])).files:  # else it is still to be trained
                with_tokenizer(chosen)
    except PsomergeError as error:
        problems.append(error)
    try:
        choose(config.engine.kind, base.config)
    except PsomergeError as error:
        problems.append(error)
    return problems, merged


def _told(config: Config, seen: Mapping[str, Checkpoint], merged: tuple[Basis, str] | None) -> list[str]:
    """What a user should know about experts that fit."""
    if merged is None:
        return []
    choice = choose(config.engine.kind, seen["base"].config)
    told = map(str, file_warnings(seen["base"], [one for label, one in seen.items() if label != "base"], merged[1]))
    return [*([choice.notice] if choice.why else []), *told]


def _joined(problems: list[PsomergeError]) -> PsomergeError:
    """All problems as an error of the class that must be seen to first: models, then the config, then services and
    room."""

    def urgency(error: PsomergeError) -> tuple[bool, bool, int]:
        return not isinstance(error, ArtefactError), not isinstance(error, ConfigError), error.exit_code

    return together(sorted(problems, key=urgency))


def _plan(
    config: Config, home: Path, suite: Suite, previews: Mapping[str, Preview], room: costs.Disk
) -> dict[str, Any]:
    seen = {name: one.checkpoint for name, one in previews.items() if one.checkpoint}
    n, named = len(config.experts), searches(config)
    asked = all_judgements(named, n, config.compare.baselines, config.rerank)
    memory = costs.memory(config.engine, seen)
    known = costs.seconds(home, suite.name, asked, seen.get("base"))
    return {
        "config": config.name,
        "home": str(home),
        "suite": {"name": suite.name, "benchmarks": [benchmark.name for benchmark in suite.benchmarks]},
        "models": {name: _model(config.addresses[name], one) for name, one in previews.items()},
        "experts": n,
        "to_fetch": [name for name, one in previews.items() if not one.whole],
        "swarms": [one.name for one in named],
        "particles": len(first_points(named[0], n)),
        "steps": named[0].steps,
        "judgements": asked,
        "seconds": known,
        "model_bytes": max(map(costs.stored_bytes, seen.values()), default=0),
        "memory": memory and asdict(memory) | {"held_bytes": memory.held_bytes, "warnings": memory.warnings()},
        "disk": asdict(room) | {"needed_bytes": room.needed_bytes},
        "threads": config.engine.threads,
        "cores": len(os.sched_getaffinity(0)),
        "register_as": config.register_as.model,
        "registry": redact(registry_setting()) if os.environ.get(REGISTRY) else None,
        "warnings": memory.warnings() if memory else [],
    }


def _model(address: str, one: Preview) -> dict[str, Any]:
    files = (
        {name: count for name, count in one.checkpoint.files.items() if allowed(name)}
        if one.checkpoint
        else one.to_fetch
    )
    return {
        "address": address,
        "source": one.source,
        "state": "here" if one.whole else "to train" if one.to_train else "to fetch",
        "bytes": sum(files.values()),
        "download_bytes": sum(one.to_fetch.values()),
        "download_files": len(one.to_fetch),
    }


def _unseen(config: Config, previews: Mapping[str, Preview]) -> list[str]:
    return [
        f"{name} ({config.addresses[name]}): {one.unseen} is known once it is fetched"
        for name, one in previews.items()
        if one.unseen
    ]
