"""Which engine judges a model: decided once, before a run starts, from the base's config alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psomerge.errors import ConfigError
from psomerge.evals.engines.model_types import multimodal, of_text
from psomerge.evals.engines.vllm.architectures import architectures

_NEED_MORE = ("blip", "blip-2", "instructblip", "instructblipvideo", "paligemma", "pi0", "pix2struct", "whisper")
"""Values of `model_type` whose models write nothing without a picture or a sound, or read a text without one from both
sides; any other such is found when the engine starts."""


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is not vLLM where that was left open."""

    kind: str
    """`vllm` or `transformers`."""
    why: str = ""
    """Empty where nothing had to be decided."""

    @property
    def notice(self) -> str:
        """The choice in words."""
        return f"{self.why}: models are judged by the {self.kind} engine"


def choose(wanted: str, config: Mapping[str, Any]) -> Choice:
    """Returns the engine for a model.

    Args:
        wanted: `vllm`, `transformers`, or `auto`: vLLM where it runs the architecture, else transformers. Models that
            read pictures or sounds beside text are judged on text by transformers.
        config: the base's config.json.

    Raises:
        ConfigError: vLLM is wanted and does not run the architecture, or is not installed; or no engine judges it.
    """
    listed, asked = architectures(), list(config["architectures"])
    more = set(asked).intersection(multimodal().values())
    if wanted != "transformers" and listed.intersection(asked):
        return Choice("vllm")
    _must_write_text(config, asked)
    if wanted == "transformers":
        return Choice(wanted)
    why = f"vLLM does not run {' or '.join(asked)}" if listed else "vLLM is not installed"
    if listed and more:
        why = f"{' or '.join(asked)} reads more than text, which the vLLM engine here cannot take"
    if wanted == "auto":
        return Choice("transformers", why)
    raise ConfigError(
        f"engine.kind is vllm, but {why}; set engine.kind to transformers, or to auto, which then takes transformers"
    )


def _must_write_text(config: Mapping[str, Any], asked: list[str]) -> None:
    kind: object = config.get("model_type")
    if kind is None or (kind not in _NEED_MORE and (kind in of_text() or kind in multimodal())):
        return
    reason = "transformers has no model of it that writes text"
    if kind in _NEED_MORE:
        reason = "it does not write text without a picture or a sound"
    raise ConfigError(
        f"no engine judges {' or '.join(asked)} (model_type {kind}): {reason}; use a model that reads and writes text; "
        "`psomerge merge` merges this one without judging"
    )
