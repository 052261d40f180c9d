"""Tiny random models, each saved by transformers in the layout in which it is published and in that of its class."""

from pathlib import Path
from typing import Any

import torch

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_MIXTURE = _SIZES | {"num_experts": 4, "num_local_experts": 4, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
_EYES = {
    "depth": 1,
    "hidden_size": 32,
    "embed_dim": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "out_hidden_size": 64,
    "patch_size": 14,
}
_EYES_OF_CLIP = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4}}
LATENT = _MIXTURE | {
    "num_key_value_heads": 2,
    "n_routed_experts": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
"""Sizes of a small DeepSeek-V3."""
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_moe": ("Qwen3MoeForCausalLM", _MIXTURE),
    "qwen3_moe, square": ("Qwen3MoeForCausalLM", _MIXTURE | {"moe_intermediate_size": 64}),
    "mixtral": ("MixtralForCausalLM", _MIXTURE),
    "olmoe": ("OlmoeForCausalLM", _MIXTURE),
    "phimoe": ("PhimoeForCausalLM", _MIXTURE),
    "jamba": ("JambaForCausalLM", _MIXTURE),
    "granitemoe": ("GraniteMoeForCausalLM", _MIXTURE),
    "deepseek_v3": ("DeepseekV3ForCausalLM", LATENT),
    "gpt_neox": ("GPTNeoXForCausalLM", _SIZES),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", {"text_config": _SIZES | _MROPE, "vision_config": _EYES}),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", {"text_config": _SIZES | _MROPE, "vision_config": _EYES}),
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        {"text_config": _SIZES | {"head_dim": 32}, "vision_config": _EYES_OF_CLIP, "mm_tokens_per_image": 4},
    ),
    "llava": (
        "LlavaForConditionalGeneration",
        {
            "text_config": _SIZES | {"model_type": "llama"},
            "vision_config": _EYES_OF_CLIP | {"model_type": "clip_vision_model", "num_hidden_layers": 2},
        },
    ),
}


def in_two_layouts(folder: Path, kind: str, seed: int = 0) -> tuple[Path, Path]:
    """The folders of one model of `LAYOUTS`, in the layout in which it is published and in that of its class."""
    published, inside = folder / "published", folder / "inside"
    model = random_model(*LAYOUTS[kind], kind=kind.partition(",")[0], seed=seed)
    model.save_pretrained(published)
    model.save_pretrained(inside, save_original_format=False)
    return published, inside


def random_model(architecture: str, sizes: dict[str, Any], *, kind: str, seed: int = 0) -> Any:
    """A model of a class of transformers, in bfloat16."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.CONFIG_MAPPING[kind].from_dict({"model_type": kind, **sizes})
    return getattr(transformers, architecture)(config).to(torch.bfloat16)
