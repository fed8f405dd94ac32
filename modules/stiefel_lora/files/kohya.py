"""LoRA files in the kohya format, for sd-scripts, ComfyUI, A1111, Forge and diffusers.

A layer has the keys ``<stem>.lora_down.weight`` (A), ``<stem>.lora_up.weight`` (B) and
``<stem>.alpha`` (0-dim float32). Its update is (alpha / r) B A.

DoRA layers also have ``<stem>.dora_scale``, (out, 1) or (out, 1, 1, 1) in float32, see
:mod:`.dora`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._exceptions import ModelError
from ..families.catalogue import DEFAULT, family_names, record_of
from ._prepare import check_weights, stored
from .kohya_names import KohyaNames
from .metadata import network_metadata
from .tensors import legacy_hash, tensor_hash, write_tensors
from .weights import LoraFactors, LoraWeights, rank_of

__all__ = ["parse_kohya", "save_kohya"]

_DOWN, _UP, _ALPHA = "lora_down.weight", "lora_up.weight", "alpha"
_DORA = "dora_scale"


def save_kohya(
    path: str | os.PathLike[str],
    weights: LoraWeights,
    *,
    family: str = DEFAULT,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
    base_lengths: Callable[[str], Tensor] | None = None,
) -> None:
    """Save a LoRA in the kohya format, and verify the file.

    The metadata contains the entries by which tools recognize the model family, hashes
    of the tensors, and ``metadata``. Adapter metadata of diffusers is not written,
    because diffusers does not support it in kohya files. If layers have different
    alphas, use :func:`~stiefel_lora.files.weights.with_one_alpha` for diffusers 0.42,
    which cannot read them correctly.

    Args:
        path: path of the file.
        weights: factors of the LoRA. DoRA layers must have ``dora_scale``.
        family: name of the model family, as in ``model_type``.
        dtype: dtype of the stored factors.
        metadata: additional metadata entries.
        base_lengths: function that returns the row norms of the base weight of a layer,
            (out,), by its canonical name. It is required for fused layers of which only
            some parts are DoRA layers.

    Raises:
        ModelError: If a layer does not exist in the family, or a DoRA layer has no
            ``dora_scale``.
        OutputError: If the file cannot be written, or a value exceeds the range of
            ``dtype``.
    """
    check_weights(weights, dtype)
    _check_scales(weights)
    tensors: dict[str, Tensor] = {}
    keys, fusing = _keys(family), _fusing(family)
    modules = weights if fusing is None else fusing.fuse(weights, base_lengths)
    for name, factors in modules.items():
        stem = keys.to_kohya(name)
        tensors[f"{stem}.{_DOWN}"] = stored(name, factors.down, dtype)
        tensors[f"{stem}.{_UP}"] = stored(name, factors.up, dtype)
        tensors[f"{stem}.{_ALPHA}"] = torch.tensor(factors.alpha, dtype=torch.float32)
        if factors.dora_scale is not None:
            # Stays float32: it scales the whole weight, so rounding it would outweigh
            # the LoRA.
            scale = factors.dora_scale.reshape(-1, *[1] * (factors.up.ndim - 1))
            tensors[f"{stem}.{_DORA}"] = stored(name, scale, torch.float32)
    first = next(iter(weights.values()))
    digest = tensor_hash(tensors)
    notes = {
        "format": "pt",
        **network_metadata(family, first.rank, first.alpha),
        **(metadata or {}),
        "modelspec.hash_sha256": f"0x{digest}",
        "sshs_model_hash": digest,
    }
    notes.pop("lora_adapter_metadata", None)
    # Last, since it covers the ss_ entries of the metadata.
    notes["sshs_legacy_hash"] = legacy_hash(tensors, notes)
    write_tensors(path, tensors, notes)


def parse_kohya(tensors: Mapping[str, Tensor], *, family: str = DEFAULT) -> LoraWeights:
    """Parse the tensors of a kohya file. A missing alpha is set to the rank.

    Raises:
        ModelError: If a key is not part of a LoRA or DoRA of this family, a factor is
            missing, or a ``dora_scale`` scales columns.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stem, _, suffix = key.partition(".")
        if suffix not in (_DOWN, _UP, _ALPHA, _DORA):
            raise ModelError(
                f"{key!r} is not part of a LoRA or DoRA. Other adapters are not "
                "supported."
            )
        parts.setdefault(stem, {})[suffix] = tensor
    keys = _keys(family)
    modules = {keys.from_kohya(stem): _factors(stem, p) for stem, p in parts.items()}
    fusing = _fusing(family)
    return modules if fusing is None else fusing.split(modules)


def _check_scales(weights: LoraWeights) -> None:
    for name, factors in weights.items():
        if factors.is_dora and factors.dora_scale is None:
            raise ModelError(
                f"{name}: the row norms are the magnitude of peft, and not the "
                "dora_scale of kohya. Call complete_dora with the weight of the "
                "base model."
            )


def _factors(stem: str, part: Mapping[str, Tensor]) -> LoraFactors:
    if _DOWN not in part or _UP not in part:
        raise ModelError(f"{stem!r} does not have both {_DOWN} and {_UP}.")
    down = part[_DOWN]
    alpha = part.get(_ALPHA, torch.tensor(rank_of(down)))
    if alpha.numel() != 1:
        raise ModelError(
            f"The alpha of {stem!r} must be one number, but it has {alpha.numel()}."
        )
    scale = part.get(_DORA)
    if scale is not None and scale.shape[:1] != part[_UP].shape[:1]:
        raise ModelError(
            f"The dora_scale of {stem!r} has shape {tuple(scale.shape)}, but must "
            "have one number per row. DoRA along columns is not supported."
        )
    return LoraFactors(part[_UP], down, float(alpha), dora_scale=scale)


def _keys(family: str) -> KohyaNames:
    if family not in family_names():
        raise ModelError(
            f"{family!r} is not supported by the kohya format. Use one of "
            f"{', '.join(family_names())}."
        )
    record = record_of(family)
    names: KohyaNames = record.load(record.lora_files.kohya)
    return names


def _fusing(family: str) -> Any:
    """Return the module with ``fuse`` and ``split``, or None for other families."""
    record = record_of(family)
    target = record.lora_files.fusing
    return None if target is None else record.load(target)
