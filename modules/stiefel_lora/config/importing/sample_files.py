"""Sample prompts of sd-scripts: a text, or a .txt, .toml or .json file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..._exceptions import OptionError
from ..._prompt_weights import parse_weights
from ..._wording import counted
from .import_report import Entry
from .prompt_flags import checked_prompt, prompt_lines, read_prompt, read_prompts
from .sampler_names import sampler_called
from .source_files import near, plain_text, read_json_value, read_source, source_text

__all__ = ["prompts_of", "samples_in"]

_FILES = (".txt", ".toml", ".json")
_WANTED = "a file with prompts"
_KEYS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "sample_steps": "steps",
    "scale": "guidance",
}
# For FLUX, scale is that of classifier-free guidance, which has no counterpart.
_FLUX_KEYS = {"scale": "", "guidance_scale": "guidance"}
_NO_GUIDANCE = ("scale", 1)
# Values that sd-scripts uses where a prompt has none, by family.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "flux": {"width": 512, "height": 512, "steps": 20, "guidance": 3.5},
    "unet": {"width": 512, "height": 512, "steps": 30, "guidance": 7.5},
}
# sd-scripts replaces or removes them.
_UNUSED = ("enum", "subset")


def samples_in(value: Any, folder: Path, family: str) -> tuple[Entry, dict[str, Any]]:
    """Read sample prompts.

    Args:
        value: path of a file, or prompts.
        folder: folder of the configuration.
        family: family of the base model.

    Returns:
        An entry for the report, and settings.
    """
    text = str(value or "")
    is_file = text.strip().lower().endswith(_FILES) and "\n" not in text
    path = near(text, folder) if is_file else None
    if is_file and path is None:
        note = f"the file {text} does not exist. Put it beside the configuration"
        return Entry("sample_prompts", value, "ignored", note=note), {}
    if path is None or path.suffix.lower() == ".txt":
        whole = source_text(path, _WANTED) if path else text
        samples, lost = read_prompts(whole, family)
    else:
        samples, lost = _objects(path, family)
    if family == "flux":
        lost += ["negative_prompt"] * any("negative_prompt" in s for s in samples)
        samples = [
            {key: inner for key, inner in sample.items() if key != "negative_prompt"}
            for sample in samples
        ]
    if not samples:
        note = "contains no prompt"
        if lost:
            note += f", but {', '.join(lost)}, which is not supported"
        return Entry("sample_prompts", value, "ignored", note=note), {}
    defaults = _DEFAULTS["flux" if family == "flux" else "unet"]
    samples = [{**defaults, **sample} for sample in samples]
    note = counted(len(samples), "sample", "samples")
    note += ", with the defaults of sd-scripts"
    if lost:
        note += f", without {', '.join(lost)}, which is not supported"
    settings: dict[str, Any] = {"samples": samples}
    if family != "flux" and any(map(_has_brackets, samples)):
        settings["sample_prompt_weights"] = True
        note += ", with weights such as (word:1.2)"
    sets = tuple(settings.items())
    return Entry("sample_prompts", value, "translated", sets, note), settings


def _has_brackets(sample: dict[str, Any]) -> bool:
    """Return whether sd-scripts encodes other text than that of the prompts."""
    texts = [str(sample.get(key, "")) for key in ("prompt", "negative_prompt")]
    return any(parse_weights(text).pieces != ((text, 1.0),) for text in texts)


def prompts_of(
    prompts: Sequence[str], path: Path | None, family: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the samples of prompts with flags, and of a file with prompts.

    Returns:
        The samples, and flags of sd-scripts that have no counterpart.

    Raises:
        OptionError: If a prompt is missing, or a flag is unknown or invalid.
    """
    read = [checked_prompt(text, family, "--prompt") for text in prompts]
    read += [] if path is None else _prompts_in(path, family)
    flags = dict.fromkeys(flag for _, left_out in read for flag in left_out)
    return [sample for sample, _ in read], list(flags)


def _prompts_in(path: Path, family: str) -> list[tuple[dict[str, Any], list[str]]]:
    """Read a file with prompts, in which everything has to be valid."""
    if path.is_dir():
        raise OptionError(
            f"--prompts: {path} is a folder. Use a file with a prompt per line."
        )
    none = f"--prompts: {path} contains no prompt. Write a prompt per line."
    if path.is_file() and path.stat().st_size == 0:
        raise OptionError(none)
    if path.suffix.lower() in (".json", ".toml"):
        found, lost = _objects(path, family)
        if lost:
            raise OptionError(
                f"--prompts: {path}: {', '.join(lost)}: not supported, or an invalid "
                "value. Remove or change it."
            )
        samples: list[tuple[dict[str, Any], list[str]]] = [(each, []) for each in found]
    else:
        samples = [
            checked_prompt(line, family, f"--prompts: {path}, line {number}")
            for number, line in prompt_lines(plain_text(path))
        ]
    if not samples:
        raise OptionError(none)
    return samples


def _objects(path: Path, family: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the samples of a JSON or TOML file, and what is not supported in it."""
    if path.suffix.lower() == ".json":
        items, shared = read_json_value(path, _WANTED), {}
    else:
        prompt = read_source(path, _WANTED).get("prompt")
        shared = dict(prompt) if isinstance(prompt, dict) else {}
        items = shared.pop("subset", [])
    samples: list[dict[str, Any]] = []
    lost: list[str] = []
    for item in items if isinstance(items, list) else []:
        # In a list, sd-scripts reads a text as a line of a .txt file.
        if isinstance(item, str):
            sample, more = read_prompt(item, family)
        elif isinstance(item, dict):
            sample, more = _object({**shared, **item}, family)
        else:
            sample, more = {}, [json.dumps(item, default=str)]
        if not sample.get("prompt") and not more:
            more = ["entries that have no prompt"]
        samples.append(sample)
        lost += [key for key in more if key not in lost]
    return [sample for sample in samples if sample.get("prompt")], lost


def _object(whole: dict[str, Any], family: str) -> tuple[dict[str, Any], list[str]]:
    sample: dict[str, Any] = {}
    lost = []
    keys = _KEYS | (_FLUX_KEYS if family == "flux" else {})
    for key, value in whole.items():
        if value is None or key in _UNUSED:
            continue
        if key == "sample_sampler" and family != "flux":
            try:
                sample["sampler"] = sampler_called(str(value))
            except ValueError:
                lost.append(key)
        elif keys.get(key):
            sample[keys[key]] = value
        elif (key, value) != _NO_GUIDANCE:
            lost.append(key)
    return sample, lost
