"""Which engine judges a model: decided once, before a run starts, from the base's config alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psomerge.errors import ConfigError
from psomerge.evals.engines.vllm.architectures import architectures


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
        wanted: `vllm`, `transformers`, or `auto`: vLLM where it runs the architecture, else transformers.
        config: the base's config.json.

    Raises:
        ConfigError: vLLM is wanted and does not run the architecture, or is not installed.
    """
    if wanted == "transformers":
        return Choice(wanted)
    listed, asked = architectures(), list(config["architectures"])
    if listed.intersection(asked):
        return Choice("vllm")
    why = f"vLLM does not run {' or '.join(asked)}" if listed else "vLLM is not installed"
    if wanted == "auto":
        return Choice("transformers", why)
    raise ConfigError(
        f"engine.kind is vllm, but {why}; set engine.kind to transformers, or to auto, which then takes transformers"
    )
