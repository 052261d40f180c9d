"""From a config to an open run: experts fetched and checked, evaluation sets built, the run's folder locked, the engine
ready to start."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

from psomerge.evals.engines.choice import Choice, choose
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.pool import OneEngine
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.engines.shell import tokenizer_folder
from psomerge.evals.harness import EvaluationSet, build_all
from psomerge.evals.stopping.policy import Stopping
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.scores import Judgement
from psomerge.evals.suites.splits import SPLITS
from psomerge.evals.suites.suite import Suite
from psomerge.fit.warning import FitWarning
from psomerge.flows.config.loading import configs_folder
from psomerge.flows.config.schema import Config, EngineConfig
from psomerge.flows.environment.home import Stores
from psomerge.flows.terminal.progress import Progress
from psomerge.merge.basis import Basis
from psomerge.merge.grouping import groups
from psomerge.merge.methods.table import baselines
from psomerge.recipe import Recipe, Source
from psomerge.run.folder import RunFolder
from psomerge.search.pso import Settings
from psomerge.search.search import Search, most_judgements
from psomerge.search.searches import SEARCHES
from psomerge.tasks.experts.check import check
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging
from psomerge.tasks.search.run_identity import identity
from psomerge.tasks.sources.fetch import fetch, pin_all
from psomerge.tasks.sources.origin import Fetched
from psomerge.tasks.step import Bar, step
from psomerge.tasks.tracking.store import Store


@dataclass
class Run:
    """Everything that a run holds open. Only `seconds`, `done` and `peak_bytes` change."""

    config: Config
    home: Path
    store: Store
    folder: RunFolder
    suite: Suite
    sets: Mapping[str, EvaluationSet]
    sources: Mapping[str, Source]
    basis: Basis
    recipe: Recipe
    """Base and experts with zero coefficients: what every particle starts from."""
    choice: Choice
    settings: EngineSettings
    engine: SupervisedEngine
    progress: Progress
    warnings: tuple[FitWarning, ...] = ()
    """About the experts, of the check."""
    judging: Judging = field(init=False)
    bar: Bar | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by phase; judgements' own phases are added up as they are made or found."""
    done: int = 0
    peak_bytes: int = 0
    best: float | None = None
    start: float = field(default_factory=monotonic)

    @cached_property
    def searches(self) -> tuple[Search, ...]:
        """The configured search, then those that stand beside it."""
        return searches(self.config)

    @property
    def groups(self) -> int:
        """Rows of coefficients."""
        return len(self.recipe.coefficients)

    @property
    def tokenizer(self) -> str:
        """Whose it is, and what was added to it."""
        return self.basis.tokenizer(self.recipe.tokenizer_from)

    def expected(self) -> int:
        """Returns how many judgements the run will ask for, those found in the journal or not moved included."""
        return judgements(self.config, len(self.recipe.experts))

    def told(self, label: Label, judgement: Judgement) -> None:
        """Adds a judgement's seconds up and shows how far the run is."""
        self.done += 1
        for phase, seconds in (judgement.seconds or {}).items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        self.peak_bytes = max(self.peak_bytes, judgement.peak_bytes)
        if label.step is not None and judgement.fitness is not None:
            self.best = judgement.fitness if self.best is None else max(self.best, judgement.fitness)
        steps = {one.name: one.steps for one in self.searches}
        place = label.phase if label.step is None else f"{label.phase} step {label.step + 1} of {steps[label.phase]}"
        share = min(1.0, self.done / self.expected())
        with self.time("bookkeeping"):
            best = "" if self.best is None else f", best fitness {self.best:.3f}"
            self.progress.show("judging", share, f"({self.done} of at most {self.expected()}: {place}{best})")
            if self.bar:
                self.bar.show(share)

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Adds the wall time of a block to a phase."""
        start = monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + monotonic() - start


def searches(config: Config) -> tuple[Search, ...]:
    """Returns the searches that a config asks for: first the one whose model is registered."""
    swarm = config.swarm
    own = swarm.model_dump(include={one.name for one in fields(Settings)})
    names = dict.fromkeys((swarm.initial, *config.compare.swarms))
    return tuple(SEARCHES[name](Settings(seed=config.seed, **own)) for name in names)


def judgements(config: Config, experts: int) -> int:
    """Returns the most judgements that a run asks for: searches, baselines, re-ranking and the table on the test
    split."""
    tuned = sum(len(baselines()[name][1].settings) for name in config.compare.baselines)
    found = [most_judgements(search, experts) + config.rerank for search in searches(config)]
    rows = 1 + experts + len(config.compare.baselines) + len(found)
    return sum(found) + tuned + rows


@contextmanager
def open_run(config: Config, stores: Stores, progress: Progress) -> Iterator[Run]:
    """Yields the open run and closes what it holds. The steps before it are visible in Prefect.

    Raises:
        LockedError: another process works on the same run.
        PsomergeError: of any other class, where config, sources, suite or folder are not as they must be.
    """
    home, begin = stores.home, monotonic()
    suite = load_suite(config.suite, configs_folder() / "suites")
    store = stores.mlflow
    models = {
        name: step(f"fetch {name}", _fetch, address, home, progress, store)
        for name, address in config.addresses.items()
    }
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
    with progress.phase("building requests"):
        sets = step(
            "build requests",
            _build,
            config,
            suite,
            tokenizer_folder(basis, tokenizer_from, home / "cache" / "tokenizers"),
            home,
            stopping,
        )
    recipe = _recipe(config, sources, basis, tokenizer_from)
    settings = engine_settings(config.engine, sets.values(), tokenizer_from)
    described = identity(config.canonical(), sources, sets, engine=choice.kind, settings=settings)
    with RunFolder(home / "runs", described, now=datetime.now(UTC).isoformat(timespec="seconds")) as folder:
        progress.say(f"run {folder.key} in {folder.path}")
        engine = SupervisedEngine(
            folders, choice.kind, settings, work=folder.path / "engine", log=folder.path / "engine.log"
        )
        run = Run(
            config,
            home,
            store,
            folder,
            suite,
            sets,
            sources,
            basis,
            recipe,
            choice,
            settings,
            engine,
            progress,
            checked.warnings,
        )
        run.judging = Judging(
            OneEngine(engine),
            suite,
            sets,
            journal=folder.journal,
            told=run.told,
            guard=basis.check_unchanged,
            references=list(recipe.unmerged().values()),
            keep=lambda key, examples: traces.write(examples, traces.path_of(folder.path, key)),
            stopping=stopping,
        )
        run.seconds["fetch"] = fetched
        try:
            yield run
        finally:
            engine.close()


def _fetch(address: str, home: Path, progress: Progress, store: Store) -> Fetched:
    return fetch(address, home, progress.fetching, store=lambda: store)


def _build(config: Config, suite: Suite, tokenizer: Path, home: Path, stopping: Stopping) -> dict[str, EvaluationSet]:
    cache = home / "cache" / "datasets"
    sets = build_all(suite, SPLITS, tokenizer, seed=config.seed, cache=cache, allow_task_code=config.allow_task_code)
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
        progress.say(choice.told)
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
