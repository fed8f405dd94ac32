"""The stand-in for OneTrainer, started with a method, for tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from stiefel_lora.integrations.onetrainer import (
    _hooks,
    _imports,
    _names,
    _rate,
    _refusals,
    patch,
)
from stiefel_lora.integrations.onetrainer._choices import OFFERED
from stiefel_lora.integrations.onetrainer._layers import adapters_of, named_parameters

__all__ = [
    "HOST",
    "LABELS",
    "configured",
    "factors",
    "forget",
    "patched_host",
    "started",
]

HOST = Path(__file__).parent / "onetrainer_host"
LABELS = list(OFFERED)


def patched_host() -> Iterator[Any]:
    """The stand-in, patched before anything of it is imported."""
    before, path, known = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(HOST)
    sys.path[:0] = [str(HOST / "scripts"), str(HOST)]
    forget()
    patch()
    import stand_in
    from modules.ui import BaseLoraTabView as tab
    from modules.ui import BaseOptimizerParamsWindowView as window
    from modules.util import create, optimizer_util
    from modules.util.config.TrainConfig import TrainConfig
    from modules.util.enum.Optimizer import Optimizer

    yield SimpleNamespace(
        Trainer=stand_in.Trainer,
        create=create,
        defaults=optimizer_util,
        window=window.BaseOptimizerParamsWindowView,
        tab=tab.BaseLoraTabView,
        TrainConfig=TrainConfig,
        Optimizer=Optimizer,
    )
    forget()
    os.chdir(before)
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("modules", "stand_in"):
            del sys.modules[name]


def forget() -> None:
    """Leave nothing of an earlier host in this process."""
    for kept in (
        _imports._done,
        _imports._late,
        _hooks._found,
        _hooks._hooks,
        _hooks._warned,
        _names._not_taken,
        _rate._building,
        _refusals._windows,
    ):
        kept.clear()
    ours = [one for one in sys.meta_path if isinstance(one, _imports._Finder)]
    sys.meta_path[:] = [one for one in sys.meta_path if one not in ours]


def configured(host: Any, label: str, step: str | None = None, **changes: Any) -> Any:
    """A config in which the dropdown was set to a method, and Stiefel LoRA's step."""
    config = host.TrainConfig.default_values()
    config.optimizer.optimizer = host.Optimizer[label]
    config.optimizer = host.defaults.change_optimizer(config)
    config.learning_rate = 1e-2
    if step is not None:
        config.optimizer.stiefel_lora_step = step
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def started(
    host: Any, label: str, *backup: Any, fuse: bool = False, **changes: Any
) -> Any:
    """A trainer of the stand-in, ready to train."""
    trainer = host.Trainer(configured(host, label, **changes), fuse=fuse)
    trainer.start(*backup)
    return trainer


def factors(trainer: Any) -> dict[str, torch.Tensor]:
    """The weights in training by name."""
    layers = adapters_of(trainer.model.unet_lora)
    return {name: p.detach().clone() for name, p in named_parameters(layers)}
