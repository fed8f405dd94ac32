r"""Dense updates of LoHa, LoKr and full-difference adapters.

The formulas are those of LyCORIS and ComfyUI (comfy/weight_adapter/loha.py, lokr.py):

* LoHa: :math:`\frac{\alpha}{r} (W_{1a} W_{1b}) \odot (W_{2a} W_{2b})`. * LoKr:
:math:`\frac{\alpha}{r} W_1 \otimes W_2`, where each of the two may be a product. If
neither is, there is no rank and alpha is ignored. * full difference: the stored tensor.

peft stores no alpha: its settings have alpha and r, which scale every LoHa and LoKr.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..._exceptions import ModelError
from .lora_file import OtherLayer

__all__ = ["dense_update"]


def dense_update(layer: OtherLayer) -> Tensor | None:
    """Compute the update of a layer in float64, (out, in) or (out, in, k, k).

    Returns:
        The update. None for tensors that are not weights of layers, such as biases,
        norms and embeddings.

    Raises:
        ModelError: If the adapter is not supported, or its shapes do not match.
    """
    for key, tensor in layer.tensors.items():
        if tensor.numel() == 0:
            raise ModelError(
                f"{layer.name}: {key} has no values, because its shape is "
                f"{tuple(tensor.shape)}. Remove the layer from the file."
            )
    parts = {_last(key): tensor.double() for key, tensor in layer.tensors.items()}
    try:
        if layer.kind == "LoHa":
            return _loha(parts, layer.scale)
        if layer.kind == "LoKr":
            return _lokr(parts, layer.scale)
        if layer.kind == "full difference" and "set_weight" not in parts:
            return parts["diff"] if parts.get("diff", torch.ones(1)).ndim > 1 else None
    except (KeyError, RuntimeError, IndexError) as error:
        raise ModelError(
            f"{layer.name}: the {layer.kind} is incomplete or has mismatched shapes: "
            f"{error}."
        ) from error
    if layer.kind in ("norm", "bias", "embedding"):
        return None
    raise ModelError(
        f"{layer.name} is {layer.kind}, which cannot be converted to a LoRA. Use a "
        "file with LoRA, LoHa, LoKr or full-difference layers."
    )


def _last(key: str) -> str:
    return key.removesuffix(".weight").rpartition(".")[2]


def _loha(parts: Mapping[str, Tensor], scale: float | None) -> Tensor:
    one, two = (
        _product(parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"], parts.get(f"hada_t{n}"))
        for n in (1, 2)
    )
    rank = parts["hada_w1_b"].shape[0]
    if scale is None:
        scale = _alpha(parts, rank) / rank
    return one * two * scale


def _lokr(parts: Mapping[str, Tensor], scale: float | None) -> Tensor:
    rank = None
    sides = []
    for n in (1, 2):
        whole = parts.get(f"lokr_w{n}")
        if whole is None:
            down = parts[f"lokr_w{n}_b"]
            rank = down.shape[0]
            whole = _product(parts[f"lokr_w{n}_a"], down, parts.get(f"lokr_t{n}"))
        sides.append(whole)
    one, two = sides
    one = one.reshape(*one.shape, *[1] * (two.ndim - one.ndim))
    if scale is None:
        scale = 1.0 if rank is None else _alpha(parts, rank) / rank
    return torch.kron(one.contiguous(), two.contiguous()) * scale


def _product(up: Tensor, down: Tensor, core: Tensor | None) -> Tensor:
    if core is None:
        return up @ down
    # With a core, up is (r, out).
    return torch.einsum("ij...,jr,ip->pr...", core, down, up)


def _alpha(parts: Mapping[str, Tensor], rank: int) -> float:
    if "alpha" not in parts:
        return float(rank)
    alpha = parts["alpha"]
    if alpha.numel() != 1:
        raise IndexError(f"alpha must be one number, but it has {alpha.numel()}")
    if not alpha.isfinite().all():
        raise IndexError(f"alpha must be finite, but it is {float(alpha)}")
    return float(alpha)
