"""The engine of :class:`~stiefel_lora.optim.pair_optimizer.PairOptimizer`.

A step uses these modules in this order: ``settling`` (is B orthonormal, is the pair
prepared), ``gradient_watch`` (which pairs can take the step), ``batching``,
``two_passes`` and ``together`` (tensors of one shape are stacked by ``stacking``, moved
by the rule and written back into ``master_weights``), ``adamw_step`` (everything left
to AdamW). ``refusals``, ``reports`` and ``saved_state`` contain the errors and log
lines.
"""

from __future__ import annotations

__all__: list[str] = []
