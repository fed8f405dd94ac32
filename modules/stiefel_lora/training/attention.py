"""How attention is computed: torch's own kernels, xformers or flash-attn."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._exceptions import ConfigError

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["check_attention", "set_attention"]

_PACKAGES = {
    "xformers": ("xformers", 'pip install "stiefel-lora[xformers]"'),
    "flash": ("flash_attn", "pip install flash-attn"),
}


def check_attention(config: TrainConfig, device: torch.device) -> None:
    """Refuse a mechanism that this machine does not have.

    Raises:
        ConfigError: no such package, or no NVIDIA card.
    """
    mechanism = config.attention_mechanism
    if mechanism == "sdp":
        return
    package, command = _PACKAGES[mechanism]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"attention_mechanism={mechanism!r} needs the package {package}, which is "
            f'not installed: {command}, or write "sdp".'
        )
    if device.type != "cuda":
        raise ConfigError(
            f"attention_mechanism={mechanism!r} needs an NVIDIA card, and this run "
            f'computes on {device.type}: write "sdp".'
        )


def set_attention(model: nn.Module, mechanism: str) -> None:
    """Let a model of diffusers compute its attention in another way.

    Raises:
        ConfigError: diffusers refuses it here; its reason is in the sentence.
    """
    if mechanism == "sdp":
        return
    chosen: Any = model
    try:
        if _dispatches(model):
            chosen.set_attention_backend(mechanism)
        else:
            chosen.enable_xformers_memory_efficient_attention()
    except (ImportError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"attention_mechanism={mechanism!r} does not work here "
            f'({str(error).strip()}): write "sdp".'
        ) from error


def _dispatches(model: nn.Module) -> bool:
    """Whether the processors ask diffusers' dispatcher, as those of FLUX do."""
    processors = getattr(model, "attn_processors", {}).values()
    return any(hasattr(processor, "_attention_backend") for processor in processors)
