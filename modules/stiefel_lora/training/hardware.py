"""Pick the device and the precision that a run computes with."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from .._exceptions import ConfigError

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["check_hardware", "check_quantisation", "make_accelerator"]

_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def check_hardware(config: TrainConfig) -> None:
    """Refuse what this machine does not have.

    Raises:
        ConfigError: no such device, or float16 training without an NVIDIA card.
    """
    kind = config.device.partition(":")[0]
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    if not present.get(kind, True):
        raise ConfigError(
            f"device={config.device!r}: this machine, or this build of torch, has no "
            f'{kind}; write "auto" or "cpu".'
        )
    index = config.device.partition(":")[2]
    if index and kind == "cuda" and int(index) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={config.device!r}: this machine has "
            f"{torch.cuda.device_count()} CUDA devices, counted from 0."
        )
    on_cuda = kind == "cuda" or (kind == "auto" and present["cuda"])
    if config.train_dtype == "float16" and not on_cuda:
        raise ConfigError(
            'train_dtype="float16" needs an NVIDIA card (its gradients are scaled); '
            'write "bfloat16" or "float32".'
        )


def check_quantisation(config: TrainConfig) -> None:
    """Refuse quantised weights without bitsandbytes.

    Raises:
        ConfigError: it is not installed.
    """
    quantised = config.weight_dtype != config.plain_weight_dtype
    if quantised and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"weight_dtype={config.weight_dtype!r} needs the package bitsandbytes, "
            f'which is not installed: pip install "stiefel-lora[quant]", or write '
            f'"bfloat16".'
        )


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Set up accelerate for one process.

    Raises:
        ConfigError: started as several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "Training runs in one process for now; start it without torchrun or "
            "accelerate launch."
        )
    # accelerate keeps the precision of the first run of a process for all later ones.
    AcceleratorState._reset_state(reset_partial_state=True)
    before = os.environ.get("ACCELERATE_TORCH_DEVICE")
    if config.device not in ("auto", "cpu"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = config.device
    try:
        return Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=_MIXED[config.train_dtype],
            gradient_accumulation_steps=config.gradient_accumulation_steps,
        )
    finally:
        if before is None:
            os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
        else:
            os.environ["ACCELERATE_TORCH_DEVICE"] = before
