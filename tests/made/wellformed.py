"""Checkpoints in which nothing is wrong, though some of it is rare: none may be refused."""

import base64
import io
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from made import tokenizers
from made.hub_cache import snapshot
from made.malformed import EXECUTED, OUTSIDE, TEMPLATE
from made.malformed_adapters import CONFIG, RANK, WEIGHTS
from made.malformed_folders import Payload, sharded
from made.malformed_weights import SAFE, split
from made.models import tiny_llama
from made.patterns import PATTERNS
from psomerge.files.names import PROCESSOR_FILES

LONG_TEMPLATE = """
{%- macro show(x) -%}
    {%- if x is mapping -%}{%- for k, v in x.items() -%}{{ k }}: {{ show(v) }}{%- endfor -%}{%- else -%}{{ x }}{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(text='') -%}
{%- for message in messages[::-1] -%}{%- if message.role == 'nobody' -%}{%- break -%}{%- endif -%}{%- endfor -%}
{%- for index in range(messages|length) -%}{%- set ns.text = ns.text + messages[index].content.split('x')[-1]|trim -%}{%- endfor -%}
{%- for message in messages -%}
    {{ '<|' ~ message['role'] ~ '|>' ~ show(message) }}
    {%- if message['role'] == 'assistant' -%}{% generation %}{{ eos_token }}{% endgeneration %}{%- endif -%}
{%- endfor -%}
{%- if strftime_now is defined -%}{{ strftime_now('%Y')[:0] }}{%- endif -%}
{{ {'a': 1}|tojson }}{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
DATED = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "Today Date: {{ date_string }}\n{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% endfor %}"
)
THINKING = (
    "{%- for m in messages %}{%- set content = m.content.split('</think>')[-1] %}<|{{ m.role }}|>{{ content }}"
    "{%- endfor %}{%- if add_generation_prompt %}<|assistant|>{%- if enable_thinking is defined and enable_thinking is "
    "false %}<think>\n\n</think>\n\n{%- endif %}{%- endif %}"
)


def in_json(folder: Path, file: str, **values: object) -> None:
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(content | values, indent=2))


def again(
    folder: Path,
    change: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None,
    metadata: dict | None = None,
) -> None:
    tensors = load_file(folder / SAFE)
    change(tensors)
    save_file(tensors, str(folder / SAFE), metadata=metadata)


def widened(tensors: dict[str, torch.Tensor]) -> None:
    """As sharded trainers save: what they hold, whatever the config says."""
    tensors.update({name: tensor.float() for name, tensor in tensors.items()})


def composite(tensors: dict[str, torch.Tensor]) -> None:
    """The names that the text part of a model of several parts has."""
    for name in list(tensors):
        tensors[name.replace("model.", "model.language_model.")] = tensors.pop(name)


def own_index(folder: Path) -> None:
    """Shards whose names follow no custom, and an index that says no total."""
    weight_map, index = sharded(folder)
    for old in set(weight_map.values()):
        (folder / old).rename(folder / f"Gewichte {old}")
    index.write_text(json.dumps({"weight_map": {name: f"Gewichte {file}" for name, file in weight_map.items()}}))


def tied_in_index(folder: Path) -> None:
    """As trainers leave it that count the head among the tensors, and store it only once."""
    weight_map, index = sharded(folder)
    index.write_text(json.dumps({"weight_map": weight_map | {"lm_head.weight": min(weight_map.values())}}))


def crowded(folder: Path) -> None:
    """Beside the model lies what people leave there; none of it is opened."""
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(folder.parent / OUTSIDE / EXECUTED)))
    (folder / "training_args.bin").write_bytes(b"x")
    (folder / "modeling_evil.py").write_text(f"open({str(folder.parent / OUTSIDE / EXECUTED)!r}, 'w')")
    (folder / "README.md").write_text("x" * 1_000_000)
    (folder / "original").mkdir()
    (folder / "original" / "link").symlink_to("/")


def more_templates(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(TEMPLATE)


def patterns(folder: Path) -> None:
    steps = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in PATTERNS.values()
    ]
    content = json.loads((folder / "tokenizer.json").read_text())
    in_json(
        folder,
        "tokenizer.json",
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, content["pre_tokenizer"]]},
    )


def replacements() -> bytes:
    """The table of replacements of SentencePiece's usual normalizer."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9), model_writer=model, vocab_size=9, hard_vocab_limit=False, minloglevel=9
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def sentencepiece_like(folder: Path) -> None:
    """A normalizer as converted from SentencePiece, with its real table of replacements."""
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(replacements()).decode()}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    blanks = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    in_json(
        folder,
        "tokenizer.json",
        normalizer={"type": "Sequence", "normalizers": [table, blanks, {"type": "Prepend", "prepend": "▁"}, spaces]},
    )


