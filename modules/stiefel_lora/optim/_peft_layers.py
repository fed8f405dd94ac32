"""Detection of PEFT's LoRA layers in a model, by their attributes.

PEFT is not imported. A layer is a LoRA layer if it has the dictionaries ``lora_A``,
``lora_B``, ``scaling``, ``lora_alpha`` and ``r``, with adapter names as keys.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["ADALORA", "SHARED", "LoraPart", "lora_parts", "memory_of", "odd_factors"]

_HOLDERS = ("scaling", "lora_alpha", "r")
ADALORA = "AdaLoRA"
"""Reason for AdaLoRA: a diagonal between A and B, another scale than alpha / rank."""

SHARED = "shared by several layers"
"""Reason for a shared factor: a change of basis in one layer would affect the
others."""

_TABLES = (dict, nn.ModuleDict, nn.ParameterDict)

# Variants of PEFT whose update is still B A, applied to the input of the layer.
_PRODUCT_VARIANTS = {
    "ALoraLinearVariant",
    "DoraConv1dVariant",
    "DoraConv2dVariant",
    "DoraConv3dVariant",
    "DoraEmbeddingVariant",
    "DoraLinearVariant",
    "MiCAEmbeddingVariant",
    "MiCALinearVariant",
    "QALoraLinearVariant",
    "VeloraLinearVariant",
}


@dataclasses.dataclass(frozen=True, eq=False)
class LoraPart:
    """One adapter in one layer.

    Attributes:
        layer: the LoRA layer.
        adapter: name of the adapter.
        up: B, with the embedding dimension first for embeddings.
        down: A.
        bias: bias next to B (``lora_bias``), or None.
        odd: reason why the update of the layer is not the product B A, or None.
        embedding: whether the layer is an embedding.
    """

    layer: Any
    adapter: str
    up: Tensor
    down: Tensor
    bias: Tensor | None
    odd: str | None
    embedding: bool

    @property
    def scale(self) -> float:
        """Multiplier of the product in the layer; usually alpha / rank."""
        return float(self.layer.scaling[self.adapter])

    @property
    def scaled_otherwise(self) -> bool:
        """Return whether the scale is not alpha / rank, such as with ``use_rslora``."""
        plain = self.layer.lora_alpha[self.adapter] / self.layer.r[self.adapter]
        return not math.isclose(self.scale, plain)

    @property
    def trained(self) -> bool:
        """Return whether a factor requires gradients."""
        return self.up.requires_grad or self.down.requires_grad


def lora_parts(model: nn.Module) -> Iterator[LoraPart]:
    """Yield every adapter of every LoRA layer, in the order of the model."""
    layers: Iterator[Any] = model.modules()
    for layer in layers:
        if not all(isinstance(getattr(layer, n, None), dict) for n in _HOLDERS):
            continue
        for adapter in layer.scaling:
            part = _part(layer, adapter)
            if part is not None:
                yield part


def _part(layer: Any, adapter: str) -> LoraPart | None:
    for prefix in ("lora_", "lora_embedding_"):
        up = _held(getattr(layer, f"{prefix}B", None), adapter)
        down = _held(getattr(layer, f"{prefix}A", None), adapter)
        if up is not None and down is not None:
            return LoraPart(
                layer,
                adapter,
                _weight(up),
                _weight(down),
                None if isinstance(up, Tensor) else getattr(up, "bias", None),
                _oddity(layer, adapter, up),
                embedding=prefix != "lora_",
            )
    return None


def _held(table: Any, adapter: str) -> Any:
    """Return the entry of a dictionary of modules or parameters, or None."""
    if not isinstance(table, _TABLES) or adapter not in table:
        return None
    return table[adapter]


def _weight(factor: Any) -> Tensor:
    return factor if isinstance(factor, Tensor) else factor.weight


def _oddity(layer: Any, adapter: str, up: Any) -> str | None:
    """Return the reason why the update of a layer is not the product B A, if any."""
    if getattr(layer, "num_experts", 1) > 1:
        return "one LoRA for several experts"
    if getattr(up, "groups", 1) > 1:
        return "grouped convolution"
    if _held(getattr(layer, "lora_E", None), adapter) is not None:
        return ADALORA
    variants = getattr(layer, "lora_variant", None)
    variant = variants.get(adapter) if isinstance(variants, Mapping) else None
    name = type(variant).__name__
    if variant is not None and name not in _PRODUCT_VARIANTS:
        return name.removesuffix("LinearVariant").removesuffix("Variant")
    return None


def odd_factors(model: nn.Module) -> list[tuple[Tensor, str]]:
    """List the trainable factors of layers whose update is not B A, with the reasons.

    Factors that share memory with another parameter are included.
    """
    found = [
        (factor, part.odd or "embedding")
        for part in lora_parts(model)
        for factor in (part.up, part.down)
        if (part.odd or part.embedding) and factor.requires_grad
    ]
    owners: dict[tuple[int, int], list[Tensor]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.numel():
            owners.setdefault(memory_of(parameter), []).append(parameter)
    shared = [same for key, same in owners.items() if len(same) > 1 and key[0]]
    found += [
        (factor, "shared by several layers") for same in shared for factor in same
    ]
    return found


def memory_of(tensor: Tensor) -> tuple[int, int]:
    """Return an address and offset, which are equal for views of the same memory."""
    if tensor.device.type == "meta":
        return 0, id(tensor)
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset())
