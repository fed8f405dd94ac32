"""LoRA files in the PEFT format of diffusers.

A layer has the keys ``<name>.lora_A.weight`` (A) and ``<name>.lora_B.weight`` (B), and
no alpha. Loaders apply B A without a scale. Therefore, A is multiplied by alpha / r, so
that B stays orthonormal, and lora_alpha is r in the adapter metadata. DoRA layers also
have ``<name>.lora_magnitude_vector``.
"""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._exceptions import ModelError
from ._prepare import check_weights, stored
from .tensors import legacy_hash, tensor_hash, write_tensors
from .weights import COMPONENTS, LoraFactors, LoraWeights, canonical_name, rank_of

__all__ = [
    "adapter_metadata",
    "alpha_of",
    "parse_adapter_metadata",
    "parse_peft",
    "peft_scale",
    "rank_in_settings",
    "save_peft",
]

_ADAPTER_METADATA = "lora_adapter_metadata"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_MAGNITUDE = ".lora_magnitude_vector"


def save_peft(
    path: str | os.PathLike[str],
    weights: LoraWeights,
    *,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Save a LoRA in the PEFT format, and verify the file.

    Raises:
        ModelError: If a name has no component, only some layers are DoRA layers, or a
            DoRA layer has no magnitude.
        OutputError: If the file cannot be written, or a value exceeds the range of
            ``dtype``.
    """
    check_weights(weights, dtype)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for given, factors in weights.items():
        component, _, path_in_model = given.partition(".")
        name = canonical_name(component, path_in_model)
        ranks[name], scale = factors.rank, factors.scale
        tensors[name + _DOWN] = stored(name, factors.down, dtype, scale=scale)
        tensors[name + _UP] = stored(name, factors.up, dtype)
        if factors.is_dora:
            if factors.magnitude is None:
                raise ModelError(
                    f"{name}: the row norms are the dora_scale of kohya, and not "
                    "the magnitude of peft. Call complete_dora with the weight of "
                    "the base model."
                )
            # Stays float32: it scales the whole weight, so rounding it would outweigh
            # the LoRA.
            tensors[name + _MAGNITUDE] = stored(name, factors.magnitude, torch.float32)
    adapter = adapter_metadata(ranks, ranks if _is_dora(weights) else ())
    digest = tensor_hash(tensors)
    notes = {
        "format": "pt",
        **(metadata or {}),
        "modelspec.hash_sha256": f"0x{digest}",
        "sshs_model_hash": digest,
        _ADAPTER_METADATA: json.dumps(adapter, sort_keys=True),
    }
    if "modelspec.implementation" in notes:
        notes["modelspec.implementation"] = "diffusers"
    # Last, since it covers the ss_ entries of the metadata.
    notes["sshs_legacy_hash"] = legacy_hash(tensors, notes)
    write_tensors(path, tensors, notes)


def _is_dora(weights: LoraWeights) -> bool:
    doras = [name for name, factors in weights.items() if factors.is_dora]
    if 0 < len(doras) < len(weights):
        raise ModelError(
            f"{doras[0]} is a DoRA, but other layers are not, which peft does not "
            "support. Use DoRA in all layers or in none."
        )
    return bool(doras)


def adapter_metadata(
    ranks: Mapping[str, int], doras: Collection[str]
) -> dict[str, Any]:
    """Create the ``peft.LoraConfig`` arguments of each component.

    Args:
        ranks: rank of each layer by its name with the component.
        doras: names of the DoRA layers. peft applies DoRA to all layers of a component
            or to none.
    """
    result: dict[str, Any] = {}
    for component in COMPONENTS:
        prefix = f"{component}."
        # PEFT matches by the end of a module's path, so a name without the text_model
        # level fits transformers 4, which has it, and 5, which dropped it.
        own = {
            name.removeprefix(prefix).removeprefix("text_model."): rank
            for name, rank in ranks.items()
            if name.startswith(prefix)
        }
        if not own:
            continue
        common = collections.Counter(own.values()).most_common(1)[0][0]
        pattern = {
            _exactly(path, own): rank for path, rank in own.items() if rank != common
        }
        config = {
            "r": common,
            "lora_alpha": common,
            "rank_pattern": pattern,
            "alpha_pattern": pattern,
            "target_modules": sorted(own),
            "use_dora": any(name.startswith(prefix) for name in doras),
        }
        result |= {prefix + key: value for key, value in config.items()}
    return result


def _exactly(path: str, others: Iterable[str]) -> str:
    """Return a pattern that only matches a path, and not others with the same end."""
    shared = any(other.endswith(f".{path}") for other in others)
    return f"^{path}" if shared else path


def parse_peft(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> LoraWeights:
    """Parse the tensors and metadata of a file in the PEFT format.

    If the metadata do not contain alpha, it is set to the rank.

    Raises:
        ModelError: If a key is unknown, a factor is missing, or a DoRA layer has no
            magnitude.
    """
    config = parse_adapter_metadata(metadata)
    names = dict.fromkeys(_stem(key) for key in tensors)
    weights: LoraWeights = {}
    for stem in names:
        if stem + _DOWN not in tensors or stem + _UP not in tensors:
            raise ModelError(f"{stem!r} does not have both {_DOWN[1:]} and {_UP[1:]}.")
        component, _, path = stem.partition(".")
        down = tensors[stem + _DOWN]
        alpha = alpha_of(config, component, path, rank_of(down))
        magnitude = tensors.get(stem + _MAGNITUDE)
        if magnitude is None and config.get(f"{component}.use_dora"):
            raise ModelError(f"{stem!r} is a DoRA without {_MAGNITUDE[1:]}.")
        name = canonical_name(component, path)
        weights[name] = LoraFactors(tensors[stem + _UP], down, alpha, magnitude)
    return weights


def parse_adapter_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read ``peft.LoraConfig`` arguments from the metadata, if there are any."""
    config = json.loads(metadata.get(_ADAPTER_METADATA, "{}"))
    if not isinstance(config, dict):
        raise ModelError(f"its {_ADAPTER_METADATA} is not a JSON object.")
    return config


def _stem(key: str) -> str:
    for suffix in (_DOWN, _UP, _MAGNITUDE):
        if key.endswith(suffix):
            return key.removesuffix(suffix)
    raise ModelError(
        f"{key!r} is not part of a LoRA or DoRA. Other adapters are not supported."
    )


def alpha_of(config: Mapping[str, Any], component: str, path: str, rank: int) -> float:
    """Return the alpha of a layer according to a ``peft.LoraConfig``."""
    usual = config.get(f"{component}.lora_alpha", rank)
    alpha = _by_pattern(config.get(f"{component}.alpha_pattern"), path, usual)
    # Rank-stabilized LoRA scales by alpha / sqrt(r).
    rank_stabilized = config.get(f"{component}.use_rslora", False)
    return float(alpha * rank**0.5 if rank_stabilized else alpha)


def rank_in_settings(
    config: Mapping[str, Any], component: str, path: str, rank: int
) -> int:
    """Return the rank of a layer according to a ``peft.LoraConfig``.

    ``rank`` if the settings contain none.
    """
    usual = config.get(f"{component}.r", rank)
    return int(_by_pattern(config.get(f"{component}.rank_pattern"), path, usual))


def peft_scale(config: Mapping[str, Any], path: str) -> float | None:
    """Return alpha / r of a LoHa or LoKr module by its settings in peft.

    None without settings of this kind.
    """
    if "alpha" not in config or "r" not in config:
        return None
    alpha = _by_pattern(config.get("alpha_pattern"), path, config["alpha"])
    return float(alpha) / _by_pattern(config.get("rank_pattern"), path, config["r"])


def _by_pattern(patterns: Mapping[str, Any] | None, path: str, usual: Any) -> Any:
    """Return the value of the first pattern that matches the end of a path."""
    found = (patterns or {}).items()
    matching = (v for p, v in found if re.fullmatch(rf"(.*\.)?({p})", path))
    return next(matching, usual)
