"""OneTrainer: add these optimizers to its dropdown without changing its files.

    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT ui
    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT train --config-path F

Nothing of the checkout is changed. When one of its modules is imported, the one class
or function that a feature needs is wrapped. ``_all_hooks`` lists which. Configurations
that name another optimizer behave as they did, also where OneTrainer has changed:
``_hooks`` refuses or warns once one of our methods is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._all_hooks import HOOKS, patch

__all__ = ["HOOKS", "patch"]


def __getattr__(name: str) -> Any:
    # The hooks import torch, which writing the drop-in or refusing a call need not.
    if name in __all__:
        from . import _all_hooks

        return getattr(_all_hooks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
