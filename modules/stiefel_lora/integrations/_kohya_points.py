"""Checks of the functions of a kohya trainer that the network requires.

If a function is missing or is not called, training with an optimizer for LoRA pairs
would use another scale, initialization or pairs, so an error is raised
(:mod:`..optim.host_points`). With other optimizers, the network of the trainer is not
changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from .._exceptions import ConfigError
from ..optim.host_points import HostPoints, await_points

__all__ = ["GROUPED", "GROUPINGS", "PREPARED", "find_points", "loras_of"]

GROUPINGS = (
    "prepare_optimizer_params",
    "prepare_optimizer_params_with_multiple_te_lrs",
)
PREPARED = "the call of the network's prepare_network(args)"
GROUPED = f"the call of the network's {GROUPINGS[0]}(...)"

_LISTS = ("text_encoder_loras", "unet_loras")
_FACTORS = ("lora_down", "lora_up")
_LAYER = ("lora_name", "lora_dim", "alpha", "scale", *_FACTORS)


def loras_of(network: Any) -> list[Any]:
    """Return the LoRA layers of a network."""
    return [lora for name in _LISTS for lora in getattr(network, name, [])]


def find_points(network: Any, tested: str) -> HostPoints:
    """Check that all required functions exist, and store the result in the parameters.

    Args:
        network: network that was created by the trainer.
        tested: version of the trainer that this integration was tested with.

    Raises:
        ConfigError: If the network is not supported.
    """
    _check_kind(network, tested)
    absent = [f"network.{name}" for name in _LISTS if not hasattr(network, name)]
    loras = loras_of(network)
    for name in _LAYER:
        lacking = next((lora for lora in loras if not hasattr(lora, name)), None)
        if lacking is not None:
            absent.append(f"{type(lacking).__name__}.{name}")
    awaited = [PREPARED, GROUPED]
    if not any(hasattr(network, name) for name in GROUPINGS):
        absent.append(f"network.{GROUPINGS[0]}")
        awaited = [PREPARED]
    points = HostPoints(tested, absent, awaited)
    await_points(_parameters(network), points)
    return points


def _check_kind(network: Any, tested: str) -> None:
    """Check that a network consists of LoRA layers."""
    reason = None
    if not any(hasattr(network, name) for name in _LISTS):
        reason = f"its network has neither {_LISTS[0]} nor {_LISTS[1]}"
    elif any(not any(hasattr(lora, n) for n in _FACTORS) for lora in loras_of(network)):
        reason = f"its layers have neither {_FACTORS[0]} nor {_FACTORS[1]}"
    if reason:
        raise ConfigError(
            f"base_module: {type(network).__module__} does not create a supported "
            f"LoRA network: {reason} (tested with {tested}). Use one of the "
            "networks.lora modules of the trainer."
        )


def _parameters(network: Any) -> Iterator[nn.Parameter]:
    """Return all parameters of a network, including those of layers in lists."""
    if isinstance(network, nn.Module):
        yield from network.parameters()
    for value in vars(network).values():
        for item in value if isinstance(value, list | tuple) else ():
            if isinstance(item, nn.Module):
                yield from item.parameters()
