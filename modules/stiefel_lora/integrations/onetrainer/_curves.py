"""Logging of the ranks of every LoRA block to the TensorBoard of OneTrainer."""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...metrics.ranks import measure_ranks
from ...optim.pairs import Pair, find_pairs
from ...optim.rule import keeps_orthonormal
from ._choices import method_of
from ._hooks import tolerated
from ._layers import adapters_of, named_parameters
from ._points import arguments_of, point, wrap

__all__ = ["add_ranks"]

FIRST, SHARE = 5, 20
_WANTED = ("model", "config", "tensorboard")
_DENOISER = re.compile(r"^(unet|transformer|prior)\.")
_last: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def add_ranks(module: ModuleType) -> None:
    """Log the ranks if a method of this package is used."""

    def with_ranks(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with tolerated("the ranks of blocks are not shown in TensorBoard"):
            _send(arguments_of(original, (self, *args), kwargs))

    reported = point(module, "BaseModelSetup")
    wrap(reported, "report_to_tensorboard", with_ranks, *_WANTED)


def _send(given: Mapping[str, Any]) -> None:
    if method_of(given["config"]) is None:
        return
    model = given["model"]
    step = point(model, "train_progress.global_step")
    if not _due(model, step):
        return
    _last[model] = step
    pairs = shown_pairs(model)
    constrained = keeps_orthonormal(model.optimizer)
    held = [pair for pair in pairs if constrained and not pair.too_wide]
    for tag, value in measure_ranks(pairs, held).scalars().items():
        given["tensorboard"].add_scalar(tag, value, step)


def _due(model: Any, step: int) -> bool:
    """Return whether ranks are measured. The interval increases with the step."""
    last = _last.get(model)
    return last is None or step - last >= max(FIRST, step // SHARE)


def shown_pairs(model: Any) -> list[Pair]:
    """Return the pairs by display name, which begins with the section of the model."""
    layers = [
        layer
        for wrapper in point(model, "adapters")()
        for layer in adapters_of(wrapper)
    ]
    pairs = find_pairs(named_parameters(layers)).pairs
    return [Pair(_DENOISER.sub("", p.name), p.up, p.down) for p in pairs]
