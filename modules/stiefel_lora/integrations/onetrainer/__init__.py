"""OneTrainer: our optimizers in its dropdown, from outside its checkout.

    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT ui
    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT train --config-path F

Nothing of the checkout is changed. When one of its modules is imported, the one class
or function that a feature needs is wrapped: the list of optimizers (``_choices``), the
window of their parameters (``_window``) and the field of alpha (``_alpha_field``), the
LoRA layers (``_layers``), the making of the optimizer (``_optimizer``), its state in
backups (``_resume``), averages (``_averages``) and the curves (``_curves``).
Configurations that name another optimizer behave as they did.
"""

from __future__ import annotations

from types import ModuleType

from . import (
    _alpha_field,
    _averages,
    _choices,
    _curves,
    _layers,
    _optimizer,
    _resume,
    _window,
)
from ._imports import when_imported

__all__ = ["patch"]


def patch() -> None:
    """Put everything in place; calling it again does nothing."""
    when_imported(
        {
            "modules.util.enum.Optimizer": _choices.add_to_dropdown,
            "modules.util.config.TrainConfig": _choices.add_to_config,
            "modules.util.optimizer_util": _defaults_and_counts,
            "modules.ui.BaseOptimizerParamsWindowView": _window.add_fields,
            "modules.ui.BaseLoraTabView": _alpha_field.lock_alpha,
            "modules.module.LoRAModule": _layers.wrap_layers,
            "modules.module.EMAModule": _averages.wrap_averages,
            "modules.util.create": _optimizer.wrap_creation,
            "modules.modelSetup.BaseModelSetup": _curves.add_ranks,
        }
    )


def _defaults_and_counts(module: ModuleType) -> None:
    _choices.add_defaults(module)
    _resume.keep_counts(module)
