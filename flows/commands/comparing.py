"""`psomerge evaluate` and `psomerge compare`: what the terminal shows of them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError, PsomergeError, together
from psomerge.evals.harness import inspect
from psomerge.evals.suites.file import load_suite
from psomerge.files.digest import digest_of
from psomerge.flows.config.loading import configs_folder, evaluation_config
from psomerge.flows.environment.home import home_folder, open_named_stores, prepare, settle
from psomerge.flows.environment.start import start_services
from psomerge.flows.terminal.leaderboard import show
from psomerge.flows.terminal.progress import Progress
from psomerge.tasks.report.leaderboard import Leaderboard, differing, from_dict
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.evaluate import Scored
from psomerge.tasks.sources.origin import Access
from psomerge.tasks.sources.preview import look
from psomerge.tasks.step import call

WIDTH = 600
"""Characters of a prompt or an output that are printed."""


def evaluate_model(model: str, suite: str, overrides: list[str], *, as_json: bool) -> None:
    """Prints the scores of a model on a suite."""
    _start([model], suite, overrides)
    from psomerge.flows.evaluation import evaluate

    result = call(evaluate, model, suite, overrides)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    show(from_dict(result["leaderboard"]), sys.stdout)
    print(f"\nitems: {result['items']}\nMLflow run {result['mlflow_run']} at {result['tracking_uri']}")


def compare_models(models: list[str], suite: str, overrides: list[str], *, items: int, as_json: bool) -> None:
    """Prints the leaderboard of models on a suite, and the items that the first two answer differently; the leaderboard
    is kept as JSON and as a picture.

    Raises:
        ConfigError: fewer than two models.
    """
    if len(set(models)) < 2:
        raise ConfigError(
            f"expected two or more models to compare, found {len(set(models))}; `psomerge evaluate` scores one alone"
        )
    _start(models, suite, overrides)
    from psomerge.flows.evaluation import compare

    board, scored = call(compare, models, suite, overrides)
    folder = home_folder() / "comparisons" / digest_of(board.to_dict())[:16]
    _keep(board, folder)
    apart = _apart(board, scored, items)
    if as_json:
        print(json.dumps({**board.to_dict(), "items": apart, "figure": str(folder / "leaderboard.png")}, indent=2))
        return
    show(board, sys.stdout)
    for one in apart:
        print("\n" + "\n".join(_lines(one)))
    print(f"\nplot: {folder / 'leaderboard.png'}")


def _start(models: list[str], suite: str, overrides: list[str]) -> None:
    config = evaluation_config(suite, overrides)  # before anything slow: what cannot be is told at once
    home = home_folder()
    settle(home)
    open_named_stores(home)
    found = inspect(
        load_suite(config.suite, configs_folder() / "suites"),
        (config.split,),
        seed=config.seed,
        cache=home / "cache" / "datasets",
        allow_task_code=config.allow_task_code,
    )
    problems = [*found.problems]
    with Progress() as progress:
        for model in dict.fromkeys(models):
            try:
                look(model, Access(home, progress.fetching, lambda: prepare(home).mlflow))
            except PsomergeError as error:
                problems.append(error)
    if problems:
        raise together(problems)
    start_services(home)


def _keep(board: Leaderboard, folder: Path) -> None:
    from psomerge.tasks.report.leaderboard_figure import leaderboard_figure

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "leaderboard.json").write_text(json.dumps(board.to_dict(), indent=2), encoding="utf-8")
    leaderboard_figure(board).savefig(folder / "leaderboard.png")


def _apart(board: Leaderboard, scored: Mapping[str, Scored], most: int) -> list[dict[str, Any]]:
    """Up to `most` items that the two models of the breakdown answer differently, with both answers, spread over the
    benchmarks."""
    if board.versus is None or most < 1:
        return []
    two = (board.versus.first, board.versus.second)
    found = differing(*(scored[label].scores for label in two))
    step = max(1, len(found) // most)
    examples = [
        {(one.benchmark, one.item): one for file in scored[label].files for one in traces.read(file)} for label in two
    ]
    rows = []
    for one in found[::step][:most]:
        first, second = (by_item[one.benchmark, one.item] for by_item in examples)
        answers = {
            label: {"output": mine.output, "extracted": mine.extracted, "value": mine.value}
            for label, mine in zip(two, (first, second), strict=True)
        }
        rows.append(
            {
                "benchmark": one.benchmark,
                "item": one.item,
                "prompt": first.prompt,
                "reference": first.reference,
                "answers": answers,
            }
        )
    return rows


def _lines(one: Mapping[str, Any]) -> list[str]:
    def short(text: str) -> str:
        text = text if len(text) <= WIDTH else "... " + text[-WIDTH:]
        return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text).replace(
            "\n", "\n    "
        )

    head = [
        f"{one['benchmark']} {one['item']}",
        f"    {short(one['prompt'])}",
        f"  expected: {short(one['reference'])}",
    ]
    return head + [
        f"  {label} ({answer['value']:.2f}): {short(answer['output'] or answer['extracted'])}"
        for label, answer in one["answers"].items()
    ]
