"""OneTrainer's EMA where B is orthonormal.

It averages A and B each on its own, and an average of orthonormal matrices is not
orthonormal. Wherever it is put into the model, to be saved or sampled, B is brought
back by QR, (B, A) := (Q, R A): the product of the averages stays what it was. Neither
the running averages nor the weights in training are touched.
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

__all__ = ["averaged", "begin_anew", "needs_averages", "wrap_averages"]

_layers: weakref.WeakKeyDictionary[Any, list[nn.Module]] = weakref.WeakKeyDictionary()
_anew: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def needs_averages(method: Method, config: Any) -> bool:
    """Whether a run has averages whose B must be brought back."""
    averages = str(getattr(config, "ema", "OFF")) != "OFF"
    return averages and keeps_orthonormal(method.load())


def begin_anew(layers: Iterable[nn.Module]) -> None:
    """Forget averages of a backup: they are of factors in other coordinates."""
    _anew.update(layers)


def averaged(
    method: Method, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``create_ema`` for a method of ours; None where EMA is off."""
    given = dict(arguments_of(original, args, kwargs))
    given["parameters"] = list(given["parameters"])
    layers = layers_holding(given["parameters"])
    if given["state_dict"] is not None and any(layer in _anew for layer in layers):
        say("The backup's EMA is of another optimizer; it begins anew.")
        given["state_dict"] = None
    ema = original(**given)
    if ema is not None and keeps_orthonormal(method.load()):
        _layers[ema] = layers
    return ema


def wrap_averages(module: ModuleType) -> None:
    """Bring B back wherever the averages are copied into the model."""

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
            # What the host keeps of a parameter on the CPU is the parameter itself,
            # so that the average would go on in training.
            self.temp_stored_parameters = trained

    wrap(point(module, "EMAModuleWrapper"), "copy_ema_to", copy_ema_to, "parameters")
