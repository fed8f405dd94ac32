"""Settings of a sample as the text that A1111, Forge and ComfyUI read from a PNG."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .._version import __version__
from ..families.protocol import Family, SampleRequest

__all__ = ["png_parameters"]

# Name and schedule type in A1111 and Forge.
_NAMES: Mapping[str, tuple[str, str]] = {
    "ddim": ("DDIM", ""),
    "dpm_2": ("DPM2", ""),
    "dpm_2_a": ("DPM2 a", ""),
    "dpmpp_2m": ("DPM++ 2M", ""),
    "dpmpp_2m_karras": ("DPM++ 2M", "Karras"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", ""),
    "dpmpp_2m_sde_karras": ("DPM++ 2M SDE", "Karras"),
    "euler": ("Euler", ""),
    "euler_a": ("Euler a", ""),
    "heun": ("Heun", ""),
    "pndm": ("PLMS", ""),
    "unipc": ("UniPC", ""),
}


def png_parameters(
    prompt: str,
    negative_prompt: str,
    request: SampleRequest,
    *,
    family: Family,
    model: str,
) -> str:
    """Return the text for the key ``parameters`` of a PNG.

    The initial noise is drawn on the CPU, so Forge only draws the same noise if its
    random numbers are set to CPU.

    Args:
        prompt: prompt, possibly with ``<lora:NAME:WEIGHT>``.
        negative_prompt: negative prompt or "".
        request: other settings of the sample.
        family: family of the base model.
        model: name of the base model.
    """
    sampler = request.sampler or family.own_sampler
    name, schedule = _NAMES.get(sampler, (sampler, ""))
    # The guidance scale of models without a negative prompt is an input of the model.
    distilled = not family.facts.record.negative_prompts
    scale = f"{request.guidance:g}"
    fields = {
        "Steps": request.steps,
        "Sampler": name,
        "Schedule type": schedule,
        "CFG scale": "1" if distilled else scale,
        "Distilled CFG Scale": scale if distilled else "",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model": model,
        "RNG": "CPU",
        "Version": f"stiefel-lora {__version__}",
    }
    lines = [_plain(prompt)]
    if negative_prompt:
        lines.append(f"Negative prompt: {_plain(negative_prompt)}")
    lines.append(_joined(fields))
    return "\n".join(lines)


def _plain(prompt: str) -> str:
    """Return a prompt in which no line is read as the begin of the negative prompt.

    CLIP reads only lower case.
    """
    return re.sub(r"(?m)^(\s*)Negative prompt:", r"\1negative prompt:", prompt)


def _joined(fields: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key}: {_quoted(str(value))}" for key, value in fields.items() if value != ""
    )


def _quoted(value: str) -> str:
    """Quote a value with separators as a JSON string, as A1111 and Forge do."""
    special = any(sign in value for sign in ",:\n")
    return json.dumps(value, ensure_ascii=False) if special else value
