"""Model family of a configuration of sd-scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from .unsupported import no_such_family

__all__ = ["family_of", "options_without_lora", "trains_no_lora"]

_LORA_SCRIPT = re.compile(r"(?:\w+_)?train_network(?:_\w+)?\.py")
# Scripts of sd-scripts without a family in their names are for SD 1.5.
_OTHER_SCRIPT = re.compile(
    r"(?:\w+_)?(?:fine_tune|train(?:_db|_textual_inversion(?:_XTI)?|"
    r"_control_?net(?:_lllite)?(?:_old)?)?)\.py"
)
# Options of these scripts that those of LoRAs do not have (sd-scripts 48d368f).
_WITHOUT_LORA = frozenset(
    (
        *("block_lr", "blockwise_fused_optimizers", "cond_emb_dim"),
        *("diffusers_xformers", "double_blocks_to_swap", "fused_optimizer_groups"),
        *("init_word", "learning_rate_te", "learning_rate_te1", "learning_rate_te2"),
        *("learning_rate_te3", "mem_eff_save", "no_token_padding"),
        *("num_last_block_to_freeze", "num_vectors_per_token", "single_blocks_to_swap"),
        *("stop_text_encoder_training", "token_string", "train_t5xxl"),
        *("train_text_encoder", "use_object_template", "use_style_template"),
    )
)
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
    "hidream_o1": "HiDream",
    "ideogram4": "Ideogram 4",
    "krea2": "Krea 2",
    "flux_2": "FLUX.2",
    "flux_kontext": "FLUX.1 Kontext",
    "kandinsky5": "Kandinsky 5",
    "qwen_image": "Qwen-Image",
    "zimage": "Z-Image",
}
_SCRIPT = re.compile(r"(\w+?)_train(?:_\w+)?\.py")
_MODULE = re.compile(r"networks\.lora_(\w+)")
_SUPPORTED = ("flux", "sdxl", "fa")
_BY_SCRIPT = ("flux", "sdxl")
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
    found = _SCRIPT.fullmatch(_name(script))
    if found and found[1] in _BY_SCRIPT:
        return found[1], ""
    if not found and (_LORA_SCRIPT.fullmatch(_name(script)) or trains_no_lora(script)):
        return "sd15", ""
    family, why = _guess(options)
    return family, f"model_type: {family}, because {why}. To change it, add --family."


def trains_no_lora(script: str) -> bool:
    """Return whether a script of sd-scripts trains another kind of model than a LoRA.

    >>> [trains_no_lora(name) for name in ("sdxl_train.py", "sdxl_train_network.py")]
    [True, False]
    """
    return _OTHER_SCRIPT.fullmatch(_name(script)) is not None


def options_without_lora(options: Mapping[str, Any]) -> list[str]:
    """Return the options that only scripts have that train no LoRA.

    >>> options_without_lora({"train_text_encoder": True, "learning_rate": 1e-6})
    ['train_text_encoder']
    """
    if options.get("network_module"):
        return []
    return [key for key in options if key in _WITHOUT_LORA and options[key]]


def _name(script: str) -> str:
    return PurePath(script.replace("\\", "/")).name


def _check(options: Mapping[str, Any], script: str) -> None:
    module = _MODULE.fullmatch(str(options.get("network_module", "")))
    found = _SCRIPT.fullmatch(_name(script))
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
