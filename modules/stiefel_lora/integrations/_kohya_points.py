"""Points of a kohya trainer that the network needs.

Names are looked at when the network is made, calls are awaited. With one of them
missing a method on pairs would train another scale, another start or other pairs, so
it is refused (:mod:`..optim.host_points`). Any other optimizer gets the host's own
network.
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
    """The host's LoRA layers; before ``apply_to`` they are in these lists alone."""
    return [lora for name in _LISTS for lora in getattr(network, name, [])]


def find_points(network: Any, tested: str) -> HostPoints:
    """Look for all names that are needed, and mark the parameters of the network.

    Args:
        network: made by the host.
        tested: the host's version that the names are those of.

    Raises:
        ConfigError: a network of another kind.
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
    """Refuse other networks: LoHa and LoKr use the same lists."""
    reason = None
    if not any(hasattr(network, name) for name in _LISTS):
        reason = f"its network has neither {_LISTS[0]} nor {_LISTS[1]}"
    elif any(not any(hasattr(lora, n) for n in _FACTORS) for lora in loras_of(network)):
        reason = f"its layers have neither {_FACTORS[0]} nor {_FACTORS[1]}"
    if reason:
        raise ConfigError(
            f"{type(network).__module__} makes no LoRA network that this module can "
            f"start: {reason} (tested with {tested}). base_module must be one of the "
            "trainer's own networks.lora modules."
        )


def _parameters(network: Any) -> Iterator[nn.Parameter]:
    """All of the network, those of layers in a list under whatever name too."""
    if isinstance(network, nn.Module):
        yield from network.parameters()
    for value in vars(network).values():
        for item in value if isinstance(value, list | tuple) else ():
            if isinstance(item, nn.Module):
                yield from item.parameters()
