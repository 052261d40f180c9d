"""Adapters as trainers write them: one and the same sum, whatever its file calls its tensors, and a clear word where
the file says none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.adapters import change, lora, merged_by_peft
from made.models import tiny_llama
from psomerge.checkpoint.adapter import Adapter, open_adapter
from psomerge.checkpoint.adapter_keys import Kind, read_key
from psomerge.checkpoint.headers import checkpoint_of_headers, header_guesses
from psomerge.checkpoint.plain_names import Names
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.names import ADAPTER_WEIGHTS, MLX_WEIGHTS
from psomerge.files.untrusted import listing
from psomerge.fit.adapters import adapter_warnings
from psomerge.screening.selection import checkpoint_files

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

Tensors = dict[str, torch.Tensor]
PREFIX = "base_model.model."
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("place") / "tiny", tied=False, dtype=torch.float32, layers=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """An adapter of linear layers and the embedding, with a head that was trained whole."""
    settings = {"target_modules": ["q_proj", "down_proj", "embed_tokens"], "modules_to_save": ["lm_head"]}
    return lora(base, tmp_path_factory.mktemp("plain") / "plain", **settings)


@pytest.fixture(scope="module")
def expected(base: Path, plain: Path) -> Tensors:
    return merged_by_peft(base, plain)


def rewritten(plain: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """The adapter with other tensors or names in its file."""
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((plain / "adapter_config.json").read_bytes())
    tensors = change(load_file(plain / ADAPTER_WEIGHTS))
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / ADAPTER_WEIGHTS)
    return folder


def same_sum(opened: Checkpoint, expected: Tensors) -> None:
    for name in opened.tensors:
        torch.testing.assert_close(opened.tensor(name).float(), expected[name], rtol=2e-6, atol=2e-6)
    assert not torch.equal(opened.tensor(HEAD), opened.base.tensor(HEAD))  # pyright: ignore


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def named(name: str, adapter: str = "default") -> str:
    """A key as `model.state_dict()` has it, which keeps the adapter's name."""
    for side in "AB":
        name = name.replace(f".lora_{side}.weight", f".lora_{side}.{adapter}.weight")
        name = name if not name.endswith(f".lora_embedding_{side}") else f"{name}.{adapter}"
    return name.replace("lm_head.weight", f"lm_head.modules_to_save.{adapter}.weight")


def with_original(base: Path) -> Callable[[Tensors], Tensors]:
    """The whole state of the wrapped head, its frozen half too, as FSDP's full state has it."""
    head = load_file(base / "model.safetensors")[HEAD]

    def change(tensors: Tensors) -> Tensors:
        return renamed(named)(tensors) | {f"{PREFIX}lm_head.original_module.weight": head}

    return change


