"""Sample prompts of sd-scripts, with flags such as ``--w 768 --d 1``."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["read_prompt", "read_prompts"]

_FLAGS = {
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("steps", int),
    "l": ("guidance", float),
    "n": ("negative_prompt", str),
}
_FLUX_GUIDANCE = "g"


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

    For FLUX, ``--g`` is the guidance of the model and ``--l`` has no counterpart.

    >>> read_prompt("a cat --w 768 --d 1 --ss euler", "sdxl")
    ({'prompt': 'a cat', 'width': 768, 'seed': 1}, ['--ss'])
    """
    prompt, *parts = re.split(r"\s+--", f" {line}")
    sample: dict[str, Any] = {"prompt": prompt.strip()}
    lost = []
    for part in parts:
        flag, _, value = part.strip().partition(" ")
        name = flag.lower()
        if family == "flux":
            name = {"l": "", _FLUX_GUIDANCE: "l"}.get(name, name)
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
