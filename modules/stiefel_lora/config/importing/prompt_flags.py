"""Sample prompts of sd-scripts, with flags such as ``--w 768 --d 1``."""

from __future__ import annotations

import re
from typing import Any

from .sampler_names import sampler_called

__all__ = ["FLAGS", "read_prompt", "read_prompts"]

_FLAGS = {
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("steps", int),
    "l": ("guidance", float),
    "n": ("negative_prompt", str),
    "ss": ("sampler", sampler_called),
}
_FLUX_GUIDANCE = "g"

FLAGS = tuple(f"--{flag}" for flag in _FLAGS)
"""Flags of a prompt."""


def read_prompts(text: str, family: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Read a prompt per line. Empty lines and comments (#) are skipped.

    Returns:
        Samples, and the flags that are not supported.
    """
    samples, lost = [], []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            sample, flags = read_prompt(line.strip(), family)
            samples.append(sample)
            lost += [flag for flag in flags if flag not in lost]
    return [sample for sample in samples if sample.get("prompt")], lost


def read_prompt(line: str, family: str) -> tuple[dict[str, Any], list[str]]:
    """Read a prompt with flags.

    For FLUX, ``--g`` is the guidance of the model, and ``--l`` and ``--ss`` have no
    counterpart.

    >>> read_prompt("a cat --w 768 --d 1 --cn x", "sdxl")
    ({'prompt': 'a cat', 'width': 768, 'seed': 1}, ['--cn'])
    """
    prompt, *parts = re.split(r"\s+--", f" {line}")
    sample: dict[str, Any] = {"prompt": prompt.strip()}
    lost = []
    for part in parts:
        flag, _, value = part.strip().partition(" ")
        name = flag.lower()
        if family == "flux":
            name = {"l": "", "ss": "", _FLUX_GUIDANCE: "l"}.get(name, name)
        key, kind = _FLAGS.get(name, ("", str))
        found: Any = ""
        try:
            found = kind(value.strip())
        except ValueError:
            key = ""
        if not key:
            lost.append(f"--{flag}")
        elif found != "":
            sample[key] = found
    return sample, lost
