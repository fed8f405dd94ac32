"""Rules of ai-toolkit for sample prompts, with flags such as ``--w 768``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .key_rules import Result, Rule, Scope, turned

__all__ = ["SAMPLES"]

_KEYS = {
    "prompt": "prompt",
    "neg": "negative_prompt",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "guidance_scale": "guidance",
    "sample_steps": "steps",
}
_FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "n": ("negative_prompt", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "seed": ("seed", int),
    "l": ("guidance", float),
    "cfg": ("guidance", float),
    "s": ("steps", int),
    "steps": ("steps", int),
}


def _prompts(scope: Scope, value: Any) -> Result:
    """Return a sample for each prompt, with the settings of the section."""
    if not isinstance(value, list):
        raise TypeError
    prompts = [str(prompt) for prompt in value if str(prompt).strip()]
    return _samples(scope, [{"prompt": prompt} for prompt in prompts])


def _objects(scope: Scope, value: Any) -> Result:
    if not isinstance(value, list):
        raise TypeError
    return _samples(scope, value)


def _samples(scope: Scope, items: list[Any]) -> Result:
    seed, walks = int(scope.get("sample.seed", 0)), scope.get("sample.walk_seed", False)
    samples, lost = [], []
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            lost.append(repr(item))
            continue
        own = {name: item[key] for key, name in _KEYS.items() if _is_set(item.get(key))}
        lost += [str(key) for key in item if key not in _KEYS]
        text, flags, unknown = _parsed(str(own.get("prompt", "")))
        lost += unknown
        first = {"prompt": text, "seed": seed + number * bool(walks)}
        sample = {**first, **_shared(scope), **own, **flags, "prompt": text}
        if scope.family == "flux":
            sample.pop("negative_prompt", None)
        samples.append(sample)
    found = [sample for sample in samples if sample["prompt"]]
    if len(found) < len(samples):
        lost.append("samples that have no prompt")
    note = "with the settings of this section"
    if lost:
        note += f", without {', '.join(dict.fromkeys(lost))}, which is not supported"
    return turned(note, {"samples": found})


def _is_set(value: Any) -> bool:
    return value is not None and value is not False and value != ""


def _parsed(prompt: str) -> tuple[str, dict[str, Any], list[str]]:
    """Split a prompt into its text, the settings of its flags, and other flags.

    In contrast to sd-scripts, ``--`` starts a flag without a space in front of it, and
    text of unknown flags is removed from the prompt.

    >>> _parsed("a cat--w 640 --cfg 3 --m 0.5")
    ('a cat', {'width': 640, 'guidance': 3.0}, ['--m'])
    """
    text, *parts = prompt.strip().split("--")
    found: dict[str, Any] = {}
    lost = []
    for part in parts:
        flag = part.split(" ")[0].strip()
        key, kind = _FLAGS.get(flag, ("", str))
        value: Any = None
        try:
            value = kind(part[len(flag) :].strip())
        except ValueError:
            key = ""
        if not key:
            lost.append(f"--{flag}")
        else:
            found[key] = value
    return text.strip(), found, lost


def _shared(scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = {
        "width": int(scope.get("sample.width", 512)),
        "height": int(scope.get("sample.height", 512)),
        "steps": int(scope.get("sample.sample_steps", 20)),
        "guidance": float(scope.get("sample.guidance_scale", 7)),
    }
    negative = scope.get("sample.neg")
    if negative:
        found["negative_prompt"] = str(negative)
    return found


SAMPLES: dict[str, Rule] = {"sample.prompts": _prompts, "sample.samples": _objects}
"""Rules of sample prompts."""
