"""Checks of settings that are not validated when a component is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import transformers
from diffusers.quantizers.auto import DiffusersAutoQuantizer
from transformers.quantizers.auto import AutoQuantizationConfig

from .._exceptions import ModelError

__all__ = ["check_setting_values"]

Test = Callable[[Any], bool]


def check_setting_values(where: object, loader: Any, config: Mapping[str, Any]) -> None:
    """Check settings that the class of a component does not validate.

    Args:
        where: file or folder for the error message.
        loader: class that loads the component.
        config: settings of the component.

    Raises:
        ModelError: If a value is invalid.
    """
    inside = config.get("text_config")
    values = inside if isinstance(inside, Mapping) else config
    for kind, key, test, rule in _RULES:
        if not issubclass(loader, kind) or key not in values:
            continue
        if not test(values[key]):
            raise ModelError(
                f"{where}: {key} must be {rule}, but got {str(values[key])[:40]!a}. "
                "Download config.json again."
            )
    _check_quantization(where, loader, config.get("quantization_config"))


def _check_quantization(where: object, loader: Any, given: Any) -> None:
    if given is None:
        return
    in_transformers = issubclass(loader, transformers.PreTrainedModel)
    reader: Any = AutoQuantizationConfig if in_transformers else DiffusersAutoQuantizer
    try:
        reader.from_dict(dict(given))
    except Exception as error:
        # Each method has its own checks, with its own exceptions.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
        raise ModelError(
            f"{where}: the quantization_config is not supported ({reason}). "
            "Download config.json again, or use weights that are not quantized."
        ) from error


def _is_number(value: Any) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and math.isfinite(value)


def _is_factor(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_shift(value: Any) -> bool:
    return value is None or _is_number(value)


def _are_shifts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_number, value)))


def _are_factors(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_factor, value)))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_VAE = diffusers.AutoencoderKL
_CLIP = transformers.CLIPPreTrainedModel
_RULES: tuple[tuple[type, str, Test, str], ...] = (
    (_VAE, "scaling_factor", _is_factor, "a number above 0"),
    (_VAE, "shift_factor", _is_shift, "a number or null"),
    (_VAE, "latents_mean", _are_shifts, "a list of numbers or null"),
    (_VAE, "latents_std", _are_factors, "a list of numbers above 0 or null"),
    (_CLIP, "eos_token_id", _is_token, "a token ID, usually 2"),
)
"""Class, key, function that checks the value, and the rule as text."""
