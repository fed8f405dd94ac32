"""Emulation of the LoRA loaders of ComfyUI and Forge with lists of their key names.

For each program, ``loader_names.json.gz`` contains the stems of supported keys and the
names of the corresponding weights, with commit and date. The order of suffixes, the
scale and the rows of fused weights are those of the loaders
(comfy/weight_adapter/lora.py, packages_3rdparty/comfyui_lora_collection/lora.py).
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..._exceptions import ModelError
from ..weights import LoraFactors
from .plain_factors import plain_factors

__all__ = [
    "PROGRAMS",
    "Loaded",
    "has_list",
    "load_by_list",
    "program_label",
    "rows_of",
    "target_of",
]

PROGRAMS = {"comfyui": "ComfyUI", "forge": "Forge"}
"""Display names of the programs with a list of key names."""

# Suffixes of B, of A and of a Tucker core; the first one present is used.
_SUFFIXES = (
    (".lora_up.weight", ".lora_down.weight", ".lora_mid.weight"),
    ("_lora.up.weight", "_lora.down.weight", None),
    (".lora_B.weight", ".lora_A.weight", None),
    (".lora.up.weight", ".lora.down.weight", None),
    (".lora_B", ".lora_A", None),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight", None),
    (".lora_B.default.weight", ".lora_A.default.weight", None),
)
# Forge's loader is older.
_NEWER = (".lora_B", ".lora_B.default.weight")
# Suffixes of other adapters that both read, and that only ComfyUI reads.
_OTHERS = (
    *(f".hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f".lokr_{part}" for part in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t2")),
    *(f".{part}.weight" for part in ("a1", "a2", "b1", "b2")),
    *(".diff", ".diff_b", ".w_norm", ".b_norm", ".alpha", ".dora_scale"),
)
_NEWER_OTHERS = (".oft_blocks", ".rescale", ".set_weight", ".reshape_weight")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Updates that a program loads from a LoRA file."""

    factors: Mapping[str, LoraFactors]
    """Factors that are added to each weight, by its name."""

    unused: tuple[str, ...]
    """Keys that the program ignores."""

    others: tuple[str, ...] = ()
    """Keys of other adapters than LoRA that it applies."""


def program_label(program: str) -> str:
    """Return name, commit and date of a program."""
    entry = _lists()[program]
    return f"{PROGRAMS[program]} {entry['commit'][:7]} ({entry['date']})"


def has_list(program: str, family: str) -> bool:
    """Return whether the key names of a program are available for a family."""
    return family in _lists()[program]["names"]


def target_of(program: str, family: str, stem: str) -> str | None:
    """Return the name of the weight of a stem. None if the stem is ignored."""
    found = _lists()[program]["names"].get(family, {}).get(stem)
    return None if found is None else found[0]


def rows_of(family: str, stem: str) -> tuple[str, int, int, int, bool] | None:
    """Return the part of a fused weight that belongs to a stem of ComfyUI.

    Returns:
        Name of the weight, first row, number of rows and total number of rows (in units
        of a part), and whether both halves of the rows are swapped. None if the stem
        belongs to the whole weight.
    """
    found = _lists()["comfyui"]["names"][family].get(stem)
    if found is None or len(found) < 4:
        return None
    target, first, count, swap = found
    return target, first, count, _units("comfyui", family).get(target, 0), swap


def load_by_list(program: str, family: str, tensors: Mapping[str, Tensor]) -> Loaded:
    """Load the updates of a file as the program does.

    Args:
        program: key of ``PROGRAMS``.
        family: family for which :func:`has_list` is True.
        tensors: tensors of the file.

    Raises:
        ModelError: If the program cannot multiply the factors.
    """
    names = _lists()[program]["names"][family]
    used: set[str] = set()
    # As in the programs, a later stem for the same rows replaces an earlier one.
    patches: dict[tuple[Any, ...], LoraFactors] = {}
    for stem in names:
        found = _patch(program, stem, tensors, used)
        if found is not None:
            patches[tuple(names[stem])] = found
    whole: dict[str, list[LoraFactors]] = {}
    units = _units(program, family)
    for (target, *rows), factors in patches.items():
        placed = _placed(factors, units.get(target, 0), *rows)
        whole.setdefault(target, []).append(placed)
    left = sorted(tensors.keys() - used)
    others = tuple(key for key in left if _is_other(program, key, names))
    return Loaded(
        {target: _side_by_side(own) for target, own in whole.items()},
        tuple(key for key in left if key not in others),
        others,
    )


