"""From a config to an open run: experts fetched and checked, evaluation sets built, the run's folder locked, the engine
ready to start."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from psomerge.evals.engines.choice import Choice, choose
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.pool import OneEngine
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.engines.shell import tokenizer_folder
from psomerge.evals.harness import EvaluationSet, build, build_all
from psomerge.evals.stopping.policy import Stopping
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS
from psomerge.evals.suites.suite import Suite
from psomerge.flows.config.loading import configs_folder
from psomerge.flows.config.schema import Config, EngineConfig
from psomerge.flows.environment.home import Stores
from psomerge.flows.stages.monitor import Monitor
from psomerge.flows.terminal.progress import Progress
from psomerge.merge.basis import Basis
from psomerge.merge.grouping import groups
from psomerge.recipe import Recipe, Source
from psomerge.run.folder import RunFolder
from psomerge.search.pso import Settings
from psomerge.search.search import Search
from psomerge.search.searches import SEARCHES
from psomerge.tasks.experts.check import check
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.asked_on import asked_on
from psomerge.tasks.search.inputs import Inputs
from psomerge.tasks.search.judge import Judging
from psomerge.tasks.search.run_identity import identity, program
from psomerge.tasks.sources.fetch import pin_all
from psomerge.tasks.sources.origin import Access
from psomerge.tasks.sources.pinned import Pinned, pin_addresses, pinned
from psomerge.tasks.step import step
from psomerge.tasks.tracking.opening import open_stores
from psomerge.tasks.tracking.store import Store


@dataclass(frozen=True)
class Run:
    """What a run holds open: what is merged and searched (`inputs`), what judges (`choice` to `judging`), what tells
    (`monitor`)."""

    config: Config
    store: Store
    folder: RunFolder
    inputs: Inputs
    choice: Choice
    settings: EngineSettings
    engine: SupervisedEngine
    judging: Judging
    monitor: Monitor
    datasets: Path
    """Where data sets of suites are kept."""
    date: str
    """That chat templates write."""

    def test_items(self, model: Path) -> EvaluationSet:
        """Returns the suite's test items for a model folder, cut by that model's own tokenizer."""
        settings = {"seed": self.config.seed, "cache": self.datasets, "date": self.date}
        return build(self.inputs.suite, "test", model, allow_task_code=self.config.allow_task_code, **settings)


def searches(config: Config) -> tuple[Search, ...]:
    """Returns the searches that a config asks for: first the one whose model is registered."""
    swarm = config.swarm
    own = swarm.model_dump(include={one.name for one in fields(Settings)})
    names = dict.fromkeys((swarm.initial, *config.compare.swarms))
    return tuple(SEARCHES[name](Settings(seed=config.seed, **own)) for name in names)


@contextmanager
def open_run(config: Config, stores: Stores, progress: Progress) -> Iterator[Run]:
    """Yields the open run and closes what it holds; a block that ends without an error has finished the run. The steps
    before it are visible in Prefect.

    Raises:
        LockedError: another process works on the same run.
        PsomergeError: of any other class, where config, sources, suite or folder are not as they must be.
    """
    home, begin = stores.home, monotonic()
    suite = load_suite(config.suite, configs_folder() / "suites")
    access = Access(home, progress.fetching, lambda: stores.mlflow)
    step("open stores", open_stores, stores.mlflow, model=config.register_as.model)
    pins = step("resolve", _pinned, config, access, progress)
    models = {name: step(f"fetch {name}", pins.fetch, name, access) for name in pins.addresses}
    folders = {name: model.folder for name, model in models.items()}
    fetched = monotonic() - begin
    checked = step("check", check, folders, config.tokenizer_from)
    basis, tokenizer_from = checked.basis, checked.tokenizer_from
    if basis.union:
        progress.say(f"tokenizer: {basis.tokenizer(tokenizer_from)}")
    for warning in checked.warnings:
        progress.say(f"warning: {warning}")
    choice = choose_engine(config.engine, basis.base.config, progress)
    sources = step("pin", pin_all, models)
    stopping = Stopping(config.stopping, config.stopping_error_rate)
    datasets, date = home / "cache" / "datasets", asked_on(home, suite)
    with progress.phase("building requests"):
        tokenizer = tokenizer_folder(basis, tokenizer_from, home / "cache" / "tokenizers")
        sets = step("build requests", _build, config, suite, tokenizer, datasets, stopping, date)
    tell_dates(sets, progress)
    recipe = _recipe(config, sources, basis, tokenizer_from)
    inputs = Inputs(
        name=config.name,
        seed=config.seed,
        suite=suite,
        sets=sets,
        basis=basis,
        recipe=recipe,
        searches=searches(config),
        baselines=tuple(config.compare.baselines),
        rerank=config.rerank,
        warnings=checked.warnings,
    )
    settings = engine_settings(config.engine, sets.values(), tokenizer_from)
    described = identity(config.canonical(), sources, sets, engine=choice.kind, settings=settings)
    with RunFolder(home / "runs", described, now=datetime.now(UTC).isoformat(timespec="seconds")) as folder:
        progress.say(f"run {folder.key} in {folder.path}")
        monitor = Monitor(progress, inputs, fetched)
        engine = SupervisedEngine(
            folders, choice.kind, settings, work=folder.path / "engine", log=folder.path / "engine.log"
        )
        judging = Judging(
            OneEngine(engine),
            suite,
            sets,
            journal=folder.journal,
            on_judgement=monitor.judged,
            guard=basis.check_unchanged,
            references=list(recipe.unmerged().values()),
            on_items=lambda key, examples: traces.write(examples, traces.path_of(folder.path, key)),
            stopping=stopping,
        )
        try:
            yield Run(config, stores.mlflow, folder, inputs, choice, settings, engine, judging, monitor, datasets, date)
            pins.drop()
        finally:
            engine.close()


def _pinned(config: Config, access: Access, progress: Progress) -> Pinned:
    """What the addresses are: those that the config's unfinished run began with, else what they mean now."""
    asked = (config.addresses, access, config.canonical(), program())
    if found := pinned(*asked):
        for line in found.moved(access):
            progress.say(line)
        return found
    return pin_addresses(*asked)


