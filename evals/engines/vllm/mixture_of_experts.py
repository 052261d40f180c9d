"""What proves that a mixture of experts computes with the experts just made: their kernel's answer to a fixed vector,
against the loaded tensors' own.

On CPU only, where vLLM packs them: a reload there once left them unpacked, and the engine scored another model without
an error.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.platforms import current_platform

from psomerge.evals.engines.vllm.checks import probe, tolerance

_ACTIVATIONS = {MoEActivation.SILU: F.silu, MoEActivation.GELU: F.gelu}


@dataclass(frozen=True)
class _Expected:
    output: Tensor
    """(hidden,), the mean over all experts."""
    margin: Tensor
    """(hidden,): how far rounding may take the kernel from it."""


class ExpertsCheck:
    """Sees routed experts between loading and packing, and asks their kernels afterwards."""

    def __init__(self, model: nn.Module) -> None:
        """Has every layer of routed experts packed anew by the next load, and looked at before."""
        self._expected: dict[str, _Expected] = {}
        self._layers: dict[str, Any] = {}
        if not current_platform.is_cpu():
            return
        for name, layer in model.named_modules():
            if isinstance(layer, RoutedExperts) and isinstance(layer.quant_method, UnquantizedFusedMoEMethod):
                layer.quant_method.moe_kernel = None  # as long as there is one, vLLM takes the packing for done
                if layer.activation in _ACTIVATIONS and not layer.quant_method.moe.has_bias:
                    self._layers[name] = layer
                    self._watch(name, layer.quant_method)

    def faults(self) -> list[str]:
        """Returns a line for each layer whose kernel answers otherwise than the tensors that were loaded; ends the
        watch."""
        faults = []
        for name, layer in self._layers.items():
            del layer.quant_method.process_weights_after_loading
            expected = self._expected.get(name)
            if expected is None or not bool(((_answer(layer) - expected.output).abs() <= expected.margin).all()):
                faults.append(f"experts {name!r} are stale: their output is not that of the merged tensors")
        return faults

    def _watch(self, name: str, method: Any) -> None:
        pack = method.process_weights_after_loading

        def look_and_pack(layer: Any) -> None:
            self._expected[name] = _expected(layer)
            pack(layer)

        method.process_weights_after_loading = look_and_pack


def _expected(layer: Any) -> _Expected:
    """What unpacked experts answer to the probe, and the bound of the error: of both matrices' sums, carried through
    the activation."""
    into, out = layer.w13_weight.float(), layer.w2_weight.float()
    vector = probe(into.shape[2], layer.w13_weight.dtype).float()
    (gate, up), share = (into @ vector).chunk(2, dim=1), tolerance(layer.w13_weight.dtype)
    gate_margin, up_margin = (share * (into.abs() @ vector.abs())).chunk(2, dim=1)
    active = _ACTIVATIONS[layer.activation](gate)
    inner = active * up
    margin = (
        1.2 * gate_margin * up.abs() + active.abs() * up_margin + share * inner.abs()
    )  # no such activation is steeper than 1.2
    return _Expected(
        torch.einsum("ehi,ei->eh", out, inner).mean(0), 2 * torch.einsum("ehi,ei->eh", out.abs(), margin).mean(0)
    )


def _answer(layer: Any) -> Tensor:
    """The kernel's answer to the probe, every expert chosen with the same weight."""
    count, size = layer.w13_weight.shape[0], layer.hidden_size
    vector = probe(size, layer.w2_weight.dtype)[None]
    weights, chosen = torch.full((1, count), 1 / count), torch.arange(count, dtype=torch.int32)[None]
    return layer.quant_method.apply(layer, vector, weights, chosen, None, None)[0].float()