def _is_other(program: str, key: str, names: Mapping[str, Any]) -> bool:
    suffixes = _OTHERS if program == "forge" else (*_OTHERS, *_NEWER_OTHERS)
    return any(
        key.endswith(suffix) and key.removesuffix(suffix) in names
        for suffix in suffixes
    )


def _patch(
    program: str, stem: str, tensors: Mapping[str, Tensor], used: set[str]
) -> LoraFactors | None:
    for up, down, mid in _SUFFIXES:
        if stem + up not in tensors or (program == "forge" and up in _NEWER):
            continue
        if stem + down not in tensors:
            continue
        used |= {stem + up, stem + down}
        core = tensors.get(stem + mid) if mid else None
        if core is not None:
            used.add(f"{stem}{mid}")
        rank = tensors[stem + down].shape[0]
        alpha, lengths = float(rank), tensors.get(f"{stem}.dora_scale")
        if f"{stem}.alpha" in tensors:
            used.add(f"{stem}.alpha")
            alpha = float(tensors[f"{stem}.alpha"].double())
        if lengths is not None:
            used.add(f"{stem}.dora_scale")
            _check_shape(f"{stem}.dora_scale", lengths, tensors[stem + down])
        own = tensors[stem + up], tensors[stem + down], core
        return plain_factors(*own, alpha=alpha, dora_scale=lengths)
    return None


def _check_shape(key: str, lengths: Tensor, down: Tensor) -> None:
    """Check that a ``dora_scale`` has the number of dimensions of the weight.

    Raises:
        ModelError: If it has fewer. The programs multiply the weight by it without
            reshaping it.
    """
    if lengths.ndim < down.ndim:
        raise ModelError(
            f"{key} has the shape {tuple(lengths.shape)}, but must have "
            f"{down.ndim} dimensions. Convert the file, which reshapes it."
        )


@functools.cache
def _units(program: str, family: str) -> dict[str, int]:
    """Return the number of rows of fused weights as multiples of the hidden size."""
    found: dict[str, int] = {}
    for target, *rows in _lists()[program]["names"][family].values():
        if rows:
            found[target] = max(found.get(target, 0), rows[0] + rows[1])
    return found


def _placed(
    factors: LoraFactors, units: int, first: int = 0, count: int = 0, swap: bool = False
) -> LoraFactors:
    """Extend the factors of a part of a weight to the whole weight."""
    up = factors.up
    if swap:
        up = torch.cat(up.chunk(2)[::-1])
    if count:
        unit = up.shape[0] // count
        whole = up.new_zeros(unit * units, *up.shape[1:])
        whole[unit * first : unit * (first + count)] = up
        up = whole
    lengths = factors.dora_scale if up is factors.up else None
    return LoraFactors(up, factors.down, factors.alpha, dora_scale=lengths)


def _side_by_side(parts: list[LoraFactors]) -> LoraFactors:
    if len(parts) == 1:
        return parts[0]
    up = torch.cat([part.up.double() for part in parts], dim=1)
    downs = [part.down.double() * part.scale for part in parts]
    return LoraFactors(up, torch.cat(downs), float(up.shape[1]))


@functools.cache
def _lists() -> dict[str, Any]:
    data = (
        importlib.resources.files("stiefel_lora.files.tools") / "loader_names.json.gz"
    )
    return json.loads(gzip.decompress(data.read_bytes()))
