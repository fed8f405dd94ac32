"""A LoRA file in memory: its layers, what else it holds, and its description."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..weights import LoraFactors
from .layer_names import StemName

__all__ = ["LoraFile", "LoraLayer", "OtherLayer"]


@dataclasses.dataclass(frozen=True, eq=False)
class LoraLayer:
    """One LoRA or DoRA layer: its factors and its names."""

    name: str
    """Canonical where the family is known, else component and path as spelled."""

    stem: str
    """As the file spells it."""

    parsed: StemName
    factors: LoraFactors
    """Always the two factors of one product; a Tucker core is multiplied into A."""

    suffixes: Mapping[str, str]
    """Part (``down``, ``up``, ``alpha`` ...) -> suffix of its key."""

    stored_rank: int
    """Rank of the factors in the file."""

    dtype: torch.dtype
    """Of B in the file."""

    size: int
    """Bytes of its tensors in the file."""

    key: str = ""
    """Equal in all files and spellings that hold this layer."""

    @property
    def kind(self) -> str:
        """``LoRA``, ``LoRA (Tucker)`` or ``DoRA``."""
        if self.factors.is_dora:
            return "DoRA"
        return "LoRA (Tucker)" if "mid" in self.suffixes else "LoRA"


@dataclasses.dataclass(frozen=True, eq=False)
class OtherLayer:
    """A layer whose update is not one product B A: LoHa, LoKr, full difference ..."""

    name: str
    kind: str
    tensors: Mapping[str, Tensor]
    """By their keys in the file."""


@dataclasses.dataclass(frozen=True, eq=False)
class LoraFile:
    """All that was read from one file."""

    path: Path
    layers: tuple[LoraLayer, ...]
    others: tuple[OtherLayer, ...]
    unknown: Mapping[str, Tensor]
    """Tensors whose keys belong to no adapter."""

    metadata: Mapping[str, str]
    family: str | None
    """``sdxl``, ``sd15``, ``flux``, the name of a family that is not trained here, or
    None."""

    spelling: str
    size: int
    """Bytes of the file."""

    remarks: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """All that the file holds, by key."""

    @property
    def by_key(self) -> dict[str, LoraLayer]:
        """Layers by the key that is equal in all spellings."""
        return {layer.key: layer for layer in self.layers}

    @property
    def widest_dtype(self) -> torch.dtype:
        """Of the factors; float32 for float64, float16 for 8 bits."""
        sizes = [layer.dtype.itemsize for layer in self.layers]
        widest = max(sizes, default=4)
        if widest >= 4:
            return torch.float32
        # 8 bits keep too little of factors that were computed again.
        kinds = {layer.dtype for layer in self.layers if layer.dtype.itemsize == 2}
        if len(kinds) == 2:
            return torch.float32
        return next(iter(kinds), torch.float16)

    @property
    def dtypes(self) -> dict[str, int]:
        """Name of a dtype -> layers that have it."""
        names = (str(layer.dtype).removeprefix("torch.") for layer in self.layers)
        return dict(collections.Counter(names).most_common())

    @property
    def kinds(self) -> dict[str, int]:
        """Kind of adapter -> layers of it."""
        layers = [layer.kind for layer in self.layers]
        others = [other.kind for other in self.others]
        return dict(collections.Counter([*layers, *others]).most_common())
