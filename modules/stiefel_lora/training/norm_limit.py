"""Limit of the norms of the LoRA updates (max norm regularization of sd-scripts)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from ..adapters import alpha_of
from ..optim.pairs import Pair
from ..optim.product_norms import product_norms, scale_products

__all__ = ["NormLimit"]


class NormLimit:
    """Scale down the updates s B A of all layers to a maximum Frobenius norm.

    Args:
        limit: maximum norm.
        model: model with the adapter.
        pairs: factors of all layers.
        optimizer: optimizer that trains them, whose state is transformed if necessary.
    """

    def __init__(
        self,
        limit: float,
        model: nn.Module,
        pairs: list[Pair],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._limit = limit
        self._pairs = pairs
        self._scales = [alpha_of(model, pair) / pair.rank for pair in pairs]
        self._optimizer = optimizer

    def apply(self, stopped: Collection[str] = ()) -> dict[str, float]:
        """Scale after an optimizer step. Return values for the log.

        Args:
            stopped: parts of the model that are not trained. They are measured only,
                because scaling them again could change their last bits.

        Returns:
            The number of scaled layers, and the mean and the largest norm after
            scaling, by the names of sd-scripts.
        """
        raw = product_norms(self._pairs).tolist()
        norms = [norm * scale for norm, scale in zip(raw, self._scales, strict=True)]
        large = [
            index
            for index, norm in enumerate(norms)
            if norm > self._limit and self._part_of(index) not in stopped
        ]
        scale_products(
            self._optimizer,
            [self._pairs[index] for index in large],
            [self._limit / norms[index] for index in large],
        )
        limited = [min(norm, self._limit) for norm in norms]
        return {
            "max_norm/keys_scaled": float(len(large)),
            "norm/avg_key_norm": sum(limited) / len(limited),
            "max_norm/max_key_norm": max(limited),
        }

    def _part_of(self, index: int) -> str:
        return self._pairs[index].name.partition(".")[0]
