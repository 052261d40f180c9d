"""Fetching a model from a hub on loopback, as `psomerge` does, with all its proofs, beside the stock client's
`snapshot_download` alone."""

import importlib
import json
import multiprocessing
import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Time, median_ratio, timed

NAME = "org/model"
MEBIBYTE = 2**20


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=500, help="of all shards together")


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns seconds of both, and the median over rounds of their ratio."""
    size = 1 if options.small else options.megabytes
    model = make(scratch / "downloads" / "model", size * 10**6 // options.shards, options.shards)
    os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}  # before the client is imported
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(model, theirs), daemon=True)
    server.start()
    try:
        os.environ["HF_ENDPOINT"] = ours.recv()
        fetches, stocks = measure(scratch / "downloads", options.rounds)
    finally:
        ours.send("stop")
        server.join()
    bytes_of_model = sum(path.stat().st_size for path in model.iterdir())
    return {
        f"{bytes_of_model / 1e6:.0f} MB in {options.shards} shards": {
            "seconds": median(one.wall for one in fetches),
            "stock_seconds": median(one.wall for one in stocks),
            "over_stock": median_ratio(fetches, stocks),
            "over_stock_by_fastest": min(one.wall for one in fetches) / min(one.wall for one in stocks),
            "over_stock_by_cpu_time": median_ratio(fetches, stocks, "cpu"),
        }
    }


def make(folder: Path, size: int, shards: int) -> Path:
    """Returns a folder with a config, an index and shards of `size` random bytes each; nothing here reads tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    for name in names:
        if not (folder / name).exists() or (folder / name).stat().st_size != size:
            (folder / name).write_bytes(os.urandom(size))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))
    return folder


def serve(model: Path, pipe: Connection) -> None:
    """Serves a folder until something comes through the pipe: in a process of its own, so that it takes no time of the
    clients' interpreter."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    with importlib.import_module("doubles.hub_server").serving() as hub:
        hub.push(NAME, model)
        pipe.send(hub.address)
        pipe.recv()


def measure(scratch: Path, rounds: int) -> tuple[list[Time], list[Time]]:
    """Returns the times of fetches and of stock downloads, taken in turns, each into an empty folder; first each runs
    once untimed."""
    from huggingface_hub import snapshot_download

    from psomerge.tasks.sources.fetch import fetch

    def ours(folder: Path) -> None:
        fetch(f"hf://{NAME}", folder, lambda what, share: None)

    def stock(folder: Path) -> None:
        snapshot_download(NAME, cache_dir=folder, endpoint=os.environ["HF_ENDPOINT"])

    times: dict[Callable[[Path], None], list[Time]] = {ours: [], stock: []}
    for number in range(rounds + 1):
        for work in times if number % 2 else reversed(times):  # who comes second finds more to be written behind it
            shutil.rmtree(scratch / "fetched", ignore_errors=True)
            os.sync()
            taken = timed(lambda work=work: work(scratch / "fetched"))
            if number:
                times[work].append(taken)
                print(f"  {work.__name__} {taken.wall:.2f} s", file=sys.stderr)
    shutil.rmtree(scratch / "fetched")
    return times[ours], times[stock]
