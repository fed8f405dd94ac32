"""EMA of OneTrainer for methods with orthonormal B.

OneTrainer averages A and B separately, and an average of orthonormal matrices is not
orthonormal. When the averages are copied to the model for saving or sampling, B is
orthonormalized by QR, and (B, A) is replaced by (Q, R A), which has the same product.
The averages and the trained weights are not changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from torch import nn

from ...methods import Method
from ...optim.rule import keeps_orthonormal
from ._console import say
from ._gauge import enter_gauge
from ._layers import layers_holding
from ._points import arguments_of, point, wrap

__all__ = ["averaged", "discard_averages", "needs_averages", "wrap_averages"]

_layers: weakref.WeakKeyDictionary[Any, list[nn.Module]] = weakref.WeakKeyDictionary()
_discarded: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def needs_averages(method: Method, config: Any) -> bool:
    """Return whether a run uses EMA with a method that requires orthonormal B."""
    averages = str(getattr(config, "ema", "OFF")) != "OFF"
    return averages and keeps_orthonormal(method.load())


def discard_averages(layers: Iterable[nn.Module]) -> None:
    """Discard the averages of a backup if they belong to other factors."""
    _discarded.update(layers)


def averaged(
    method: Method, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Create the EMA for a method of this package. None if EMA is disabled."""
    given = dict(arguments_of(original, args, kwargs))
    given["parameters"] = list(given["parameters"])
    layers = layers_holding(given["parameters"])
    if given["state_dict"] is not None and any(layer in _discarded for layer in layers):
        say("The EMA of the backup belongs to another optimizer. EMA is reset.")
        given["state_dict"] = None
    ema = original(**given)
    if ema is not None and keeps_orthonormal(method.load()):
        _layers[ema] = layers
    return ema


def wrap_averages(module: ModuleType) -> None:
    """Orthonormalize B when the averages are copied to the model."""

    def copy_ema_to(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        layers = _layers.get(self)
        if layers is None:
            original(self, *args, **kwargs)
            return
        given = arguments_of(original, (self, *args), kwargs)
        trained = [p.detach().cpu().clone() for p in given["parameters"]]
        original(self, *args, **kwargs)
        enter_gauge(layers)
        if self.temp_stored_parameters is not None:
            # For a parameter on the CPU, the host's backup is the parameter itself, so
            # training would continue with the average.
            self.temp_stored_parameters = trained

    wrap(point(module, "EMAModuleWrapper"), "copy_ema_to", copy_ema_to, "parameters")
