"""Quantization of the linear layers of a denoiser's blocks to 4 or 8 bits.

The linear layers of the repeated blocks of diffusers are quantized with bitsandbytes
(attention and feed-forward of a U-Net, double and single blocks of FLUX). They contain
nearly all weights, while other layers are small and sensitive to quantization.

References:
    T. Dettmers, A. Pagnoni, A. Holtzman, L. Zettlemoyer, "QLoRA", 2023,
    arXiv:2305.14314 (NF4). T. Dettmers, M. Lewis, Y. Belkada, L. Zettlemoyer,
    "LLM.int8()", 2022, arXiv:2208.07339 (vector-wise int8).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .source import ModelSource, PartSource

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["QUANTIZED", "quantize_", "quantized_source"]

# Input features above this are computed in 16 bits (LLM.int8(), section 3.2).
_OUTLIERS = 6.0


def quantized_source(
    source: ModelSource, part: str, kind: str, device: torch.device
) -> ModelSource:
    """Return a source whose component ``part`` is quantized when it is loaded.

    Args:
        source: source of the components.
        part: name of the denoiser.
        kind: name in ``QUANTIZED``.
        device: device of the quantized layers.
    """
    wrap = functools.partial(_QuantizedPart, kind=kind, device=device)
    return source.with_part(part, wrap)


def quantize_(model: nn.Module, kind: str, device: torch.device) -> None:
    """Quantize the linear layers of the repeated blocks of a model, in place."""
    blocks = set(getattr(model, "_repeated_blocks", ()))
    make = QUANTIZED[kind]
    for block in model.modules():
        if type(block).__name__ not in blocks:
            continue
        for parent in block.modules():
            for name, layer in parent.named_children():
                if type(layer) is nn.Linear:
                    setattr(parent, name, make(layer).to(device))
    # The attribute by which peft selects the class of its layers.
    setattr(model, f"is_loaded_in_{4 if kind == 'nfloat4' else 8}bit", True)


def _nfloat4(layer: nn.Linear) -> nn.Module:
    import bitsandbytes as bnb

    made: Any = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=False,
        compute_dtype=layer.weight.dtype,
        quant_type="nf4",
        device="meta",
    )
    weight: Any = bnb.nn.Params4bit
    made.weight = weight(
        layer.weight.data, requires_grad=False, quant_type="nf4", module=made
    )
    # On CPUs with AVX512-BF16, bitsandbytes repacks the weights in the first forward
    # pass without gradients. This rounds scales to bfloat16, so that training would
    # continue with other weights than it began with, and fails on layers narrower than
    # a block.
    made.support_avx512bf16_for_cpu = False
    made.bias = layer.bias
    return made


def _int8(layer: nn.Linear) -> nn.Module:
    import bitsandbytes as bnb

    made: Any = bnb.nn.Linear8bitLt(
        layer.in_features,
        layer.out_features,
        bias=False,
        has_fp16_weights=False,
        threshold=_OUTLIERS,
        device="meta",
    )
    weight: Any = bnb.nn.Int8Params
    made.weight = weight(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    made.bias = layer.bias
    return made


QUANTIZED = {"nfloat4": _nfloat4, "int8": _int8}
"""Functions that create a quantized layer, by ``weight_dtype``."""


class _QuantizedPart:
    """Component that is quantized after loading."""

    def __init__(self, part: PartSource, kind: str, device: torch.device) -> None:
        self._part = part
        self._kind = kind
        self._device = device

    def config(self) -> dict[str, Any]:
        return self._part.config()

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        model = self._part.load(loader, dtype)
        quantize_(model, self._kind, self._device)
        return model

    def digest_into(self, digest: _Hash) -> None:
        self._part.digest_into(digest)
