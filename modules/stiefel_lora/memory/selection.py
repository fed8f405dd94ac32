"""The layers that get a LoRA, chosen as training chooses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from ..adapters.targets import select_layers
from .steps import Layer, Step, Unit, layers_of

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["trained_layers"]


def trained_layers(config: TrainConfig, model: Sequence[Step | Unit]) -> list[Layer]:
    """The layers of a denoiser that get a LoRA, in order.

    Raises:
        ConfigError: a layer filter that matches nothing, or too large a rank.
    """
    layers = layers_of(model)
    chosen = select_layers(
        _Table(layers),
        family=config.model_type,
        preset=config.layer_filter_preset,
        patterns=config.layer_filter,
        rank=config.lora_rank,
    )
    return [layers[name] for name in chosen]


class _Table(nn.Module):
    """Looks like a model of these layers; nothing of it can compute."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        super().__init__()
        self._layers = {name: _stand_in(layer) for name, layer in layers.items()}

    def named_modules(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Module]]:
        yield from self._layers.items()


def _stand_in(layer: Layer) -> nn.Module:
    if not layer.kernel:
        return nn.Linear(layer.inputs, layer.outputs, layer.bias, device="meta")
    channels = layer.inputs // layer.kernel**2
    return nn.Conv2d(channels, layer.outputs, layer.kernel, device="meta")
