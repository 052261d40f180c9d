"""The weight-transfer plug-in: vLLM's worker makes a recipe's tensors itself and loads them in place.

Only a recipe crosses the border. Everything a swap can get wrong inside the worker is collected in a `SwapReport`,
which the engine reads afterwards: a model that fails a check is complete enough to be replaced by the next recipe. Only
vLLM imports this module, through the entry point `vllm.general_plugins`, so that every worker process knows the
plug-in.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

from psomerge.evals.engines.vllm.checks import StreamCheck, SwapReport, head_fault, probe, products_fault, rows_fault
from psomerge.evals.engines.vllm.mixture_of_experts import ExpertsCheck
from psomerge.merge.basis import Basis, open_basis
from psomerge.recipe import from_dict

BACKEND = "psomerge"


def register() -> None:
    """Makes the plug-in known to vLLM under `BACKEND`; vLLM calls it once in each of its processes."""
    WeightTransferEngineFactory.register_engine(BACKEND, MergedWeights)


@dataclass
class Folders(WeightTransferInitInfo):
    """Where the checkpoints lie; sent once."""

    folders: dict[str, str] = field(default_factory=dict)
    """Folder by name: `base`, then the experts in the recipe's order."""
    tokenizer_from: str = "base"
    """As in every recipe that follows."""


@dataclass
class RecipeUpdate(WeightTransferUpdateInfo):
    """What crosses the border for a particle."""

    recipe: dict[str, Any] = field(default_factory=dict)
    """`Recipe.to_dict()`."""


class MergedWeights(WeightTransferEngine[Folders, RecipeUpdate]):
    """Makes merged tensors where the model lives; vLLM's phases init, start, update, finish call it in that order."""

    init_info_cls = Folders
    update_info_cls = RecipeUpdate
    report: SwapReport

    def init_transfer_engine(self, init_info: Folders) -> None:
        # It warns at every swap that tied heads and rotary tables are not loaded, which no checkpoint holds;
        # `SwapReport` says what is missing. Not at registration: vLLM configures its loggers, and resets this one,
        # after that.
        logging.getLogger(initialize_layerwise_reload.__module__).setLevel(logging.ERROR)
        self.basis: Basis = open_basis(
            {name: Path(folder) for name, folder in init_info.folders.items()}, init_info.tokenizer_from
        )
        self._covers_products: bool | None = None

    def start_weight_update(self) -> None:
        self._start = perf_counter()
        self._parameters = {name for name, _ in self.model.named_parameters()}
        self._experts = ExpertsCheck(self.model)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: RecipeUpdate) -> None:
        vocabulary = max(module.org_vocab_size for module in _embeddings(self.model))
        self._stream = StreamCheck(self.basis.base.tensors, vocabulary, self.model_config.dtype)
        with torch.no_grad():
            loaded = cast(Any, self.model).load_weights(
                self._stream.checked(self.basis.merged_tensors(from_dict(update_info.recipe)))
            )
        self._faults = self._stream.faults() + self._unwritten(set(loaded or ()))

    def finish_weight_update(self) -> None:
        biases = [
            (module, module.bias) for module in _embeddings(self.model) if getattr(module, "bias", None) is not None
        ]
        finalize_layerwise_reload(self.model, self.model_config)
        for (
            module,
            bias,
        ) in (
            biases
        ):  # a head gets its bias while weights are loaded, and the reload takes away what it did not find there before
            if getattr(module, "bias", None) is None:
                module.register_parameter("bias", bias)
        # A tied head is never loaded by name, so the reload leaves it with its packed copy of the OLD embedding on CPU:
        # log-probabilities were off by 0.37 while the greedy tokens stayed the same.
        for module in _embeddings(self.model):
            module.quant_method.process_weights_after_loading(module)
        stream, stale = self._stream, self._experts.faults()
        faults = self._faults or ([] if stream.infinite else stale + self._stale())
        load = perf_counter() - self._start - stream.seconds
        self.report = SwapReport(
            tuple(faults), tuple(stream.infinite), tuple(stream.fingerprints.values()), stream.seconds, load
        )

    def shutdown(self) -> None:
        pass

    def _unwritten(self, loaded: set[str]) -> list[str]:
        """Returns a line for each parameter that no tensor was loaded into, wholly or in part."""
        faults = [f"no tensor was loaded into parameter {name!r}" for name in sorted(self._parameters - loaded)]
        for name, layer in self.model.named_modules():
            info = get_layerwise_info(layer)
            wanted = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
            # Embeddings are padded, and a tied head is loaded through its embedding: their rows are compared after the
            # swap.
            if info.can_load() and info.load_numel < wanted and not isinstance(layer, VocabParallelEmbedding):
                faults.append(f"layer {name!r} got {info.load_numel} of {wanted} elements")
        return faults

    def _stale(self) -> list[str]:
        """Returns a line for each layer that computes with other weights than those just made."""
        faults = []
        for name, module in self.model.named_modules():
            if isinstance(module, ParallelLMHead):
                faults += head_fault(name, self._stream.vocabulary_rows, _logits(module, self._stream))
            elif isinstance(module, VocabParallelEmbedding):
                faults += rows_fault(
                    name, self._stream.vocabulary_rows, cast(Tensor, module.weight)[self._stream.rows].cpu()
                )
        return faults + self._stale_products()

    def _stale_products(self) -> list[str]:
        """Compares what the linear layers' kernels compute with the products of the tensors just made.

        The first swap, onto random weights, tells whether this architecture's linear layers hold exactly the streamed
        matrices; only then is it a check.
        """
        computed: dict[int, float] = {}
        for module in self.model.modules():
            if isinstance(module, LinearBase) and module.quant_method is not None:
                vector = probe(module.input_size, self._stream.dtype).to(self.device)
                product = module.quant_method.apply(module, vector[None])[0]
                computed[module.input_size] = computed.get(module.input_size, 0.0) + float(product.double().sum())
        fault = products_fault(computed, self._stream)
        if self._covers_products is None:
            self._covers_products = not fault
            if fault:
                logging.getLogger(__name__).warning(
                    "swaps of this architecture are checked without its linear layers: they are not its checkpoint's "
                    "matrices"
                )
        return fault if self._covers_products else []


def _embeddings(model: nn.Module) -> Iterator[Any]:
    """Embeddings and heads; untyped, as torch's modules say of no attribute what it is."""
    return (module for module in model.modules() if isinstance(module, VocabParallelEmbedding))


def _logits(head: Any, stream: StreamCheck) -> Tensor:
    """Returns the head's logits for the probe, at the sampled rows."""
    vector = probe(head.embedding_dim, stream.dtype).to(head.weight.device)
    return head.quant_method.apply(head, vector[None])[0, stream.rows].cpu()


def read_report(worker: Any) -> SwapReport:
    """Returns the last swap's report; called in the worker."""
    return worker.weight_transfer_engine.report