DIALECTS: dict[str, Callable[[Path], Callable[[Tensors], Tensors]]] = {
    "PEFT": lambda base: lambda tensors: tensors,
    "an adapter's name in the keys": lambda base: renamed(named),
    "another adapter's name": lambda base: renamed(lambda name: named(name, "my-lora_2")),
    "the prefix twice": lambda base: renamed(lambda name: PREFIX + name),
    "the prefix three times, and a name": lambda base: renamed(lambda name: PREFIX * 2 + named(name)),
    "no prefix": lambda base: renamed(lambda name: name.removeprefix(PREFIX)),
    "data parallel": lambda base: renamed(lambda name: "module." + named(name)),
    "compiled": lambda base: renamed(lambda name: "_orig_mod." + name),
    "compiled inside": lambda base: renamed(lambda name: name.replace(".self_attn.", "._orig_mod.self_attn.")),
    "FSDP": lambda base: renamed(
        lambda name: "_fsdp_wrapped_module." + named(name).replace(".layers.0.", ".layers.0._fsdp_wrapped_module.")
    ),
    "checkpointed activations": lambda base: renamed(
        lambda name: name.replace(".layers.0.", ".layers.0._checkpoint_wrapped_module.")
    ),
    "a model without a head": lambda base: renamed(lambda name: name.replace(PREFIX + "model.", PREFIX)),
    "modules_to_save without a name": lambda base: renamed(
        lambda name: name.replace("lm_head.weight", "lm_head.modules_to_save.weight")
    ),
    "the original module beside what was saved": with_original,
    "a base layer that a sharded trainer left empty": lambda base: (
        lambda tensors: tensors | {f"{PREFIX}model.embed_tokens.base_layer.weight": torch.zeros(0)}
    ),
    "the embedding that it left empty": lambda base: (
        lambda tensors: (
            {name: tensor for name, tensor in tensors.items() if "base_layer" not in name}
            | {f"{PREFIX}model.embed_tokens.weight": torch.zeros(0)}
        )
    ),
    "the original module that it left empty": lambda base: (
        lambda tensors: renamed(named)(tensors) | {f"{PREFIX}lm_head.original_module.weight": torch.zeros(0)}
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_adapter_is_the_same_sum_in_the_words_of_any_trainer(
    tmp_path: Path, base: Path, plain: Path, expected: Tensors, dialect: str
) -> None:
    folder = rewritten(plain, tmp_path / "one", DIALECTS[dialect](base))
    opened = open_adapter(folder, open_checkpoint(base), "one")
    same_sum(opened, expected)
    left = [str(one) for one in adapter_warnings(opened.base, opened)]
    assert len(left) == ("left empty" in dialect)  # what was left out is said
    assert all("tensors of shape [0]: expected none, found base_model.model." in one for one in left)
    # The same by its headers alone, as `plan` sees a model that is not here.
    files = listing(folder)
    heads = {name: (folder / name).read_bytes() for name in header_guesses(folder, files)}
    seen = checkpoint_of_headers(folder, "one", files, heads, open_checkpoint(base))
    assert isinstance(seen, Adapter)
    assert (seen.low_rank.keys(), seen.whole.keys()) == (opened.low_rank.keys(), opened.whole.keys())


def emptied(words: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: torch.zeros(0) if words in name else tensor for name, tensor in tensors.items()}


UNCLEAR: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "factors left empty": (
        emptied(".lora_A."),
        r"2 of its tensors, such as '.*down_proj.lora_A.weight', have shape \[0\]: a sharded trainer .* held the "
        r"values elsewhere .* stage3_gather_16bit_weights_on_model_save, or gather .* zero_to_fp32.py$",
    ),
    "a saved module left empty": (
        emptied("lm_head"),
        r"1 of its tensors, such as '.*lm_head.weight', have shape \[0\]",
    ),
    "two adapters in one file": (
        lambda t: renamed(named)(t) | {named(name, "other"): tensor for name, tensor in t.items() if "q_proj" in name},
        r"holds several adapters \(default, other\), expected one; save the one that is meant with PEFT's "
        r"save_pretrained\(FOLDER, selected_adapters=\['default'\]\)$",
    ),
    "one factor under two names": (
        lambda t: t | {PREFIX + name: tensor for name, tensor in t.items() if "q_proj.lora_A" in name},
        "has the factor A of 'model.layers.0.self_attn.q_proj.weight' twice",
    ),
    "a saved module under two names": (
        lambda t: t | {f"{PREFIX}lm_head.modules_to_save.default.weight": t[f"{PREFIX}lm_head.weight"].clone()},
        "changes 'lm_head.weight' twice",
    ),
    "the original module of another base": (
        lambda t: t | {f"{PREFIX}lm_head.original_module.weight": t[f"{PREFIX}lm_head.weight"].clone()},
        "is 'lm_head.weight' as it was before the training, and not this base's; give the base that it was trained on",
    ),
    "a magnitude under a name": (
        lambda t: t | {f"{PREFIX}model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight": torch.ones(64)},
        "is no factor of a low-rank product; where you trust it, merge it into a checkpoint: python -c "
        ".*merge_and_unload",
    ),
    "a prefix of nothing": (renamed(lambda name: f"tower.{name}"), "which the base has not"),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_where_the_sum_is_not_clear_it_says_what_happened_and_what_to_do(
    tmp_path: Path, base: Path, plain: Path, kind: str
) -> None:
    change, words = UNCLEAR[kind]
    with pytest.raises(ArtefactError, match=words) as caught:
        open_adapter(rewritten(plain, tmp_path / "one", change), open_checkpoint(base), "one")
    assert "\n" not in str(caught.value)
    assert ("give the base that it was trained on" in str(caught.value)) == ("base" in kind or "prefix" in kind)


def test_a_saved_part_of_a_module_is_told_from_an_adapter_s_name() -> None:
    key = read_key(f"{PREFIX}score.modules_to_save.dense.weight", Names({"score.dense.weight"}))
    assert (key.kind, key.target, key.adapter) == (Kind.SAVED, "score.dense.weight", None)
    key = read_key(f"{PREFIX}score.modules_to_save.dense.weight", Names({"score.weight"}))
    assert (key.kind, key.target, key.adapter) == (Kind.SAVED, "score.weight", "dense")


# MLX


def mlx(plain: Path, folder: Path, config: dict | None = None, **settings: object) -> Path:
    """The adapter as MLX's trainer would have written it: factors the other way up, alpha / rank as its scale."""
    folder.mkdir()
    tensors: Tensors = {}
    for name, tensor in load_file(plain / ADAPTER_WEIGHTS).items():
        module, _, factor = name.removeprefix(PREFIX).partition(".lora_")
        if factor:  # of a layer (columns, rank) and (rank, rows), of an embedding (tokens, rank) and (rank, width)
            side = factor.removeprefix("embedding_")[0].lower()
            tensors[f"{module}.lora_{side}"] = tensor.t().contiguous()
        elif "base_layer" not in name:
            tensors[name.removeprefix(PREFIX)] = tensor
    save_file(tensors, folder / MLX_WEIGHTS, metadata={"format": "mlx"})
    save_file(tensors, folder / "0000100_adapters.safetensors", metadata={"format": "mlx"})
    content = {
        "adapter_path": "adapters",
        "batch_size": 4,
        "fine_tune_type": "lora",
        "lora_parameters": {"rank": 4, "dropout": 0.0, "scale": 2.0},
        "model": "mlx-community/tiny",
        "num_layers": 16,
        "optimizer_config": {"adam": {}},
        "train": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps((content if config is None else config) | settings))
    return folder


def test_an_adapter_of_mlx_is_the_sum_that_mlx_makes(
    tmp_path: Path, base: Path, plain: Path, expected: Tensors
) -> None:
    folder = mlx(plain, tmp_path / "one")
    opened = open_adapter(folder, open_checkpoint(base), "one")
    same_sum(opened, expected)
    assert list(adapter_warnings(opened.base, opened)) == []
    # By hand, as LoRALinear and LoRAEmbedding of MLX compute it: x @ a @ b, times the scale.
    stored, name = load_file(folder / MLX_WEIGHTS), "model.layers.0.mlp.down_proj"
    a, b = (stored[f"{name}.lora_{side}"] for side in "ab")
    x = torch.randn(3, a.shape[0], generator=torch.Generator().manual_seed(0))
    added = opened.tensor(f"{name}.weight") - opened.base.tensor(f"{name}.weight")
    torch.testing.assert_close(x @ added.t(), 2.0 * (x @ a @ b), rtol=1e-4, atol=1e-4)
    assert set(checkpoint_files("hf://org/mlx", listing(folder))) == {"adapter_config.json", MLX_WEIGHTS}


def test_a_full_fine_tune_of_mlx_replaces_tensors(tmp_path: Path, base: Path, plain: Path) -> None:
    folder = mlx(plain, tmp_path / "one", fine_tune_type="full")
    norm = torch.full((64,), 3.0)
    save_file({"model.layers.0.input_layernorm.weight": norm}, folder / MLX_WEIGHTS)
    opened = open_adapter(folder, open_checkpoint(base), "one")
    assert torch.equal(opened.tensor("model.layers.0.input_layernorm.weight"), norm)
    assert list(opened.whole) == ["model.layers.0.input_layernorm.weight"]


REFUSED_MLX = {
    "DoRA": ({"fine_tune_type": "dora"}, "fine_tune_type lora or full, found 'dora'; .* python -m mlx_lm fuse --model"),
    "no scale": ({"lora_parameters": {"rank": 4, "alpha": 16}}, "lora_parameters.scale is None, expected a positive"),
    "scale of text": ({"lora_parameters": {"rank": 4, "scale": "2"}}, "lora_parameters.scale is '2'"),
    "another rank": (
        {"lora_parameters": {"rank": 5, "scale": 2.0}},
        "has factors of rank 4, adapter_config.json says 5",
    ),
    "parameters of nonsense": ({"lora_parameters": [7]}, "lora_parameters.rank is None"),
}


@pytest.mark.parametrize("kind", REFUSED_MLX)
def test_what_is_no_sum_of_mlx_is_refused(tmp_path: Path, base: Path, plain: Path, kind: str) -> None:
    fields, words = REFUSED_MLX[kind]
    with pytest.raises(ArtefactError, match=words):
        open_adapter(mlx(plain, tmp_path / "one", **fields), open_checkpoint(base), "one")


def test_factors_for_each_expert_of_a_mixture_are_refused_with_mlx_s_own_command(
    tmp_path: Path, base: Path, plain: Path
) -> None:
    folder = mlx(plain, tmp_path / "one")
    name = "model.layers.0.mlp.up_proj"
    save_file({f"{name}.lora_a": torch.ones(2, 4, 64), f"{name}.lora_b": torch.ones(2, 128, 4)}, folder / MLX_WEIGHTS)
    with pytest.raises(
        ArtefactError, match=r"factors of shapes \[2, 4, 64\] .* mlx_lm fuse --model mlx-community/tiny"
    ):
        open_adapter(folder, open_checkpoint(base), "one")


# The base that it was trained on


@pytest.mark.parametrize(
    ("named", "warned"),
    [
        ("{base}", False),
        ("org/tiny", False),
        ("Org/Tiny", False),
        ("/home/somebody/models/tiny/", False),
        ("C:\\models\\tiny", False),
        ("", False),
        (None, False),
        ("org/tiny-instruct", True),
        ("org/another", True),
        ("{other}", True),
        ("/home/somebody/another", True),
    ],
)
def test_another_base_in_an_adapter_s_settings_is_told(
    tmp_path: Path, base: Path, plain: Path, named: str | None, warned: bool
) -> None:
    other = tiny_llama(tmp_path / "tiny", 7, tied=False, dtype=torch.float32, layers=1)
    folder = rewritten(plain, tmp_path / "one", lambda tensors: tensors)
    change(folder, base_model_name_or_path=named and named.format(base=base, other=other))
    opened = open_adapter(folder, open_checkpoint(base), "one")
    found = [str(warning) for warning in adapter_warnings(opened.base, opened)]
    assert len(found) == warned
    assert all(
        one.startswith('expert "one": base that it was trained on, by adapter_config.json: expected ') for one in found
    )


def test_a_cache_s_folder_has_the_name_of_its_model(tmp_path: Path) -> None:
    from psomerge.fit.adapters import may_be

    assert may_be("org/tiny", tmp_path / "models--org--tiny" / "snapshots" / "0123")
    assert may_be("org/tiny", tmp_path / "experts" / "hub" / "org" / "tiny" / "0123")
    assert not may_be("org/tiny", tmp_path / "models--org--other" / "snapshots" / "0123")
