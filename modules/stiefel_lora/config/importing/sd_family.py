"""Model family of a configuration of sd-scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from .unsupported import no_such_family

__all__ = ["family_of"]

_BY_SCRIPT = {
    "train_network.py": None,
    "sdxl_train_network.py": "sdxl",
    "flux_train_network.py": "flux",
}
_OTHERS = {
    "sd3": "Stable Diffusion 3",
    "lumina": "Lumina",
    "hunyuan_image": "HunyuanImage",
    "anima": "Anima",
}
_MUSUBI = {
    "wan": "Wan",
    "hv": "HunyuanVideo",
    "hv_1_5": "HunyuanVideo 1.5",
    "fpack": "FramePack",
    "flux_2": "FLUX.2",
    "flux_kontext": "FLUX.1 Kontext",
    "kandinsky5": "Kandinsky 5",
    "qwen_image": "Qwen-Image",
    "zimage": "Z-Image",
}
_SCRIPT = re.compile(r"(\w+?)_(?:train_network|train)\.py")
_MODULE = re.compile(r"networks\.lora_(\w+)")
_SUPPORTED = ("flux", "sdxl", "fa")
_FLUX_KEYS = ("t5xxl", "ae", "t5xxl_max_token_length")
_SDXL_KEYS = ("cache_text_encoder_outputs", "no_half_vae")
_SDXL_NAME = re.compile(r"xl|pony|illustrious|noob|animagine", re.IGNORECASE)
_LARGE = 1024


def family_of(
    options: Mapping[str, Any], script: str, chosen: str | None
) -> tuple[str, str]:
    """Return the family of the base model, and a line if it is a guess.

    Args:
        options: options by name.
        script: name of the script, or "".
        chosen: family that the user has chosen.

    Raises:
        ConfigError: If the family is not supported.
    """
    _check(options, script)
    if chosen:
        return chosen, ""
    name = PurePath(script.replace("\\", "/")).name
    if _BY_SCRIPT.get(name):
        return str(_BY_SCRIPT[name]), ""
    if name == "train_network.py":
        return "sd15", ""
    family, why = _guess(options)
    return family, f"model_type: {family}, because {why}. To change it, add --family."


def _check(options: Mapping[str, Any], script: str) -> None:
    module = _MODULE.fullmatch(str(options.get("network_module", "")))
    found = _SCRIPT.fullmatch(PurePath(script.replace("\\", "/")).name)
    for match in (module, found):
        kind = match[1] if match else ""
        if kind in _OTHERS:
            raise no_such_family(_OTHERS[kind], "sd-scripts")
        if kind in _MUSUBI:
            raise no_such_family(_MUSUBI[kind], "musubi-tuner")
        if match is module and kind and kind not in _SUPPORTED:
            raise no_such_family(kind, "sd-scripts")
    if options.get("model_type") == "chroma":
        raise no_such_family("Chroma", "sd-scripts")
    if options.get("v2") is True:
        raise no_such_family("Stable Diffusion 2", "sd-scripts")


def _guess(options: Mapping[str, Any]) -> tuple[str, str]:
    if "flux" in str(options.get("network_module", "")):
        return "flux", f"network_module is {options['network_module']}"
    for key in _FLUX_KEYS:
        if options.get(key):
            return "flux", f"{key} is set"
    model = str(options.get("pretrained_model_name_or_path", ""))
    if "flux" in model.lower():
        return "flux", "the name of the base model contains flux"
    if _SDXL_NAME.search(PurePath(model.replace("\\", "/")).name):
        return "sdxl", "of the name of the base model"
    for key in _SDXL_KEYS:
        if options.get(key):
            return "sdxl", f"{key} is set"
    sides = re.findall(r"\d+", str(options.get("resolution", "")))
    if sides and max(int(side[:9]) for side in sides) >= _LARGE:
        return "sdxl", f"resolution is {options['resolution']}"
    return "sd15", "nothing indicates another family"