def tell_dates(sets: Mapping[str, EvaluationSet], progress: Progress) -> None:
    """Says which date a chat template writes into the prompts, where it writes one."""
    if dates := sorted({date for one in sets.values() for date in one.dates}):
        progress.say(
            f"the chat template writes a date into the prompts: {', '.join(dates)}, now and in every later run"
        )


def _build(
    config: Config, suite: Suite, tokenizer: Path, cache: Path, stopping: Stopping, date: str
) -> dict[str, EvaluationSet]:
    settings = {"seed": config.seed, "cache": cache, "date": date}
    sets = build_all(suite, SPLITS, tokenizer, allow_task_code=config.allow_task_code, **settings)
    order = f"{suite.salt}|{config.seed}|order"
    return sets | {"optimisation": stopping.ordered(sets["optimisation"], order)}


def _recipe(config: Config, sources: Mapping[str, Source], basis: Basis, tokenizer_from: str) -> Recipe:
    rows = max(groups(list(basis.base.tensors), config.swarm.grouping).values()) + 1
    return Recipe(
        base=sources["base"],
        experts=tuple(sources[name] for name in config.experts),
        coefficients=((0.0,) * len(config.experts),) * rows,
        grouping=config.swarm.grouping,
        drop_rate=config.swarm.drop_rate,
        mask_seed=config.swarm.mask_seed,
        dtype=config.dtype,
        tokenizer_from=tokenizer_from,
        vocabulary=basis.vocabulary,
    )


def choose_engine(engine: EngineConfig, model: Mapping[str, Any], progress: Progress) -> Choice:
    """Returns which engine judges models of this config.json, and says so where it is not what a run has by default.
    Raises ConfigError as `choose`."""
    choice = choose(engine.kind, model)
    if choice.why:
        progress.say(choice.notice)
    return choice


def engine_settings(engine: EngineConfig, sets: Iterable[EvaluationSet], tokenizer_from: str) -> EngineSettings:
    """Returns how an engine is started that has room for every request of these sets."""
    return EngineSettings(
        dtype=engine.dtype,
        threads=engine.threads,
        max_model_len=max(one.longest for one in sets) + 1,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        kv_cache_bytes=int(engine.kv_cache_gib * 2**30),
        tokenizer_from=tokenizer_from,
        deadline_s=engine.deadline_s,
    )
