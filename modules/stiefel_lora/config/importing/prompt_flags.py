"""Sample prompts of sd-scripts, with flags such as ``--w 768 --d 1``."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Any

from pydantic import ValidationError

from ..._exceptions import OptionError
from ..enums import SamplerName
from ..errors import violations_in
from ..parts import Sample
from .sampler_names import sampler_called

__all__ = ["checked_prompt", "prompt_lines", "read_prompt", "read_prompts"]

_FLAGS = {
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("steps", int),
    "l": ("guidance", float),
    "n": ("negative_prompt", str),
    "ss": ("sampler", sampler_called),
}
# Flags of training and of gen_img.py in sd-scripts that have no counterpart.
_WITHOUT = frozenset(
    (
        *("am", "c", "cl", "cn", "ct", "ctr", "dsd1", "dsd2", "dsr", "dst1", "dst2"),
        *("f", "fs", "g", "gle", "glr", "gls", "glsn", "glt", "glus", "nh", "nl"),
        *("nw", "oh", "ow", "rcfg", "t"),
    )
)
# In FLUX, the guidance is an input of the model instead of CFG.
_FLUX_FLAGS = {"w": "w", "h": "h", "d": "d", "s": "s", "g": "l", "n": "n"}
_FLUX_REASONS = {
    "l": "FLUX has no CFG scale. Use --g for the guidance of the model",
    "ss": "FLUX has one sampler. Remove it",
    "n": "FLUX has no negative prompt. Remove it",
}
_KINDS = {int: "a whole number", float: "a number"}


@dataclasses.dataclass(frozen=True)
class _Lost:
    """Flag that is unknown or whose value is invalid."""

    flag: str
    value: str
    problem: str


def prompt_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines with a prompt and their numbers, without comments (#)."""
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1)]
    return [(n, line) for n, line in lines if line and not line.startswith("#")]


def read_prompts(text: str, family: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Read a prompt per line. Empty lines and comments (#) are skipped.

    Returns:
        Samples, and what is not supported: flags, and lines without a prompt.
    """
    samples, lost = [], []
    for number, line in prompt_lines(text):
        sample, flags = read_prompt(line, family)
        if not sample["prompt"]:
            lost.append(f"line {number} (flags without a prompt)")
            continue
        samples.append(sample)
        lost += [flag for flag in flags if flag not in lost]
    return samples, lost


def read_prompt(line: str, family: str) -> tuple[dict[str, Any], list[str]]:
    """Read a prompt with flags.

    For FLUX, ``--g`` is the guidance of the model, and ``--l`` and ``--ss`` have no
    counterpart.

    >>> read_prompt("a cat --w 768 --d 1 --cn x", "sdxl")
    ({'prompt': 'a cat', 'width': 768, 'seed': 1}, ['--cn'])
    """
    sample, lost = _parsed(line, family)
    return sample, [each.flag for each in lost]


def checked_prompt(
    line: str, family: str, where: str
) -> tuple[dict[str, Any], list[str]]:
    """Read a prompt whose flags all have to be known and valid.

    Args:
        line: prompt with flags.
        family: family of the base model.
        where: place of the prompt, for the error message.

    Returns:
        The sample, and flags of sd-scripts that have no counterpart.

    Raises:
        OptionError: If there is no prompt, or a flag is unknown or invalid.
    """
    sample, lost = _parsed(line, family)
    if not sample["prompt"]:
        raise OptionError(
            f"{where}: {line.strip()!r:.80} contains no prompt. Write one in front of "
            "the flags."
        )
    if family == "flux" and "negative_prompt" in sample:
        negative = sample["negative_prompt"]
        lost.append(_Lost("--n", negative, _FLUX_REASONS["n"]))
    left_out = [each.flag for each in lost if each.flag[2:].lower() in _WITHOUT]
    lost = [each for each in lost if each.flag not in left_out]
    lost += [] if lost else _out_of_range(sample, family)
    if lost:
        first = lost[0]
        given = f"{first.flag} {first.value:.80}".strip()
        raise OptionError(f"{where}: {given}: {first.problem.removesuffix('.')}.")
    return sample, left_out


def _out_of_range(sample: dict[str, Any], family: str) -> list[_Lost]:
    """Return the flags whose values a sample cannot have."""
    try:
        Sample(**sample)
    except ValidationError as error:
        found = violations_in(error, list(Sample.model_fields))
        flags = {_FLAGS[own][0]: flag for flag, own in _own_flags(family).items()}
        return [
            _Lost(
                f"--{flags.get(each.key, each.key)}", str(sample[each.key]), each.text
            )
            for each in found
        ]
    return []


def _own_flags(family: str) -> dict[str, str]:
    """Return the flags of a family with the equal ones of the first table."""
    return _FLUX_FLAGS if family == "flux" else {flag: flag for flag in _FLAGS}


def _parsed(line: str, family: str) -> tuple[dict[str, Any], list[_Lost]]:
    prompt, *parts = re.split(r"\s+--", f" {line}")
    sample: dict[str, Any] = {"prompt": prompt.strip()}
    lost = []
    for part in parts:
        flag, value = [*part.strip().split(maxsplit=1), "", ""][:2]
        value = value.strip()
        own = _own_flags(family).get(flag.lower())
        if own is None:
            lost.append(_Lost(f"--{flag}", value, _unknown(flag.lower(), family)))
            continue
        key, kind = _FLAGS[own]
        try:
            found: Any = kind(value)
        except ValueError:
            lost.append(_Lost(f"--{flag}", value, _invalid(kind)))
        else:
            if found != "":
                sample[key] = found
    return sample, lost


def _unknown(flag: str, family: str) -> str:
    if family == "flux" and flag in _FLUX_REASONS:
        return _FLUX_REASONS[flag]
    usable = [f"--{x}" for x in _own_flags(family)]
    if family == "flux":
        usable.remove("--n")
    return f"unknown flag. Use {', '.join(usable)}"


def _invalid(kind: Any) -> str:
    if kind is sampler_called:
        return f"Must be one of {', '.join(typing.get_args(SamplerName))}"
    return f"Must be {_KINDS[kind]}"
