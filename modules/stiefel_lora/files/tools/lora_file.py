"""LoRA file in memory."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..weights import LoraFactors
from .layer_names import StemName
from .widest_dtype import widest_dtype

__all__ = ["LoraFile", "LoraLayer", "OtherLayer"]


@dataclasses.dataclass(frozen=True, eq=False)
class LoraLayer:
    """LoRA or DoRA layer of a file."""

    name: str
    """Canonical name if the family is known, else component and path in the file."""

    stem: str
    """Stem of the keys in the file."""

    parsed: StemName
    factors: LoraFactors
    """Factors of the product. A Tucker core is multiplied into A."""

    suffixes: Mapping[str, str]
    """Key suffixes by part (``down``, ``up``, ``alpha``, ...)."""

    stored_rank: int
    """Rank in the file."""

    dtype: torch.dtype
    """Widest dtype of the factors in the file."""

    size: int
    """Size of the tensors in bytes."""

    key: str = ""
    """Key of the layer that is the same in all key formats."""

    @property
    def kind(self) -> str:
        """``LoRA``, ``LoRA (Tucker)`` or ``DoRA``."""
        if self.factors.is_dora:
            return "DoRA"
        return "LoRA (Tucker)" if "mid" in self.suffixes else "LoRA"


@dataclasses.dataclass(frozen=True, eq=False)
class OtherLayer:
    """Layer whose update is not a product B A, such as LoHa or LoKr."""

    name: str
    kind: str
    tensors: Mapping[str, Tensor]
    """Tensors by key."""

    scale: float | None = None
    """Factor of the update by the settings of peft; None if alpha is in the tensors."""

    parsed: StemName | None = None
    """Parsed name. None for adapters that are not in a file."""


@dataclasses.dataclass(frozen=True, eq=False)
class LoraFile:
    """Contents of a LoRA file."""

    path: Path
    layers: tuple[LoraLayer, ...]
    others: tuple[OtherLayer, ...]
    unknown: Mapping[str, Tensor]
    """Tensors that are not part of an adapter."""

    metadata: Mapping[str, str]
    family: str | None
    """Model family: ``sdxl``, ``sd15``, ``flux``, or another name. None if unknown."""

    spelling: str
    size: int
    """Size of the file in bytes."""

    remarks: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Return all tensors of the file by key."""

    folder: Path | None = None
    """Folder by which the file was opened, or None."""

    variant: str = ""
    """Model with the layer names of a family and other shapes, such as SD 2, or ""."""

    @property
    def label(self) -> str | None:
        """Name of the model: the variant or the family."""
        return self.variant or self.family

    @property
    def unknown_text(self) -> str:
        """Message about unknown tensors, or ""."""
        names = sorted(self.unknown)
        if not names:
            return ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        count = "1 key is" if len(names) == 1 else f"{len(names)} keys are"
        return f"{count} not part of an adapter: {', '.join(names[:3])}{more}."

    @property
    def by_key(self) -> dict[str, LoraLayer]:
        """Return the layers by a key that is the same in all key formats."""
        return {layer.key: layer for layer in self.layers}

    @property
    def widest_dtype(self) -> torch.dtype:
        """Return the dtype for computed factors: the widest dtype of the file.

        It is float32 for float64, and float16 for 8-bit dtypes.
        """
        widest = widest_dtype(layer.dtype for layer in self.layers)
        if widest.itemsize == 1:
            # 8 bits are too few for recomputed factors.
            return torch.float16
        return torch.float32 if widest == torch.float64 else widest

    @property
    def dtypes(self) -> dict[str, int]:
        """Return the number of layers of each dtype."""
        names = (str(layer.dtype).removeprefix("torch.") for layer in self.layers)
        return dict(collections.Counter(names).most_common())

    @property
    def kinds(self) -> dict[str, int]:
        """Return the number of layers of each kind of adapter."""
        layers = [layer.kind for layer in self.layers]
        others = [other.kind for other in self.others]
        return dict(collections.Counter([*layers, *others]).most_common())
