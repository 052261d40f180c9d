"""Making a model of 4 LoRA adapters beside making it of 4 full bf16 experts, with and without their DARE copies."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.measure import interleaved, median_ratio
from benchmarks.merge_pass import recipes
from benchmarks.models import LARGE, SMALL, make_models
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.files.names import ADAPTER, ADAPTER_WEIGHTS
from psomerge.merge.basis import Basis, open_basis


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--adapter-rounds", type=int, default=5)


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns seconds and ratios on one thread, compiled unless `--small`."""
    folders = make_models(scratch / "models", SMALL if options.small else LARGE, 4)
    adapters = {"base": folders["base"]}
    for number in range(1, 5):
        adapters[f"adapter{number}"] = _adapter(folders["base"], scratch / f"adapter{number}", options.rank, number)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        full, low_rank = (open_basis(one, compiled=not options.small) for one in (folders, adapters))
        pairs = zip(recipes(full).items(), recipes(low_rank).values(), strict=True)
        return {
            label: _measure((full, recipe), (low_rank, other), options.adapter_rounds)
            for (label, recipe), other in pairs
        }
    finally:
        torch.set_num_threads(before)


def _measure(full: tuple[Basis, Any], low_rank: tuple[Basis, Any], rounds: int) -> dict[str, float]:
    def make(basis: Basis, recipe: Any) -> None:
        for _ in basis.merged_tensors(recipe):
            pass

    of_full, of_low_rank = interleaved([lambda: make(*full), lambda: make(*low_rank)], rounds)
    return {
        "full_experts_s": median(one.wall for one in of_full),
        "adapters_s": median(one.wall for one in of_low_rank),
        "adapters_over_full": median_ratio(of_low_rank, of_full),
    }


def _adapter(base: Path, folder: Path, rank: int, seed: int) -> Path:
    """A random adapter on every linear layer, as PEFT writes it."""
    folder.mkdir(exist_ok=True)
    draw, tensors = torch.Generator().manual_seed(seed), {}
    for name, info in open_checkpoint(base).tensors.items():
        if name.endswith("_proj.weight"):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            rows, columns = info.shape
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, columns, generator=draw).bfloat16()
            tensors[f"{module}.lora_B.weight"] = (0.01 * torch.randn(rows, rank, generator=draw)).bfloat16()
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    (folder / ADAPTER).write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}))
    return folder
