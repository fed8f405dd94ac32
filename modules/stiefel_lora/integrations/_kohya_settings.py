"""Settings of a kohya trainer that the network reads or corrects.

Only ``optimizer_type`` is needed. Where another one is gone, what it is read for is
left out with a warning.
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
    """The method that ``--optimizer_type`` names; None for a foreign optimizer.

    Where the setting is gone, that is noted for the optimizer.
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
    """Compare the learning rate with the method's, and refuse what breaks B.

    Returns:
        The learning rate that was compared, if any.

    Raises:
        OptionError: a setting that rescales an orthonormal B.
    """
    rate = _tell_rate(args, method, points)
    if constrained:
        _refuse_what_breaks_b(args, method, points)
    return rate


def seed_of(args: Any, points: HostPoints) -> int:
    """Seed of the start; 0 where the user gave none."""
    if not hasattr(args, "seed"):
        _lacks(points, "seed", "the LoRA starts from seed 0")
    return getattr(args, "seed", None) or 0


def name_rank_as_alpha(args: Any, points: HostPoints) -> None:
    """Let the host's metadata name the alpha that the file holds."""
    if hasattr(args, "network_alpha") and hasattr(args, "network_dim"):
        args.network_alpha = args.network_dim
    else:
        _lacks(points, "network_alpha", "metadata of the file may name another alpha")


def name_own_module(args: Any, module: str, points: HostPoints) -> None:
    """Let the host's metadata name the network module that made the layers.

    Other programs decide by it how a file is read, and know the host's modules alone.
    """
    if hasattr(args, "network_module"):
        args.network_module = module.removeprefix("musubi_tuner.")
    else:
        _lacks(points, "network_module", "metadata of the file may name another module")


def _tell_rate(args: Any, method: Method, points: HostPoints) -> float | None:
    # The host's own default is one for AdamW, and --unet_lr goes before it.
    name = "unet_lr" if getattr(args, "unet_lr", None) else "learning_rate"
    if not hasattr(args, name):
        _lacks(points, name, "the rate is not compared with the method's")
        return None
    rate = getattr(args, name)
    usual = usual_lr(method, _options_of(args))
    if rate and not 0.1 <= rate / usual <= 10:
        log.warning(
            "--%s is %g, where %s usually begins at %g; each optimizer has its own "
            "unit.",
            *(name, rate, method.label, usual),
        )
    return rate


def _options_of(args: Any) -> dict[str, str]:
    """Texts of ``--optimizer_args``, whose words have quotes of their own."""
    given = [
        str(text).partition("=") for text in getattr(args, "optimizer_args", None) or ()
    ]
    return {key.strip(): value.strip().strip("'\"") for key, _, value in given}


def _refuse_what_breaks_b(args: Any, method: Method, points: HostPoints) -> None:
    if not hasattr(args, "scale_weight_norms"):
        _lacks(points, "scale_weight_norms", f"leave it off with {method.label}")
    if getattr(args, "scale_weight_norms", None):
        raise OptionError(
            f"--scale_weight_norms rescales the factors that {method.label} keeps "
            "orthonormal; leave it out."
        )
    for name in ("full_bf16", "full_fp16"):
        if getattr(args, name, False):
            log.warning(
                "--%s keeps the LoRA in half precision: %s moves float32 copies of it, "
                "so that this saves no memory, and the file holds their rounding.",
                *(name, method.label),
            )


def _lacks(points: HostPoints, name: str, consequence: str) -> None:
    log.warning(
        "--%s was not found among the settings of this trainer: %s; tested with %s.",
        *(name, consequence, points.tested),
    )
