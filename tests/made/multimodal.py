"""Small random models that read pictures or sounds beside text, as transformers writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from made.models import byte_tokenizer

_TEXT: dict[str, Any] = {
    **{"vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256},
    **{"tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
}
_VISION: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"image_size": 28, "patch_size": 14},
}
_TURNED = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}
PICTURES = {
    "preprocessor_config.json": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 28},
        "crop_size": {"height": 28, "width": 28},
        "processor_class": "LlavaProcessor",
    },
    "processor_config.json": {"patch_size": 14, "processor_class": "LlavaProcessor", "image_token": "<eos>"},
    "chat_template.json": {"chat_template": "{{ messages }} with pictures"},
}
"""Of `llava`, as older versions write them."""


def llava() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    parts = {"text_config": LlamaConfig(**_TEXT), "vision_config": CLIPVisionConfig(**_VISION)}
    return LlavaForConditionalGeneration(LlavaConfig(**parts, image_token_id=300, vision_feature_layer=-1))


def qwen2_vl() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14, "mlp_ratio": 2}
    ids = {"image_token_id": 300, "video_token_id": 301, "vision_start_token_id": 302, "vision_end_token_id": 303}
    parts = {"text_config": _TEXT | {"rope_parameters": _TURNED}, "vision_config": vision}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(**parts, **ids))


def gemma3() -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    ids = {"mm_tokens_per_image": 4, "image_token_id": 300, "boi_token_index": 301, "eoi_token_index": 302}
    parts = {"text_config": _TEXT | {"sliding_window": 64}, "vision_config": _VISION}
    return Gemma3ForConditionalGeneration(Gemma3Config(**parts, **ids))


def qwen2_audio() -> Any:
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2Config

    sound = {
        **{"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64},
        **{"num_mel_bins": 16, "max_source_positions": 50},
    }
    parts = {"text_config": Qwen2Config(**_TEXT), "audio_config": sound}
    return Qwen2AudioForConditionalGeneration(Qwen2AudioConfig(**parts, audio_token_index=300))


def paligemma() -> Any:
    from transformers import GemmaConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration

    parts = {"text_config": GemmaConfig(**_TEXT), "vision_config": _VISION | {"vision_use_head": False}}
    return PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(**parts, image_token_id=300, hidden_size=64, projection_dim=64)
    )


KINDS: dict[str, Callable[[], Any]] = {
    "llava": llava,
    "qwen2_vl": qwen2_vl,
    "gemma3": gemma3,
    "qwen2_audio": qwen2_audio,
}


READS_BOTH_WAYS = {"paligemma": paligemma}
"""Its text before the answer is read from both sides."""


def multimodal(folder: Path, kind: str) -> Path:
    """A model of a kind with a tokenizer of bytes, and `llava` with its processor's files."""
    torch.manual_seed(0)
    (KINDS | READS_BOTH_WAYS)[kind]().to(torch.bfloat16).save_pretrained(folder)
    byte_tokenizer(257).save_pretrained(folder)
    for name, content in PICTURES.items() if kind == "llava" else ():
        (folder / name).write_text(json.dumps(content))
    return folder