def unaligned(folder: Path) -> None:
    """A header of odd length, so that no tensor begins at a multiple of its width."""
    length, _, data = split((folder / SAFE).read_bytes())
    text = (folder / SAFE).read_bytes()[8 : 8 + length].rstrip() + b" " * (1 + len((folder / SAFE).read_bytes()) % 2)
    text += b" " * (len(text) % 2 == 0)
    (folder / SAFE).write_bytes(len(text).to_bytes(8, "little") + text + data)


def old_settings(folder: Path) -> None:
    """Paths of somebody's machine, as older versions left them."""
    paths = {
        "special_tokens_map_file": "/root/.cache/x/special_tokens_map.json",
        "tokenizer_file": None,
        "name_or_path": "../somebody/model",
    }
    in_json(folder, "tokenizer_config.json", **paths, init_inputs=[], auto_mapping=None)


def cached(folder: Path) -> None:
    """A snapshot of a hub cache, as the hub's client leaves it: all files are links into the cache."""
    found = snapshot(folder, Path(tempfile.mkdtemp(dir=folder.parent)))
    shutil.rmtree(folder)
    folder.symlink_to(found)


def readonly(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)


CHANGES: dict[str, Callable[[Path], object]] = {
    "bfloat16": lambda f: None,
    "float16": lambda f: (shutil.rmtree(f), tiny_llama(f, 1, layers=1, dtype=torch.float16)),
    "float32": lambda f: (shutil.rmtree(f), tiny_llama(f, 1, layers=1, dtype=torch.float32)),
    "float32 under a config that says bfloat16": lambda f: again(f, widened),
    "one tensor in float32": lambda f: again(
        f, lambda t: t.update({"model.norm.weight": t["model.norm.weight"].float()})
    ),
    "dtype under its old key": lambda f: in_json(f, "config.json", dtype=None, torch_dtype="bfloat16"),
    "two shards": lambda f: sharded(f),
    "shards of any name": own_index,
    "an index that lists the tied head": tied_in_index,
    "without tokenizer": lambda f: [
        (f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    ],
    "processor of pictures and videos": lambda f: [
        in_json(f, name, patch_size=14, image_mean=[0.5], processor_class="Qwen2VLProcessor")
        for name in PROCESSOR_FILES
    ],
    "chat template of a processor": lambda f: in_json(f, "chat_template.json", chat_template=TEMPLATE),
    "without chat template": lambda f: (f / "chat_template.jinja").unlink(),
    "chat template in tokenizer_config.json": lambda f: (
        (f / "chat_template.jinja").unlink(),
        in_json(f, "tokenizer_config.json", chat_template=TEMPLATE),
    ),
    "several chat templates": lambda f: (
        (f / "chat_template.jinja").unlink(),
        in_json(
            f,
            "tokenizer_config.json",
            chat_template=[{"name": "default", "template": TEMPLATE}, {"name": "rag", "template": TEMPLATE}],
        ),
    ),
    "further chat templates": more_templates,
    "chat template that writes a date": lambda f: (f / "chat_template.jinja").write_text(DATED),
    "chat template of a reasoning model": lambda f: (f / "chat_template.jinja").write_text(THINKING),
    "long chat template": lambda f: (f / "chat_template.jinja").write_text(LONG_TEMPLATE),
    "without generation config": lambda f: (f / "generation_config.json").unlink(),
    "generation config": lambda f: in_json(
        f, "generation_config.json", eos_token_id=[0, 5], temperature=0.7, top_p=0.9, do_sample=True, max_length=4096
    ),
    "metadata": lambda f: again(f, metadata={"format": "pt", "notes": "ä" * 10_000, "": ""}),
    "unaligned tensors": unaligned,
    "the head stored although tied": lambda f: again(
        f, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    ),
    "rotary tables of an older version": lambda f: again(
        f, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)})
    ),
    "positions and masks of an older version": lambda f: again(
        f,
        lambda t: t.update(
            {
                "model.position_ids": torch.arange(8)[None],
                "model.layers.0.self_attn.masked_bias": torch.tensor(-1e9),
                "model.layers.0.self_attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool).tril(),
            }
        ),
    ),
    "a head for several tokens": lambda f: again(f, lambda t: t.update({"mtp.fc.weight": torch.ones(64, 128)})),
    "names as of a composite model": lambda f: again(f, composite),
    "files of others": crowded,
    "rare values in the config": lambda f: in_json(
        f, "config.json", quantization_config=None, head_dim=None, time_step_limit=[0.0, float("inf")], x={"y": [[1]]}
    ),
    "rope in both spellings": lambda f: in_json(
        f,
        "config.json",
        rope_theta=10000.0,
        rope_scaling=None,
        rope_parameters={"rope_theta": 10000, "rope_type": "default"},
    ),
    "patterns in use": patterns,
    "normalizer of SentencePiece": sentencepiece_like,
    "old settings": old_settings,
    "read-only files": readonly,
    "snapshot of a hub cache": cached,
}
"""By name: what makes a rare checkpoint of a plain one; all fit the same base."""

