"""Which of a task's generation settings greedy decoding keeps to: answers are greedy alone, as only these can be
repeated."""

from collections.abc import Mapping
from typing import Any

from psomerge.errors import ConfigError

KEPT = frozenset({"until", "do_sample", "max_gen_toks"})
WITHOUT_EFFECT = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "seed"),
        *("early_stopping", "length_penalty", "diversity_penalty", "num_beam_groups", "use_cache"),
    }
)
"""Settings that change nothing, whatever their value, where nothing is drawn and there is one beam."""
NEUTRAL: Mapping[str, Any] = {
    **dict.fromkeys(("num_beams", "num_return_sequences", "n", "best_of"), 1),
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "guidance_scale"), 1),
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "penalty_alpha"), 0),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), 0),
    **dict.fromkeys(("min_length", "min_new_tokens", "min_tokens"), 0),
    **dict.fromkeys(("ignore_eos", "include_stop_str_in_output", "remove_invalid_values", "renormalize_logits"), False),
    **dict.fromkeys(("return_dict_in_generate", "output_scores", "output_logits", "output_attentions"), False),
    "skip_special_tokens": True,
}
"""The value of each setting that changes nothing. Source: transformers' GenerationConfig, vLLM's SamplingParams."""


def check_greedy(task: str, settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for settings that greedy decoding does not keep to.

    Args:
        task: its name.
        settings: as the harness normalises them.
    """
    if settings.get("do_sample"):
        raise ConfigError(
            f"task {task} samples its answers ({dict(settings)}); set do_sample: false and no temperature in its "
            "generation_kwargs"
        )
    other = sorted(
        key
        for key, value in settings.items()
        if key not in KEPT | WITHOUT_EFFECT and value is not None and not _is_neutral(key, value)
    )
    if other:
        asked = ", ".join(f"{key}: {settings[key]}" for key in other)
        neutral = ", ".join(f"{key}: {_yaml(NEUTRAL.get(key))}" for key in other)
        raise ConfigError(
            f"task {task} asks for {asked} in its generation_kwargs, and answers are greedy alone; lay what changes "
            f"nothing over it in the suite's entry: `config: {{generation_kwargs: {{{neutral}}}}}`"
        )


def _is_neutral(key: str, value: Any) -> bool:
    return key in NEUTRAL and value == NEUTRAL[key]


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower()
