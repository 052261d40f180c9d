"""Adapters through the whole pipeline, beside a full expert and from the hub; and what they cost in memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from doubles.hub_server import serving
from made.adapters import ALL_LINEAR, lora
from made.models import tiny_llama
from runs.small_run import perturbed, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """A full expert, an adapter in a folder, and one on a hub."""
    small = small_run(tmp_path_factory.mktemp("adapters"), swarm={"initial": "paper", "steps": 2, "drop_rate": 0.5})
    small.change(engine={"kind": "vllm", "kv_cache_gib": 0.0625, "max_num_seqs": 4, "max_num_batched_tokens": 2048})
    shutil.rmtree(small.folder / "expert2")
    lora(small.folder / "base", small.folder / "expert2", 2, r=8)
    lora(
        small.folder / "base", small.folder / "published", 3, use_rslora=True, target_modules=["q_proj", "embed_tokens"]
    )
    return small


def test_a_run_merges_adapters_with_a_full_expert_and_its_recipe_rebuilds_the_model(small) -> None:
    with serving() as hub:
        commit = hub.push(
            "org/adapter", {file.name: file.read_bytes() for file in (small.folder / "published").iterdir()}
        )
        small.change(
            experts={
                "full": str(small.folder / "expert1"),
                "local": str(small.folder / "expert2"),
                "remote": "hf://org/adapter@main",
            }
        )
        found = small.run(HF_ENDPOINT=hub.address)
    recipe = json.loads(Path(found["recipe"]).read_text())
    assert [expert["source"] for expert in recipe["experts"]][2] == f"hf://org/adapter@{commit}"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(recipe["experts"][1]["files"])
    # The engine's swaps and the published tensors are of one basis: the run has judged the published model again with
    # equal bits.
    assert found["version"] is not None
    done = small.psomerge("materialize", found["recipe"], "--out", "again")
    assert done.returncode == 0, done.stderr
    again, published = (
        load_file(next(folder.rglob("*.safetensors"))) for folder in (small.folder / "again", Path(found["checkpoint"]))
    )
    assert set(again) == set(published)
    assert all(torch.equal(again[name], published[name]) for name in again)
    assert not any("lora" in name for name in again)


def test_a_static_merge_takes_adapters(small) -> None:
    done = small.psomerge(
        "merge",
        "task_arithmetic",
        "--base",
        "base",
        "--expert",
        "expert1=0.5",
        "--expert",
        "expert2=0.5",
        "--out",
        "sum",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    base, expert, merged = (
        load_file(small.folder / folder / "model.safetensors") for folder in ("base", "expert1", "sum")
    )
    name = "model.layers.1.mlp.gate_proj.weight"
    a, b = (
        load_file(small.folder / "expert2" / "adapter_model.safetensors")[
            f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight"
        ]
        for part in "AB"
    )
    by_hand = (
        base[name].double()
        + 0.5 * (expert[name].double() - base[name].double())
        + 0.5 * (b.double() @ a.double()) * 8 / 8
    )
    torch.testing.assert_close(merged[name], by_hand.to(torch.bfloat16), rtol=2**-7, atol=1e-6)


PEAK = """
import sys
from pathlib import Path
from psomerge.merge.basis import open_basis
from psomerge.recipe import Recipe, Source
folders = {Path(folder).name: Path(folder) for folder in sys.argv[1:]}
names = [name for name in folders if name != "base"]
experts = tuple(Source(name, "", "") for name in names)
recipe = Recipe(Source("base", "", ""), experts, coefficients=((1 / len(names),) * len(names),))
for _ in open_basis(folders, compiled=False).merged_tensors(recipe): pass
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def peak_kib(*folders: Path) -> int:
    """Peak resident memory of a process that makes one merged model, pages of mapped files included."""
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, folders)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_32_adapters_cost_less_memory_than_two_full_experts(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", hidden=768, layers=8)  # 56 M parameters
    two = [perturbed(base, tmp_path / f"full{number}", number) for number in (1, 2)]
    first = lora(base, tmp_path / "adapter0", dtype=torch.bfloat16, r=8, target_modules=ALL_LINEAR)
    adapters = [first]
    for number in range(1, 32):
        folder = tmp_path / f"adapter{number}"
        folder.mkdir()
        shutil.copy(first / "adapter_config.json", folder)
        content = load_file(first / "adapter_model.safetensors")
        save_file({name: tensor.roll(number) for name, tensor in content.items()}, folder / "adapter_model.safetensors")
        adapters.append(folder)
    full, low_rank = peak_kib(base, *two), peak_kib(base, *adapters)
    assert low_rank < full
