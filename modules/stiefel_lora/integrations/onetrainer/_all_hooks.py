"""List of all functions and classes of OneTrainer that are wrapped.

The modules are: list of optimizers (``_choices``), names in configurations
(``_names``), plugins (``_plugins``), window of optimizer parameters (``_window``),
field of LoRA alpha (``_alpha_field``), learning rate (``_rate``), error messages
(``_refusals``), LoRA layers (``_layers``), creation of the trainer (``_trainer``) and
the optimizer (``_optimizer``), optimizer state in backups (``_resume``), EMA
(``_averages``) and TensorBoard (``_curves``).
"""

from __future__ import annotations

from . import (
    _alpha_field,
    _averages,
    _choices,
    _curves,
    _layers,
    _names,
    _optimizer,
    _rate,
    _refusals,
    _resume,
    _trainer,
    _window,
)
from ._hooks import Hook, put_in
from ._plugins import load_plugins

__all__ = ["HOOKS", "patch"]

_NO_RATE = "the learning rate is not suggested when one of its optimizers is selected"

HOOKS = (
    Hook("modules.util.enum.Optimizer", _choices.add_to_dropdown),
    Hook(
        "modules.util.enum.Optimizer",
        _choices.add_fused_back_pass,
        "the fused back pass has no effect for the optimizers of stiefel-lora",
        needed=_choices.needs_fused_back_pass,
    ),
    Hook("modules.util.config.TrainConfig", _choices.add_to_config),
    Hook("modules.util.config.TrainConfig", _names.watch_names),
    Hook(
        "modules.util.config.TrainConfig",
        _choices.add_switch,
        "use_stiefel in a configuration has no effect",
    ),
    Hook(
        "modules.util.optimizer_util",
        _choices.add_defaults,
        "the defaults of the optimizers of stiefel-lora are not filled in",
    ),
    Hook(
        "modules.util.optimizer_util",
        _resume.keep_counts,
        "the step count is moved to the GPU, and every step is synchronized",
    ),
    Hook(
        "modules.ui.BaseOptimizerParamsWindowView",
        _window.add_fields,
        "the settings of the optimizers of stiefel-lora are not shown",
    ),
    Hook(
        "modules.ui.BaseLoraTabView",
        _alpha_field.lock_alpha,
        "the LoRA tab shows alpha, although training uses the rank",
    ),
    Hook("modules.ui.TrainingTabController", _rate.propose_in_tab, _NO_RATE),
    Hook(
        "modules.ui.OptimizerParamsWindowController", _rate.propose_in_dialog, _NO_RATE
    ),
    Hook(
        "modules.ui.BaseTrainingTabView",
        _rate.without_choice,
        _NO_RATE,
    ),
    Hook(
        "modules.ui.TrainUIController",
        _refusals.remember_window,
        "an error is shown as a traceback in the console",
    ),
    Hook("modules.module.LoRAModule", _layers.wrap_layers),
    Hook(
        "modules.module.EMAModule",
        _averages.wrap_averages,
        needed=_averages.needs_averages,
    ),
    Hook("modules.util.create", _optimizer.wrap_optimizer),
    Hook(
        "modules.util.create",
        _optimizer.wrap_averages_made,
        "EMA continues with the averages of a backup of another optimizer",
        needed=_averages.needs_averages,
    ),
    Hook(
        "modules.util.create",
        _trainer.wrap_trainer,
        "unsupported settings are only reported after the model was loaded",
    ),
    Hook(
        "modules.modelSetup.BaseModelSetup",
        _curves.add_ranks,
        "TensorBoard shows no ranks",
    ),
)
"""All hooks. Hooks of the same module are installed in this order."""


def patch() -> None:
    """Install all hooks. Repeated calls have no effect."""
    load_plugins()
    put_in(HOOKS)
