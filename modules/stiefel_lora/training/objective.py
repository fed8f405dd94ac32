"""What a wrong prediction costs: from what a family predicts to a number a picture."""

from __future__ import annotations

from torch import Tensor

from ..families.base import Prediction

__all__ = ["picture_losses"]


def picture_losses(found: Prediction) -> Tensor:
    """Mean squared error of each picture, ``(batch,)`` float32."""
    return (found.predicted - found.target).square().flatten(1).mean(1)
