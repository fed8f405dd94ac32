"""Packages and hardware that settings require. This module does not import torch."""

from __future__ import annotations

import importlib.util

from .._install import install_command, pip_command
from ..methods import Method, PackagedMethod
from .resolved import Settings
from .violation import SettingsError, Violation

__all__ = [
    "ATTENTION_PACKAGES",
    "TRACKER_PACKAGES",
    "check_packages",
    "missing_packages",
    "needs_machine",
]

ATTENTION_PACKAGES = {"xformers": "xformers", "flash": "flash_attn"}
"""Module of each attention mechanism that is not part of torch."""

TRACKER_PACKAGES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "comet_ml": "comet_ml",
    "aim": "aim",
    "mlflow": "mlflow",
    "clearml": "clearml",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
}
"""Module of each tracker."""

_EXTRAS = {"quant": "bitsandbytes", "xformers": "xformers"}
_TRAINING = ("torch", "diffusers", "transformers", "accelerate", "peft")


def check_packages(config: Settings) -> None:
    """Check that the packages for the settings are installed.

    Raises:
        SettingsError: If a package is not installed. The message has a line for each
            setting.
    """
    found = missing_packages(config)
    if found:
        raise SettingsError(found)


def missing_packages(config: Settings) -> list[Violation]:
    """Return the settings that require a package which is not installed."""
    found = []
    missing = [name for name in _TRAINING if _is_missing(name)]
    if missing:
        found.append(_problem("device", "training", missing, install_command("train")))
    quantized = config.weight_dtype != config.plain_weight_dtype
    if quantized and _is_missing("bitsandbytes"):
        needs = repr(config.weight_dtype)
        command = install_command("quant")
        found.append(_problem("weight_dtype", needs, ["bitsandbytes"], command))
    attention = config.attention_mechanism
    module = ATTENTION_PACKAGES.get(attention)
    if module is not None and _is_missing(module):
        flash = attention == "flash"
        command = pip_command("flash-attn") if flash else install_command("xformers")
        found.append(
            _problem("attention_mechanism", repr(attention), [module], command)
        )
    for name in config.trackers:
        module = TRACKER_PACKAGES[name]
        if _is_missing(module):
            command = pip_command(module)
            found.append(_problem("trackers", repr(name), [module], command))
    entry = config.optimizer.method
    module = _module_of(entry) if entry else None
    if entry is not None and module is not None and _is_missing(module):
        command = install_command(entry.extra or "")
        found.append(_problem("optimizer", entry.label, [module], command))
    return found


def _module_of(entry: Method) -> str | None:
    if isinstance(entry, PackagedMethod):
        return entry.package if entry.extra else None
    return _EXTRAS.get(entry.extra or "")


def needs_machine(config: Settings) -> bool:
    """Return whether settings depend on the hardware, which torch can check."""
    return (
        config.device not in ("auto", "cpu")
        or config.train_dtype == "float16"
        or config.attention_mechanism != "sdp"
        or config.compile
    )


def _is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _problem(key: str, user: str, modules: list[str], command: str) -> Violation:
    packages = ", ".join(modules)
    one = len(modules) == 1
    return Violation(
        key,
        f"{user} requires the package{'' if one else 's'} {packages}, which "
        f"{'is' if one else 'are'} not installed",
        f"Install {'it' if one else 'them'} with: {command}",
    )
