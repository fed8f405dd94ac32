"""Samplers of other trainers, by their names in ComfyUI."""

from __future__ import annotations

import typing
from typing import Any

from ..enums import SamplerName
from .key_rules import Result, Scope, left, turned

__all__ = ["sampler_called", "sampler_rule"]

_OTHERS = {
    "dpmsolver++": "dpmpp_2m",
    "dpmpp": "dpmpp_2m",
    "dpmpp_karras": "dpmpp_2m_karras",
    "dpmpp_sde": "dpmpp_2m_sde",
    "dpmpp_sde_karras": "dpmpp_2m_sde_karras",
}


def sampler_called(name: str) -> str:
    """Return the name of a sampler of sd-scripts (``k_euler_a``) or OneTrainer.

    >>> sampler_called("k_euler_a"), sampler_called("DPMPP_KARRAS")
    ('euler_a', 'dpmpp_2m_karras')

    Raises:
        ValueError: If there is no equal sampler.
    """
    plain = name.strip().lower().removeprefix("k_")
    found = _OTHERS.get(plain, plain)
    if found not in typing.get_args(SamplerName):
        raise ValueError(f"{name!r} is not a known sampler")
    return found


def sampler_rule(scope: Scope, value: Any) -> Result:
    """Import the sampler of a sample."""
    if scope.family == "flux":
        return left("FLUX has one sampler", matters=False)
    try:
        name = sampler_called(str(value))
    except ValueError:
        return left("there is no equal sampler", matters=False)
    return turned(f"sampler = {name}", {"sampler": name})
