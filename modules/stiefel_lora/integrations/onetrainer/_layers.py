"""Initialization and alpha of LoRA layers of OneTrainer."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..._wording import counted
from ...methods import Method
from .._start import start_layers
from ._check import check
from ._console import say
from ._points import arguments_of, point, wrap

__all__ = [
    "adapters_of",
    "fold_alpha",
    "layers_holding",
    "named_parameters",
    "scale_of",
    "wrap_layers",
]

_TAGS = {
    "lora_down": "_is_lora_A",
    "lora_up": "_is_lora_B",
    "dora_scale": "_is_dora_scale",
}

# The optimizer is created without the model; these map its parameters to layers.
_made: list[weakref.ref[nn.Module]] = []


def wrap_layers(module: ModuleType) -> None:
    """Initialize the layers of a component after they were created."""

    def with_start(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        config = arguments_of(original, (self, *args), kwargs)["config"]
        method = check(config)
        if method is None:
            original(self, *args, **kwargs)
            return
        with _alpha_at_rank(config, method):
            original(self, *args, **kwargs)
        layers = list(adapters_of(self))
        _made.extend(weakref.ref(layer) for layer in layers)
        for name, parameter in named_parameters(layers):
            setattr(parameter, _tag(name), True)
        start_layers(named_parameters(layers), method, seed=0)

    wrap(point(module, "LoRAModuleWrapper"), "__init__", with_start, "config")


@contextlib.contextmanager
def _alpha_at_rank(config: Any, method: Method) -> Iterator[None]:
    """Create layers with alpha = rank without changing the configuration."""
    given, rank = point(config, "lora_alpha"), point(config, "lora_rank")
    if method.alpha_policy == "rank" and given != rank:
        say(
            f"LoRA alpha: {given:g} is replaced by the rank, {rank}, because "
            f"{method.label} sets the scale of the LoRA."
        )
        config.lora_alpha = float(rank)
    try:
        yield
    finally:
        config.lora_alpha = given


def adapters_of(wrapper: Any) -> Iterator[nn.Module]:
    """Return the layers of a LoRAModuleWrapper, including those of fused q, k and v."""
    for entry in point(wrapper, "lora_modules").values():
        yield entry if isinstance(entry, nn.Module) else point(entry, "module")


def named_parameters(layers: Iterable[nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield names such as ``unet.….lora_up.weight`` with their parameters."""
    for layer in layers:
        for name, parameter in layer.named_parameters():
            yield f"{point(layer, 'prefix')}{name}", parameter


def _tag(name: str) -> str:
    return next(tag for part, tag in _TAGS.items() if part in name)


def layers_holding(parameters: Iterable[torch.Tensor]) -> list[nn.Module]:
    """Return the layers that contain some of the given parameters."""
    wanted = {id(parameter) for parameter in parameters}
    _made[:] = [found for found in _made if found() is not None]
    layers = (found() for found in _made)
    return [
        layer
        for layer in layers
        if layer is not None and any(id(p) in wanted for p in layer.parameters())
    ]


def scale_of(layer: Any) -> float:
    """Return the scale alpha / rank of a layer."""
    return float(layer.alpha) / layer.rank


@torch.no_grad()
def fold_alpha(layers: Iterable[Any]) -> None:
    """Convert a loaded LoRA to alpha = rank. The updates of layers do not change."""
    folded = 0
    for layer in layers:
        scale = scale_of(layer)
        if scale != 1.0:
            layer.lora_down.weight.mul_(scale)
            layer.alpha.fill_(layer.rank)
            folded += 1
    if folded:
        say(
            "The loaded LoRA has an alpha other than the rank in "
            f"{counted(folded, 'layer', 'layers')}. The scale is merged into A."
        )
