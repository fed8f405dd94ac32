"""Samplers of diffusers, by their names in ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers

__all__ = ["SAMPLERS", "sampler_of", "with_sampler"]

_KARRAS = {"use_karras_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", _SDE),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Class and settings of each sampler. All other settings are those of the model."""

# Settings of one sampler that would change what another one of the same name does.
_OWN = ("algorithm_type", "solver_order", "solver_type", "use_karras_sigmas")


_FLOW = "FlowMatch"


def sampler_of(kind: str) -> str:
    """Return the name of the sampler of a scheduler class, or the name of the class."""
    plain = kind.removeprefix(_FLOW)
    names = (name for name, (own, _) in SAMPLERS.items() if own == plain)
    return next(names, kind)


def with_sampler(schedule: Any, name: str | None) -> Any:
    """Return the scheduler of a sampler with the noise schedule of a model.

    Args:
        schedule: scheduler of the model.
        name: name of the sampler. None returns the scheduler of the model. For flow
            models, ``euler`` is the scheduler of the model.
    """
    if name is None or type(schedule).__name__.startswith(_FLOW):
        return schedule
    kind, settings = SAMPLERS[name]
    values = {key: schedule.config[key] for key in schedule.config if key not in _OWN}
    return getattr(diffusers, kind).from_config(values, **settings)
