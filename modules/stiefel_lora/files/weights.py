"""Factors of a LoRA with canonical layer names."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .._exceptions import ModelError

__all__ = [
    "COMPONENTS",
    "LoraFactors",
    "LoraWeights",
    "at_least_float32",
    "canonical_name",
    "commonest_alpha",
    "rank_of",
    "with_one_alpha",
]

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2")


@dataclasses.dataclass(frozen=True, eq=False)
class LoraFactors:
    """LoRA factors of a layer. The update of its weight is (alpha / r) B A.

    ``up`` is B, (out, r), or (out, r, 1, 1) for a convolution. ``down`` is A, (r, in),
    or (r, in, k, k) for a convolution. 1D and 3D convolutions are supported, too. Any
    dtype and device are allowed. A DoRA layer also has a scale per row: ``magnitude``
    (PEFT format), ``dora_scale`` (kohya format) or both, see :mod:`.dora`.

    Raises:
        ModelError: If the shapes do not match, or alpha is not finite.
    """

    up: Tensor
    down: Tensor
    alpha: float
    magnitude: Tensor | None = None
    dora_scale: Tensor | None = None

    def __post_init__(self) -> None:
        up, down = tuple(self.up.shape), tuple(self.down.shape)
        same_kind = len(up) == len(down) and 2 <= len(up) <= 5
        if not same_kind or up[1] != down[0] or any(size != 1 for size in up[2:]):
            raise ModelError(
                "up and down must have shapes (out, r) and (r, in), or (out, r, 1, "
                f"1) and (r, in, k, k), but got {up} and {down}."
            )
        if 0 in (up[0], *down[1:]):
            raise ModelError(
                "up and down must have at least one output and one input, but got "
                f"shapes {up} and {down}."
            )
        for kind in ("magnitude", "dora_scale"):
            lengths = getattr(self, kind)
            if lengths is not None and lengths.numel() != up[0]:
                raise ModelError(
                    f"The {kind} must have one number per row ({up[0]} rows), but "
                    f"has shape {tuple(lengths.shape)}."
                )
        if self.rank == 0 or not math.isfinite(self.alpha):
            raise ModelError(
                "The rank must be at least 1 and alpha must be finite, but got rank "
                f"{self.rank} and alpha {self.alpha}."
            )

    @property
    def rank(self) -> int:
        """Rank r of the product."""
        return self.up.shape[1]

    @property
    def scale(self) -> float:
        """Scale alpha / r of the product."""
        return self.alpha / self.rank

    @property
    def is_dora(self) -> bool:
        """Return whether the layer has a DoRA scale."""
        return self.magnitude is not None or self.dora_scale is not None


LoraWeights = dict[str, LoraFactors]
"""Factors by canonical layer name, such as ``unet.mid_block.attentions.0.proj_in``."""


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64, and float32 for all narrower dtypes.

    ``torch.promote_types`` does not support float8.
    """
    return dtype if dtype.itemsize >= 4 else torch.float32


def rank_of(down: Tensor) -> int:
    """Return the rank, which is the first dimension of A. 0 for a scalar."""
    return down.shape[0] if down.ndim else 0


def canonical_name(component: str, module_path: str) -> str:
    """Return the canonical name of a layer: the component and its path in diffusers.

    In transformers 5, the paths of ``CLIPTextModel`` do not begin with ``text_model.``.
    It is added, because LoRA files of all tools contain it.

    Raises:
        ModelError: If the component is unknown.
    """
    if component not in COMPONENTS:
        raise ModelError(
            f"{component!r} is not a component of a LoRA file. Use one of "
            f"{', '.join(COMPONENTS)}."
        )
    # T5's layers are named encoder.block and have no such level.
    if component.startswith("text_encoder") and module_path.startswith(
        "encoder.layers."
    ):
        module_path = f"text_model.{module_path}"
    return f"{component}.{module_path}"


def with_one_alpha(weights: LoraWeights) -> LoraWeights:
    """Set the alpha of all layers to the most frequent one, and rescale A accordingly.

    This is necessary for diffusers 0.42, which applies the most frequent alpha of a
    kohya file to all layers of a U-Net.
    """
    if not weights:
        return weights
    alpha = commonest_alpha(factors.alpha for factors in weights.values())
    return {
        name: factors
        if factors.alpha == alpha
        else dataclasses.replace(
            factors, down=factors.down * (factors.alpha / alpha), alpha=alpha
        )
        for name, factors in weights.items()
    }


def commonest_alpha(alphas: Iterable[float]) -> float:
    """Return the most frequent alpha."""
    return collections.Counter(alphas).most_common(1)[0][0]
