"""Integration with OneTrainer, without changing its files.

    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT ui
    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT train --config-path F

When a module of OneTrainer is imported, the functions and classes that are listed in
``_all_hooks`` are wrapped. Configurations with an optimizer of OneTrainer are not
affected. If functions are missing in another version of OneTrainer, an error or warning
is shown when an optimizer of this package is selected.
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
