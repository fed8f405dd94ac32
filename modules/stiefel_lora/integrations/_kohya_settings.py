"""Settings of a kohya trainer that are used by the network.

Only ``optimizer_type`` is required. If another setting does not exist, the related
feature is disabled with a warning.
"""

from __future__ import annotations

import logging
from typing import Any

from .._exceptions import OptionError
from ..methods import CATALOGUE, Method, usual_lr
from ..optim.host_points import HostPoints

__all__ = [
    "check_settings",
    "method_of",
    "name_own_module",
    "name_rank_as_alpha",
    "seed_of",
]

log = logging.getLogger("stiefel_lora")


def method_of(args: Any, points: HostPoints) -> Method | None:
    """Return the method of ``--optimizer_type``, or None for other optimizers.

    If the setting does not exist, the optimizer raises an error.
    """
    if not hasattr(args, "optimizer_type"):
        points.absent.append("args.optimizer_type")
        return None
    module, _, name = (args.optimizer_type or "").rpartition(".")
    if module.partition(".")[0] != "stiefel_lora":
        return None
    classes = {m.target.partition(":")[2]: m for m in CATALOGUE.values()}
    return classes.get(name)


def check_settings(
    args: Any, method: Method, constrained: bool, points: HostPoints
) -> float | None:
    """Check the learning rate and settings that are not supported by a method.

    Returns:
        The learning rate that was checked, or None.

    Raises:
        OptionError: If a setting rescales an orthonormal B.
    """
    rate = _tell_rate(args, method, points)
    if constrained:
        _refuse_what_breaks_b(args, method, points)
    return rate


def seed_of(args: Any, points: HostPoints) -> int:
    """Return the seed of the initialization. The default is 0."""
    if not hasattr(args, "seed"):
        _lacks(points, "seed", "the LoRA is initialized with seed 0")
    return getattr(args, "seed", None) or 0


def name_rank_as_alpha(args: Any, points: HostPoints) -> None:
    """Set alpha in the settings, so that the metadata contain the actual alpha."""
    if hasattr(args, "network_alpha") and hasattr(args, "network_dim"):
        args.network_alpha = args.network_dim
    else:
        _lacks(points, "network_alpha", "the metadata may contain another alpha")


def name_own_module(args: Any, module: str, points: HostPoints) -> None:
    """Set the network module in the settings to that of the trainer.

    It is written to the metadata, by which other programs decide how to load a file.
    """
    if hasattr(args, "network_module"):
        args.network_module = module.removeprefix("musubi_tuner.")
    else:
        _lacks(points, "network_module", "the metadata may contain another module")


def _tell_rate(args: Any, method: Method, points: HostPoints) -> float | None:
    # The host's default is for AdamW, and --unet_lr takes precedence over it.
    name = "unet_lr" if getattr(args, "unet_lr", None) else "learning_rate"
    if not hasattr(args, name):
        _lacks(points, name, "the learning rate is not checked")
        return None
    rate = getattr(args, name)
    usual = usual_lr(method, _options_of(args))
    if rate and not 0.1 <= rate / usual <= 10:
        log.warning(
            "--%s is %g, while the default of %s is %g. Learning rates of optimizers "
            "have different units.",
            *(name, rate, method.label, usual),
        )
    return rate


def _options_of(args: Any) -> dict[str, str]:
    """Return the values of ``--optimizer_args``."""
    given = [
        str(text).partition("=") for text in getattr(args, "optimizer_args", None) or ()
    ]
    return {key.strip(): value.strip().strip("'\"") for key, _, value in given}


def _refuse_what_breaks_b(args: Any, method: Method, points: HostPoints) -> None:
    if not hasattr(args, "scale_weight_norms"):
        _lacks(points, "scale_weight_norms", f"do not use it with {method.label}")
    if getattr(args, "scale_weight_norms", None):
        raise OptionError(
            f"--scale_weight_norms: rescales the factors, which {method.label} "
            "keeps orthonormal. Remove it."
        )
    for name in ("full_bf16", "full_fp16"):
        if getattr(args, name, False):
            log.warning(
                "--%s keeps the LoRA in half precision, but %s trains float32 "
                "copies. No memory is saved, and the file is rounded.",
                *(name, method.label),
            )


def _lacks(points: HostPoints, name: str, consequence: str) -> None:
    log.warning(
        "--%s is not a setting of this trainer: %s. Tested with %s.",
        *(name, consequence, points.tested),
    )
