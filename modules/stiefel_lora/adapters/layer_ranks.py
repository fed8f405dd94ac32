"""Rank of every layer, from the default, the rank of convolutions, and patterns."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from torch import nn

from .._exceptions import ConfigError

__all__ = ["layer_sides", "matching", "ranks_of"]


def ranks_of(
    model: nn.Module,
    targets: Sequence[str],
    *,
    rank: int,
    rank_pattern: Mapping[str, int] | None = None,
    conv_rank: int | None = None,
) -> dict[str, int]:
    """Return the rank of each layer, in the order of ``targets``.

    Args:
        model: model with the layers.
        targets: names of the layers.
        rank: default rank of a layer.
        rank_pattern: pattern -> rank. If several patterns match, the last one is used.
        conv_rank: rank of convolutions with a kernel larger than one pixel.

    Raises:
        ConfigError: If a pattern matches no layer, or a rank exceeds the number of
            inputs or outputs of a layer.
    """
    found = {
        name: _usual(model.get_submodule(name), rank, conv_rank) for name in targets
    }
    for pattern, own in (rank_pattern or {}).items():
        names = matching(pattern, targets)
        if not names:
            raise ConfigError(
                f"rank_pattern: {pattern!r} matches none of the {len(targets)} "
                f"layers that have a LoRA, for example {targets[0]!r}. Use * to "
                "match any text."
            )
        found.update(dict.fromkeys(names, own))
    for name, own in found.items():
        _check(name, model.get_submodule(name), own, rank)
    return found


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that match a pattern. Without ``*``, names must contain it."""
    if any(letter in pattern for letter in "*?["):
        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    return [name for name in names if pattern in name]


def layer_sides(layer: nn.Module) -> tuple[int, int]:
    """Return the number of outputs, and of inputs times kernel elements, of a layer."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    return weight.shape[0], weight[0].numel()


def _usual(layer: nn.Module, rank: int, conv_rank: int | None) -> int:
    spatial = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    return conv_rank if spatial and conv_rank is not None else rank


def _check(name: str, layer: nn.Module, own: int, rank: int) -> None:
    outputs, inputs = layer_sides(layer)
    if own <= min(outputs, inputs):
        return
    given = f"lora_rank={own}" if own == rank else f"The rank {own}"
    raise ConfigError(
        f"{given} exceeds the size of the layer {name} ({outputs} x {inputs}). Use "
        f"a rank of at most {min(outputs, inputs)}, or exclude the layer with "
        "layer_filter."
    )