OWN_BASE: dict[str, Callable[[Path], object]] = {
    **{
        f"tokenizer in {kind}": lambda f, build=build: (tokenizers.without_tokenizer(f), build(f))
        for kind, build in tokenizers.KINDS.items()
        if build is not tokenizers.marian  # its class recommends a library on stderr
    },
    "untied": lambda f: (shutil.rmtree(f), tiny_llama(f, 1, layers=1, tied=False)),
    "empty tensors, scalars and integers": lambda f: again(
        f, lambda t: t.update(none=torch.empty(0, 4), one=torch.tensor(1.0), mask=torch.tensor([True]))
    ),
    "names of another alphabet": lambda f: again(
        f, lambda t: t.update({"модель.слой.0.вес": torch.ones(2, dtype=torch.bfloat16), "a b/c": torch.ones(1)})
    ),
}
"""As CHANGES, but other tensors or tokens than the plain one's: these are taken beside a base of their own kind."""


def keyed(change: Callable[[str], str], **more: torch.Tensor) -> Callable[[Path], object]:
    """An adapter whose tensors are called otherwise, with further ones, `__` for a dot in their names."""

    def build(folder: Path) -> None:
        tensors = {change(name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file(tensors | {name.replace("__", "."): one for name, one in more.items()}, str(folder / WEIGHTS))

    return build


def of_mlx(folder: Path) -> None:
    """As MLX's trainer writes it: factors the other way up, a scale, settings of its own."""
    stored = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = {name: name.removeprefix("base_model.model.").removesuffix(".weight") for name in stored}
    tensors = {f"{new[:-1]}{new[-1].lower()}": stored[old].t().contiguous() for old, new in names.items()}
    save_file(tensors, str(folder / "adapters.safetensors"), metadata={"format": "mlx"})
    settings = {"rank": RANK, "scale": 20.0, "dropout": 0.0}
    (folder / CONFIG).write_text(
        json.dumps(
            {"fine_tune_type": "lora", "lora_parameters": settings, "model": "mlx-community/x", "num_layers": 16}
        )
    )


ADAPTERS: dict[str, Callable[[Path], object]] = {
    "adapter": lambda f: None,
    "adapter without tokenizer": lambda f: [
        (f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    ],
    "adapter with null and empty fields": lambda f: in_json(
        f, CONFIG, use_dora=False, auto_mapping=None, rank_pattern={}, loftq_config={}, modules_to_save=None
    ),
    "adapter with patterns": lambda f: in_json(
        f, CONFIG, r=9, rank_pattern={"q_proj": RANK, "layers.0.self_attn.v_proj": RANK}, alpha_pattern={"v_proj": 1.5}
    ),
    "adapter in a snapshot of a hub cache": cached,
    "adapter with a name in its keys": keyed(lambda name: name.replace(".weight", ".default.weight")),
    "adapter with the prefix twice": keyed(lambda name: f"base_model.model.{name}"),
    "adapter without a prefix": keyed(lambda name: name.removeprefix("base_model.model.")),
    "adapter of a compiled model": keyed(lambda name: f"_orig_mod.{name}"),
    "adapter with an empty base layer": keyed(
        str, base_model__model__model__layers__0__self_attn__q_proj__base_layer__weight=torch.zeros(0)
    ),
    "adapter of MLX": of_mlx,
    "rank-stabilised adapter": lambda f: in_json(f, CONFIG, use_rslora=True, init_lora_weights="gaussian"),
}
"""As CHANGES, of a plain adapter."""

ALL = CHANGES | OWN_BASE | ADAPTERS
