"""What people look at: the services' pages, the report of a run, and what to do with its result."""

import json
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError
from psomerge.evals.engines.choice import choose
from psomerge.files.untrusted import read_json
from psomerge.flows.environment.home import home_folder, prepare
from psomerge.tasks.release.flavour import CONFIG_LIMIT, is_paired
from psomerge.tasks.report import page as pages
from psomerge.tasks.report.summary import read
from psomerge.tasks.services.servers import running
from psomerge.tasks.services.stores import tracking_uri
from psomerge.tasks.tracking.addresses import SERVERS
from psomerge.tasks.tracking.store import REGISTRY, TRACKING

KV_CACHE_BYTES = 2**30
"""Of the server that is told of."""
FALLBACK = "Hello"
LONGEST_PROMPT = 200
"""Characters of a prompt on the command line."""


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Starts the Prefect and MLflow servers over this home on loopback, prints their addresses, and ends them at Ctrl-C
    or SIGTERM. Port 0 is any free one."""
    from psomerge.tasks.services.servers import serving

    home = home_folder()
    prepare(home)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the first is ignored where a shell started us in the background, the second would leave the servers
        signal.signal(number, signal.default_int_handler)
    with serving(home, prefect_port=prefect_port, mlflow_port=mlflow_port) as servers:
        for name, server in servers.items():
            print(f"{name}: {server.page}", flush=True)
        print("Ctrl-C ends both; runs started meanwhile appear there live", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def report_of(run: str, home: Path) -> Path:
    """Returns the path of a run's page, written anew from its summary.

    Args:
        run: run key, its beginning, or the folder.

    Raises:
        ConfigError: no run, or several, of that name.
        StateError: a run without a summary, or with a damaged one.
    """
    found = [Path(run)] if os.sep in run else sorted((home / "runs").glob(f"{run}*"))
    folders = [folder for folder in found if (folder / "run.json").is_file()]
    if len(folders) != 1:
        raise ConfigError(
            f"{run}: expected one run under {home / 'runs'}, found {len(folders)}; give its key as `psomerge run` "
            "printed it"
        )
    report = folders[0] / "report"
    return pages.write(read(report / "summary.json"), report)


def program(name: str) -> str:
    """Returns how a shell starts a program of this installation: by its name where that finds it, else by its path."""
    own = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found and Path(found) == own:  # not what it leads to: an environment's python is a link to the system's
        return name
    here = Path.cwd()
    return shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))


def next_steps(result: Mapping[str, Any]) -> list[str]:
    """Returns what to do with a result: lines that run as they are in the shell and the folder where the run was."""
    python = program("python")
    config = read_json(Path(result["checkpoint"]) / "config.json", CONFIG_LIMIT)
    paired = is_paired(config)
    uri = result["model_uri"] if result["alias"] != "champion" else result["model_uri"].rpartition("/")[0] + "@champion"
    prompt, stores = showcase(result), _stores(result)
    how = 'return_type="components"' if paired else ""
    code = f'import mlflow; model = mlflow.transformers.load_model("{uri}"{", " + how if how else ""}); '
    # Of a sequence-to-sequence model its card says how to go on: there is neither a pipeline nor a server for it.
    code += "print(model)" if paired else f"print(model({json.dumps(prompt)}, max_new_tokens=8, do_sample=False))"
    asked = {"model": "champion/model", "prompt": prompt, "max_tokens": 8, "temperature": 0}
    steps = [
        *_pages(stores),
        f"{python} -m webbrowser {shlex.quote(Path(result['report']).as_uri())}",
        "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in stores.items()),
        f"{python} -c {shlex.quote(code)}",
        f"{program('mlflow')} artifacts download --artifact-uri {shlex.quote(uri)} --dst-path champion",
    ]
    if choose("auto", config).kind == "vllm":
        # The CPU build's own `vllm serve` does not start. Without a size vLLM wants 0.92 of the memory, free or not.
        server = "-m vllm.entrypoints.openai.api_server --model champion/model --host 127.0.0.1 --port 8000"
        address, kind = "http://127.0.0.1:8000/v1/completions", "Content-Type: application/json"
        steps += [
            f"{python} {server} --kv-cache-memory-bytes {KV_CACHE_BYTES} &    # a minute; `kill %1` ends it",
            f"curl -s --retry 100 --retry-delay 3 --retry-connrefused {address} -H '{kind}' -d "
            f"{shlex.quote(json.dumps(asked))}",
        ]
    return steps


def _stores(result: Mapping[str, Any]) -> dict[str, str]:
    """What has MLflow's own programs look where the model is: a server of the registry's own has its files, too; files
    of any other are where the run was kept. A server that `psomerge ui` runs over this home ends with it, and its
    database stays."""
    home = home_folder()
    tracking = result["tracking_uri"]
    registry = result.get("registry_uri", tracking)  # results of before that was told have none
    server = running(home).get("mlflow")
    tracking, registry = (tracking_uri(home) if server and uri == server.api else uri for uri in (tracking, registry))
    values = {TRACKING: registry if registry.startswith(SERVERS) else tracking, REGISTRY: registry}
    if values[TRACKING] == values[REGISTRY]:
        del values[REGISTRY]
    return values


def _pages(stores: Mapping[str, str]) -> list[str]:
    """The lines that show what was tracked and registered: this home's pages, and MLflow's of another store."""
    ui, tracking = f"{program('psomerge')} ui", stores[TRACKING]
    if tracking == tracking_uri(home_folder()) and REGISTRY not in stores:
        return [f"{ui}    # the Prefect and MLflow pages, until Ctrl-C"]
    if tracking.startswith(SERVERS):
        shown = f"{program('python')} -m webbrowser {shlex.quote(tracking)}"
    else:
        registry = f" --registry-store-uri {shlex.quote(stores[REGISTRY])}" if REGISTRY in stores else ""
        shown = f"{program('mlflow')} ui --backend-store-uri {shlex.quote(tracking)}{registry}    # the MLflow page"
    return [f"{ui}    # the Prefect page, until Ctrl-C", shown]


def showcase(result: Mapping[str, Any]) -> str:
    """Returns the prompt of a test item that shows what the merge is for: one that the model answers, of the benchmark
    that it gained most on over the base."""
    import pyarrow.parquet as pq

    summary = read(Path(result["summary"]))
    merged, base = summary.row(summary.result), summary.row("base")
    if merged is None or base is None:
        return FALLBACK
    both = [name for name in merged.benchmarks if name in base.benchmarks]
    gained = sorted(both, key=lambda name: base.benchmarks[name].mean - merged.benchmarks[name].mean)
    path = Path(result["summary"]).with_name("items-test.parquet")
    rows = pq.read_table(path, columns=["model", "benchmark", "value", "prompt"]).to_pylist()
    for name in gained:
        for row in rows:
            prompt = row["prompt"]
            if (row["model"], row["benchmark"]) == (merged.label, name) and row["value"] >= 1 and _fits(prompt):
                return prompt
    return FALLBACK


def _fits(prompt: str) -> bool:
    return prompt.isprintable() and len(prompt) <= LONGEST_PROMPT
