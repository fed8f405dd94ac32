"""LoRA weights as plain data, and how their modules are named."""

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
    """The factors of one layer: its weight moves by (alpha / r) B A.

    ``up`` is B, (out, r), or (out, r, 1, 1) for a convolution; ``down`` is A, (r, in)
    or (r, in, k, k). Convolutions of one or three dimensions have one or three k. Dtype
    and device are free. A DoRA has the length of every row too, as ``magnitude``
    (peft's spelling), ``dora_scale`` (that of kohya-style files) or both: (out,) or one
    number a row in any shape. :mod:`.dora` has the formulas.

    Raises:
        ModelError: the shapes do not belong together, or alpha is not a number.
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
                f"up {up} and down {down} are not the factors of one layer; they must "
                "be (out, r) and (r, in), or (out, r, 1, 1) and (r, in, k, k)."
            )
        if 0 in (up[0], *down[1:]):
            raise ModelError(
                f"up {up} and down {down} are empty; a layer has at least one output "
                "and one input."
            )
        for kind in ("magnitude", "dora_scale"):
            lengths = getattr(self, kind)
            if lengths is not None and lengths.numel() != up[0]:
                raise ModelError(
                    f"A {kind} of shape {tuple(lengths.shape)} is not one number for "
                    f"each of {up[0]} rows."
                )
        if self.rank == 0 or not math.isfinite(self.alpha):
            raise ModelError(
                f"Rank {self.rank} with alpha {self.alpha} is no LoRA; the rank must "
                "be at least 1 and alpha a finite number."
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
        """Whether the lengths of the rows are part of it."""
        return self.magnitude is not None or self.dora_scale is not None


LoraWeights = dict[str, LoraFactors]
"""Canonical name -> factors, for example ``unet.mid_block.attentions.0.proj_in``."""


def rank_of(down: Tensor) -> int:
    """Rank by the first size of A; 0 for a single number, which no factor is."""
    return down.shape[0] if down.ndim else 0


def canonical_name(component: str, module_path: str) -> str:
    """Name a module: component, then its diffusers path.

    transformers 5 dropped the ``text_model.`` level of ``CLIPTextModel``; files of all
    tools keep it, so it is put back.

    Raises:
        ModelError: the component is none that a LoRA file can hold.
    """
    if component not in COMPONENTS:
        raise ModelError(
            f"There is no component {component!r}; a LoRA file holds "
            f"{', '.join(COMPONENTS)}."
        )
    # T5's layers are encoder.block and have no such level.
    if component.startswith("text_encoder") and module_path.startswith(
        "encoder.layers."
    ):
        module_path = f"text_model.{module_path}"
    return f"{component}.{module_path}"


def with_one_alpha(weights: LoraWeights) -> LoraWeights:
    """The same LoRA with the alpha of most layers in all; A makes up for it.

    For diffusers 0.42, which reads kohya-style alphas of a U-Net layer by layer under
    names that its layers do not have, and gives them all the most frequent one.
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
    """The alpha that most layers have."""
    return collections.Counter(alphas).most_common(1)[0][0]
