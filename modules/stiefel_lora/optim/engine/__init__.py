"""The machinery of :class:`~stiefel_lora.optim.pair_optimizer.PairOptimizer`.

A step goes through these files in this order: ``settling`` (is B orthonormal, is the
pair prepared), ``gradient_watch`` (which pairs can take the step), ``batching`` and
``two_passes`` (tensors of one shape stacked by ``stacking``, moved by the rule, written
back into ``master_weights``), ``adamw_step`` (what the method leaves to AdamW).
``refusals``, ``reports`` and ``saved_state`` are what a user reads of it.
"""

from __future__ import annotations

__all__: list[str] = []
