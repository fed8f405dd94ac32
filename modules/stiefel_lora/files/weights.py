"""LoRA weights as plain data, with canonical module names."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable

from torch import Tensor

from .._exceptions import ModelError

__all__ = [
    "COMPONENTS",
    "LoraFactors",
    "LoraWeights",
    "canonical_name",
    "commonest_alpha",
    "rank_of",
    "with_one_alpha",
]

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2")


@dataclasses.dataclass(frozen=True, eq=False)
class LoraFactors:
    """LoRA factors of one layer, which add (alpha / r) B A to its weight.

    ``up`` is B, (out, r), or (out, r, 1, 1) for a convolution. ``down`` is A, (r, in)
    or (r, in, k, k). Convolutions of one or three dimensions have one or three k. Any
    dtype and device are allowed. A DoRA also has a scale per row, as ``magnitude``
    (PEFT format), ``dora_scale`` (kohya format) or both: (out,) or one number per row
    in any shape. The formulas are in :mod:`.dora`.

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
        """Rank r, the inner size of the product."""
        return self.up.shape[1]

    @property
    def scale(self) -> float:
        """Factor alpha / r in front of B A."""
        return self.alpha / self.rank

    @property
    def is_dora(self) -> bool:
        """True if the layer has a DoRA scale."""
        return self.magnitude is not None or self.dora_scale is not None


LoraWeights = dict[str, LoraFactors]
"""Canonical name -> factors, for example ``unet.mid_block.attentions.0.proj_in``."""


def rank_of(down: Tensor) -> int:
    """Return the rank, which is the first size of A, or 0 for a scalar."""
    return down.shape[0] if down.ndim else 0


def canonical_name(component: str, module_path: str) -> str:
    """Return the canonical name of a module, which is component and diffusers path.

    transformers 5 dropped the ``text_model.`` level of ``CLIPTextModel``. LoRA files of
    all tools keep it, so it is restored.

    Raises:
        ModelError: If a LoRA file has no such component.
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
    """Give all layers the most frequent alpha and rescale A to compensate.

    Needed for diffusers 0.42, which searches the kohya-style alphas of a U-Net under
    names that its layers do not have and applies the most frequent one to all.
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
