"""Implementation of :class:`~stiefel_lora.optim.pair_optimizer.PairOptimizer`.

A step uses these modules in this order: ``settling`` (orthonormalization of B and other
preparation of pairs), ``gradient_watch`` (detection of invalid gradients),
``batching``, ``two_passes`` and ``together`` (tensors of one shape are stacked by
``stacking``, updated by the rule, and written back to ``master_weights``), and
``adamw_step`` (parameters that are trained with AdamW). ``refusals``, ``reports`` and
``saved_state`` contain errors and log messages.
"""

from __future__ import annotations

__all__: list[str] = []
