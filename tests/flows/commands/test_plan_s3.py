"""What `psomerge plan` sees of models in S3: small files and headers, and nothing of their weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from doubles.s3_server import S3, behind, passed_off, serving
from made.adapters import lora
from made.models import tiny_llama
from psomerge.errors import ArtefactError
from psomerge.tasks.sources.fetch import fetch
from runs.command_line import psomerge

__all__ = ["behind"]

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]


@pytest.fixture
def served(behind: tuple[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    """A base and an adapter of it in a bucket."""
    with serving(behind) as s3:
        passed_off(s3, monkeypatch, tmp_path)
        base = tiny_llama(tmp_path / "base", hidden=256)
        put(s3, base, "base")
        put(s3, lora(base, tmp_path / "adapter", 1, r=64), "adapter")
        yield s3


def put(s3: S3, folder: Path, name: str) -> None:
    s3.put({file.name: file.read_bytes() for file in folder.iterdir()}, prefix=f"models/{name}/")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def written(folder: Path, *experts: str) -> Path:
    content = {
        "name": "small",
        "base": "s3://bucket/models/base",
        "experts": {name: f"s3://bucket/models/{name}" for name in experts},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content | {"suite": "bayling2", "register": {"model": "small"}}))
    return path


def planned(config: Path, home: Path) -> dict[str, Any]:
    said = psomerge("plan", config, "--json", home=home)
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_a_plan_reads_headers_of_s3_once(served: S3, home: Path, tmp_path: Path) -> None:
    config = written(tmp_path, "adapter")
    plan = planned(config, home)
    weights = {
        "base": tmp_path / "base" / "model.safetensors",
        "adapter": tmp_path / "adapter" / "adapter_model.safetensors",
    }
    sizes = {name: path.stat().st_size for name, path in weights.items()}
    assert {name: plan["models"][name]["download_bytes"] for name in sizes} == sizes
    assert plan["memory"] is not None
    assert not list(home.rglob("*.safetensors"))
    asked = [request for request in served.requests if request.method == "GET" and ".safetensors" in request.path]
    assert len(asked) == 2
    ends = [int(request.headers["Range"].rpartition("-")[2]) for request in asked]
    assert all(end < 2**16 < size for end, size in zip(ends, sizes.values(), strict=True))
    served.requests.clear()
    again = planned(config, home)
    assert again == plan | {key: again[key] for key in ("disk",)}
    assert not [line for line in served.asked() if line.startswith("GET")]
    # What is written there later is not what was planned: that has its bytes, or none.
    stored = load_file(weights["adapter"])
    save_file({name: tensor + 1 for name, tensor in stored.items()}, weights["adapter"])
    put(served, tmp_path / "adapter", "adapter")
    with pytest.raises(ArtefactError, match="is no longer as it was listed"):
        fetch(plan["models"]["adapter"]["source"], home, lambda what, share: None)


def test_a_plan_that_is_refused_binds_nobody_and_names_the_misfits(served: S3, home: Path, tmp_path: Path) -> None:
    put(served, tiny_llama(tmp_path / "other", hidden=64), "other")
    said = psomerge("plan", written(tmp_path, "other"), home=home)
    assert said.code == 3
    assert 'expert "other" has hidden_size 64 in its config.json, the base 256' in said.text
    assert not list(home.rglob("pinned"))


def test_what_the_plan_saw_is_fetched_and_only_the_weights_are_asked_for(
    served: S3, home: Path, tmp_path: Path
) -> None:
    plan = planned(written(tmp_path, "adapter"), home)
    served.requests.clear()
    found = fetch("s3://bucket/models/base", home, lambda what, share: None)
    assert found.source == plan["models"]["base"]["source"]
    assert {path for path in served.asked() if path.startswith("GET")} == {"GET model.safetensors"}
    assert torch.equal(
        *(load_file(folder / "model.safetensors")["model.norm.weight"] for folder in (found.folder, tmp_path / "base"))
    )


@pytest.mark.parametrize("fault", ["cut", "short", "reset", (503, "SlowDown")])
def test_a_header_that_breaks_off_is_asked_for_again(served: S3, home: Path, tmp_path: Path, fault: Any) -> None:
    served.times(fault, only="GET /bucket/models/base/model.safetensors", count=1)
    planned(written(tmp_path, "adapter"), home)
    served.times((503, "SlowDown"), only="GET /bucket/models/base/model.safetensors", count=99)
    said = psomerge("plan", written(tmp_path, "adapter"), home=tmp_path / "second")
    assert said.code == 4
    assert "s3://bucket/models/base" in said.text
