"""Samplers of other trainers, by their names in ComfyUI."""

from __future__ import annotations

import re
import typing
from typing import Any

from ..enums import SamplerName
from .key_rules import Result, Scope, left, turned

__all__ = ["sampler_called", "sampler_rule"]

_OTHERS = {
    "dpmsolverpp": "dpmpp_2m",
    "dpmpp": "dpmpp_2m",
    "dpmpp_karras": "dpmpp_2m_karras",
    "dpmpp_sde": "dpmpp_2m_sde",
    "dpmpp_sde_karras": "dpmpp_2m_sde_karras",
}


def sampler_called(name: str) -> str:
    """Return the name of a sampler of sd-scripts, OneTrainer or A1111.

    >>> sampler_called("k_euler_a"), sampler_called("DPMPP_KARRAS")
    ('euler_a', 'dpmpp_2m_karras')
    >>> sampler_called("dpm++_2m_karras"), sampler_called("DPM++ 2M SDE")
    ('dpmpp_2m_karras', 'dpmpp_2m_sde')

    Raises:
        ValueError: If there is no equal sampler.
    """
    given = name.strip().lower().removeprefix("k_")
    plain = re.sub(r"[ -]+", "_", given.replace("++", "pp"))
    # DPM++ SDE of A1111 is another sampler than DPMPP_SDE of OneTrainer.
    other = "++" in given and plain != "dpmsolverpp"
    found = plain if other else _OTHERS.get(plain, plain)
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
