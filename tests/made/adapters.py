"""LoRA adapters as PEFT writes them, of random numbers, and what PEFT itself makes of them."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(
    base: Path, folder: Path, seed: int = 1, size: float = 0.1, dtype: torch.dtype = torch.float32, **settings: Any
) -> Path:
    """An adapter on the model in `base`: every trainable number is drawn anew."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ALL_LINEAR, "task_type": "CAUSAL_LM"} | settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    model.save_pretrained(folder)
    draw = torch.Generator().manual_seed(seed)
    stored = load_file(folder / "adapter_model.safetensors")
    drawn = {
        name: tensor if ".base_layer." in name else tensor + size * torch.randn(tensor.shape, generator=draw)
        for name, tensor in stored.items()
    }
    save_file(
        {name: tensor.to(dtype).contiguous() for name, tensor in drawn.items()}, folder / "adapter_model.safetensors"
    )
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def merged_by_peft(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of base and adapter together, float32, by PEFT's own merge."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(folder))
    return dict(model.merge_and_unload().state_dict())


def change(folder: Path, **fields: Any) -> None:
    """Sets fields of adapter_config.json."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
