r"""Training loss of an image, computed from the prediction of the model.

For image i with the signal-to-noise ratio :math:`s_i` (power of the signal divided by
the power of the noise) and errors :math:`e = \text{predicted} - \text{target}`:

.. math:: L_i = c_i\,w(s_i)\;\mathrm{mean}\big(m_i \cdot \ell(e_i)\big)

:math:`\ell` is a sum of elementwise losses (:math:`e^2`, :math:`|e|` and the Huber
loss, :math:`e^2 / 2` below delta and :math:`\delta(|e| - \delta / 2)` above it),
:math:`w` is the weight of the noise level (``level_weights``), :math:`m_i` the mask and
:math:`c_i` the loss weight of the image. Both are 1 by default.

With prior preservation, the prediction p of the base model is the target outside of the
mask: :math:`\lambda\,\mathrm{mean}\big((1 - m_i) \cdot \ell(\text{predicted} - p)\big)`
is added to the mean. For images with ``prior_prediction``, p is the target everywhere.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ...families.protocol import Batch, Prediction
from .level_weights import LEVEL_WEIGHTS, LevelWeight, constant

if TYPE_CHECKING:
    from ...config import TrainConfig

__all__ = ["Objective", "image_losses", "make_objective"]


def image_losses(found: Prediction) -> Tensor:
    """Return the mean squared error of each image, ``(batch,)`` float32."""
    return (found.predicted - found.target).square().flatten(1).mean(1)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Training loss with its settings. Not used for validation."""

    mse_strength: float = 1.0
    mae_strength: float = 0.0
    huber_strength: float = 0.0
    huber_delta: float = 1.0
    level_weight: LevelWeight = constant
    gamma: float = 5.0
    """Parameter gamma of ``level_weight``."""

    velocity: bool = False
    """Whether the model predicts the velocity instead of the noise."""

    unmasked_weight: float = 0.1
    normalize_masked_area: bool = False
    prior_weight: float = 0.0
    """Weight of the difference from the base model outside of the mask."""

    @property
    def needs_levels(self) -> bool:
        """Return whether the loss depends on the signal-to-noise ratio."""
        return self.level_weight is not constant

    def needs_base(self, batch: Batch) -> bool:
        """Return whether the loss of a batch depends on the base model's prediction."""
        if "prior_prediction" in batch and bool(batch["prior_prediction"].any()):
            return True
        if not self.prior_weight or "mask" not in batch:
            return False
        return bool((self._weights(batch["mask"]) < 1).any())

    def losses(
        self,
        found: Prediction,
        batch: Batch,
        ratio: Tensor | None,
        base: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of each image, ``(batch,)`` float32.

        Args:
            found: prediction and target, both ``(batch, channels, h, w)``.
            batch: batch, which can contain ``mask`` ``(batch, 1, h, w)`` in [0, 1],
                ``loss_weight`` ``(batch,)`` and ``prior_prediction`` ``(batch,)``.
            ratio: signal-to-noise ratios ``(batch,)``. None if ``needs_levels`` is
                False.
            base: prediction of the base model. None if ``needs_base`` is False.
        """
        mask = batch.get("mask")
        if base is not None and "prior_prediction" in batch:
            chosen = batch["prior_prediction"].bool().view(-1, 1, 1, 1)
            target = torch.where(chosen, base, found.target)
            found = Prediction(found.predicted, target)
        if self._is_plain and mask is None:
            losses = image_losses(found)
        else:
            losses = self._masked(self._elementwise(found), mask)
        if base is not None and mask is not None and self.prior_weight:
            outside = self._elementwise(Prediction(found.predicted, base))
            weights = 1 - self._weights(mask)
            losses = losses + self.prior_weight * self._mean(outside, weights)
        if ratio is not None:
            weights = self.level_weight(ratio.float(), self.velocity, self.gamma)
            losses = losses * weights
        if "loss_weight" in batch:
            losses = losses * batch["loss_weight"].float()
        return losses

    @property
    def _is_plain(self) -> bool:
        return self.mse_strength == 1 and not (self.mae_strength or self.huber_strength)

    def _elementwise(self, found: Prediction) -> Tensor:
        error = found.predicted - found.target
        parts = {
            "mse": (self.mse_strength, lambda: error.square()),
            "mae": (self.mae_strength, lambda: error.abs()),
            "huber": (self.huber_strength, lambda: self._huber(found)),
        }
        return sum(strength * loss() for strength, loss in parts.values() if strength)  # type: ignore[return-value]

    def _huber(self, found: Prediction) -> Tensor:
        return functional.huber_loss(
            found.predicted, found.target, reduction="none", delta=self.huber_delta
        )

    def _masked(self, losses: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return losses.flatten(1).mean(1)
        return self._mean(losses, self._weights(mask))

    def _weights(self, mask: Tensor) -> Tensor:
        return mask.float().clamp(self.unmasked_weight, 1)

    def _mean(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted mean of each image."""
        means = (losses * weights).flatten(1).mean(1)
        if self.normalize_masked_area:
            # An empty mask with unmasked_weight 0 must not divide by zero.
            means = means / weights.flatten(1).mean(1).clamp_min(1e-6)
        return means


def make_objective(config: TrainConfig, prediction_type: str) -> Objective:
    """Create the loss of a configuration for the prediction type of the model."""
    return Objective(
        mse_strength=config.mse_strength,
        mae_strength=config.mae_strength,
        huber_strength=config.huber_strength,
        huber_delta=config.huber_delta,
        level_weight=LEVEL_WEIGHTS[config.loss_weight_fn],
        gamma=config.loss_weight_strength,
        velocity=prediction_type == "v_prediction",
        unmasked_weight=config.unmasked_weight,
        normalize_masked_area=config.normalize_masked_area_loss,
        prior_weight=config.masked_prior_preservation_weight,
    )
