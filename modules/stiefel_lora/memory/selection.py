"""Selection of the layers with a LoRA, as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from ..adapters.layer_ranks import ranks_of
from ..adapters.targets import select_layers
from .steps import Layer, Step, Unit, layers_of

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["stand_in_model", "trained_layers"]


def trained_layers(
    config: TrainConfig, model: Sequence[Step | Unit]
) -> dict[Layer, int]:
    """Return the ranks of the layers of a denoiser that have a LoRA, by name.

    Raises:
        ConfigError: If a layer filter matches no layer, or the rank is too large.
    """
    layers = layers_of(model)
    stand_in = stand_in_model(layers)
    chosen = select_layers(
        stand_in,
        family=config.model_type,
        preset=config.layer_filter_preset,
        patterns=config.layer_filter,
        **config.rank_settings,
    )
    found = ranks_of(stand_in, chosen, **config.rank_settings)
    return {layers[name]: rank for name, rank in found.items()}


def stand_in_model(layers: Mapping[str, Layer]) -> nn.Module:
    """Build a model with the given layers on the meta device."""
    model = nn.Module()
    for name, layer in layers.items():
        parent = model
        *path, last = name.split(".")
        for piece in path:
            if piece not in dict(parent.named_children()):
                parent.add_module(piece, nn.Module())
            parent = parent.get_submodule(piece)
        parent.add_module(last, _stand_in(layer))
    return model


def _stand_in(layer: Layer) -> nn.Module:
    if not layer.kernel:
        return nn.Linear(layer.inputs, layer.outputs, layer.bias, device="meta")
    channels = layer.inputs // layer.kernel**2
    return nn.Conv2d(channels, layer.outputs, layer.kernel, device="meta")
