"""Import of configurations of the GUI of kohya_ss, which starts sd-scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..foreign import reasons as why
from .from_sd_scripts import from_sd_scripts
from .import_report import Entry
from .key_rules import Rule, Scope, ignore, left
from .key_walk import walk
from .lean_result import Imported
from .source_files import options_in
from .unsupported import no_such_family

__all__ = ["GUI_RULES", "RENAMED", "from_kohya_gui", "is_kohya_gui"]

_SIGNS = ("LoRA_type", "LyCORIS_preset", "max_resolution", "model_list")

RENAMED = {
    "flux1_clip_l": "clip_l",
    "flux1_t5xxl": "t5xxl",
    "flux_fused_backward_pass": "fused_backward_pass",
    "lora_network_weights": "network_weights",
    "max_resolution": "resolution",
    "optimizer": "optimizer_type",
    "sdxl_no_half_vae": "no_half_vae",
}
"""Options of sd-scripts with another name in the GUI."""

_NETWORK_ARGS = (
    "block_dims",
    "block_alphas",
    "block_lr_zero_threshold",
    "down_lr_weight",
    "mid_lr_weight",
    "up_lr_weight",
    "conv_block_dims",
    "conv_block_alphas",
    "conv_dim",
    "conv_alpha",
    "dora_wd",
    "loraplus_lr_ratio",
    "loraplus_text_encoder_lr_ratio",
    "loraplus_unet_lr_ratio",
    "module_dropout",
    "rank_dropout",
)
_MODULES = {
    "": "networks.lora",
    "Standard": "networks.lora",
    "Flux1": "networks.lora_flux",
    "Kohya LoCon": "networks.lora",
    "LoCon": "networks.lora",
    "LyCORIS/LoCon": "lycoris.kohya",
}
# 0 is an empty field.
_UNSET_IF_ZERO = frozenset(
    [
        "adaptive_noise_scale",
        "blocks_to_swap",
        "caption_dropout_every_n_epochs",
        "epoch",
        "ip_noise_gamma",
        "keep_tokens",
        "loraplus_lr_ratio",
        "loraplus_text_encoder_lr_ratio",
        "loraplus_unet_lr_ratio",
        "lr_warmup",
        "lr_warmup_steps",
        "max_train_epochs",
        "max_train_steps",
        "min_snr_gamma",
        "multires_noise_iterations",
        "network_dropout",
        "noise_offset",
        "sample_every_n_epochs",
        "sample_every_n_steps",
        "save_every_n_epochs",
        "save_every_n_steps",
        "save_last_n_epochs",
        "save_last_n_epochs_state",
        "save_last_n_steps",
        "save_last_n_steps_state",
        "scale_weight_norms",
        "seed",
        "unet_lr",
        "v_pred_like_loss",
        "vae_batch_size",
    ]
)


def _used(scope: Scope, value: Any) -> Any:
    return left("sets the model family", matters=False)


def _of_locon(rule: Rule) -> Rule:
    """Return a rule for an option of LyCORIS that its LoRA has, too."""

    def changed(scope: Scope, value: Any) -> Any:
        kind = scope.parent.get("LoRA_type") if scope.parent else None
        if kind != "LyCORIS/LoCon":
            return left("is only used by adapters of LyCORIS", matters=False)
        return rule(scope, value)

    return changed


def _scaled_dropout(scope: Scope, value: Any) -> Any:
    rate = scope.parent.get("rank_dropout") if scope.parent else None
    if not float(rate or 0):
        return left("is only used with rank_dropout", matters=False)
    return left("is described at rank_dropout", matters=False)


_LYCORIS = ignore("is only used by other adapters of LyCORIS", matters=False)
_FINE_TUNING = ignore("is only used by full fine-tuning", matters=False)
_EMBEDDINGS = ignore("is only used for embeddings", matters=False)
_DEVICES = ignore(why.DEVICES)
_OTHER_FAMILY = ignore("is only used for other families", matters=False)
_BLOCK_RATES = ignore("learning_rate_pattern sets rates of layers, by their names")

GUI_RULES: dict[str, Rule] = {
    "LyCORIS_preset": _of_locon(
        ignore("layer_filter_preset sets the layers, as in networks.lora", ("full",))
    ),
    "bypass_mode": _of_locon(ignore("it does not change results", matters=False)),
    "rank_dropout_scale": _of_locon(_scaled_dropout),
    "train_norm": _of_locon(ignore("norm layers are not trained")),
    **dict.fromkeys(
        ("use_cp", "use_tucker"),
        _of_locon(ignore("convolutions are not decomposed further")),
    ),
    "use_scalar": _of_locon(ignore("there is no trained factor of the LoRA")),
    **dict.fromkeys(("sdxl", "sdxl_checkbox", "flux1_checkbox", "sd3_checkbox"), _used),
    **dict.fromkeys(
        (
            "constrain",
            "decompose_both",
            "factor",
            "rescaled",
            "train_on_input",
            "unit",
        ),
        _LYCORIS,
    ),
    **dict.fromkeys(
        (
            "blockwise_fused_optimizers",
            "caption_metadata_filename",
            "create_buckets",
            "create_caption",
            "full_path",
            "fused_optimizer_groups",
            "image_folder",
            "latent_metadata_filename",
            "learning_rate_te",
            "learning_rate_te1",
            "learning_rate_te2",
            "train_dir",
            "train_resolution",
            "train_text_encoder",
            "use_latent_files",
        ),
        _FINE_TUNING,
    ),
    **dict.fromkeys(
        (
            "init_word",
            "num_vectors_per_token",
            "template",
            "token_string",
            "weights",
        ),
        _EMBEDDINGS,
    ),
    **dict.fromkeys(
        (
            "dynamo_mode",
            "dynamo_use_dynamic",
            "dynamo_use_fullgraph",
            "extra_accelerate_launch_args",
            "gpu_ids",
            "main_process_port",
            "multi_gpu",
            "num_cpu_threads_per_process",
            "num_machines",
            "num_processes",
        ),
        _DEVICES,
    ),
    **dict.fromkeys(
        (
            "clip_g",
            "no_token_padding",
            "sd3_cache_text_encoder_outputs",
            "sd3_cache_text_encoder_outputs_to_disk",
            "sd3_fused_backward_pass",
            "sd3_text_encoder_batch_size",
        ),
        _OTHER_FAMILY,
    ),
    "block_lr": _BLOCK_RATES,
    "additional_parameters": ignore("is read", matters=False),
    "caption": ignore("is only used to write captions", matters=False),
    "conv_alphas": ignore(why.FACTORS),
    "conv_dims": ignore(why.FACTORS),
    "double_blocks_to_swap": ignore(why.OFFLOADING),
    "epoch": ignore("max_train_epochs or max_train_steps is used", matters=False),
    "flux1_cache_text_encoder_outputs": ignore(why.CACHE),
    "flux1_cache_text_encoder_outputs_to_disk": ignore(why.CACHE),
    "lowvram": ignore(why.OFFLOADING),
    "lr_warmup": ignore("lr_warmup_steps is used", matters=False),
    "mem_eff_save": ignore(why.OFFLOADING),
    "model_list": ignore("it is a setting of the window", matters=False),
    "noise_offset_type": ignore(
        "selects noise_offset or multires noise", matters=False
    ),
    "save_as_bool": ignore("it is a setting of the window", matters=False),
    "save_clip": ignore(why.SNAPSHOTS),
    "save_t5xxl": ignore(why.SNAPSHOTS),
    "sdxl_cache_text_encoder_outputs": ignore(why.CACHE),
    "single_blocks_to_swap": ignore(why.OFFLOADING),
    **dict.fromkeys(
        ("stop_text_encoder_training", "stop_text_encoder_training_pct"),
        ignore("kohya_ss does not use it for a LoRA", matters=False),
    ),
    "train_blocks": ignore("layer_filter selects layers, by their names", ("all",)),
    "use_wandb": ignore(why.LOGS),
}
"""Rules of keys that are no options of sd-scripts."""


def is_kohya_gui(data: Mapping[str, Any]) -> bool:
    """Return whether a JSON file is a configuration of kohya_ss."""
    return "learning_rate" in data and any(key in data for key in _SIGNS)


def from_kohya_gui(
    data: Mapping[str, Any], *, folder: Path, family: str | None = None
) -> Imported:
    """Import a configuration of the GUI.

    Args:
        data: keys and values.
        folder: folder of the file, for files that it names.
        family: family of the base model, if the user has chosen it.

    Raises:
        ConfigError: If a file cannot be read, or the family is not supported.
    """
    chosen = family or _family(data)
    options, labels, unset = _options(data, chosen)
    own = {
        key: value
        for key, value in data.items()
        if key in GUI_RULES and key not in labels.values()
    }
    extra, _ = walk(Scope(own, {}, chosen, Scope(data, {}, chosen)), GUI_RULES)
    extra += unset
    return from_sd_scripts(
        options,
        folder=folder,
        family=chosen,
        name="kohya_ss",
        labels=labels,
        originals=data,
        extra=extra,
    )


def _family(data: Mapping[str, Any]) -> str:
    if data.get("sd3_checkbox") is True:
        raise no_such_family("Stable Diffusion 3", "kohya_ss")
    if data.get("v2") is True:
        raise no_such_family("Stable Diffusion 2", "kohya_ss")
    if data.get("flux1_checkbox") is True:
        return "flux"
    is_xl = data.get("sdxl") or data.get("sdxl_checkbox")
    return "sdxl" if is_xl is True else "sd15"


def _options(
    data: Mapping[str, Any], family: str
) -> tuple[dict[str, Any], dict[str, str], list[Entry]]:
    """Return the options of sd-scripts, their keys in the GUI, and unused keys."""
    options: dict[str, Any] = {}
    labels: dict[str, str] = {}
    unset: list[Entry] = []
    network: dict[str, Any] = {}
    for key, value in data.items():
        if key in _UNSET_IF_ZERO and value in (0, "0"):
            if key not in GUI_RULES:
                note = "0 means that it is not set"
                unset.append(Entry(key, value, "ignored", note=note))
        elif key in _NETWORK_ARGS:
            network[key] = value
        elif key in RENAMED:
            options[RENAMED[key]] = value
            labels[RENAMED[key]] = key
        elif key not in GUI_RULES:
            options[key] = value
    _add_adapter(options, labels, network, data)
    _add_length(options, labels, data)
    _add_text(options, labels, data, family)
    extra = _add_noise(options, data)
    if isinstance(data.get("additional_parameters"), str):
        text = data["additional_parameters"].strip()
        if text:
            options |= options_in(text, "additional_parameters")[1]
    return options, labels, [*unset, *extra]


def _add_adapter(
    options: dict[str, Any],
    labels: dict[str, str],
    network: dict[str, Any],
    data: Mapping[str, Any],
) -> None:
    kind = str(data.get("LoRA_type", "Standard"))
    options.pop("LoRA_type", None)
    if "LoRA_type" in data:
        labels["network_module"] = "LoRA_type"
    options["network_module"] = _MODULES.get(kind, f"LoRA_type {kind}")
    if "LoCon" not in kind:
        # The fields are filled, but only used by LoCon.
        for key in ("conv_dim", "conv_alpha", "dora_wd"):
            if key in network:
                network[key] = False if key == "dora_wd" else 0
    given = options.pop("network_args", None)
    options["network_args"] = {**network, **(given if isinstance(given, dict) else {})}


def _add_length(
    options: dict[str, Any], labels: dict[str, str], data: Mapping[str, Any]
) -> None:
    if "max_train_epochs" not in options and "max_train_steps" not in options:
        epochs = data.get("epoch")
        if epochs not in (None, "", 0):
            options["max_train_epochs"] = epochs
            labels["max_train_epochs"] = "epoch"
    percent = data.get("lr_warmup")
    if isinstance(percent, str) and percent.strip().isdecimal():
        percent = int(percent)
    if (
        isinstance(percent, int | float)
        and percent
        and "lr_warmup_steps" not in options
    ):
        options["lr_warmup_steps"] = percent / 100
        labels["lr_warmup_steps"] = "lr_warmup"


def _add_text(
    options: dict[str, Any],
    labels: dict[str, str],
    data: Mapping[str, Any],
    family: str,
) -> None:
    cached = {
        "sdxl": "sdxl_cache_text_encoder_outputs",
        "flux": "flux1_cache_text_encoder_outputs",
    }.get(family)
    if cached and data.get(cached) is True:
        options["cache_text_encoder_outputs"] = True
        labels["cache_text_encoder_outputs"] = cached
    if data.get("text_encoder_lr") in (0, "0") and data.get("unet_lr"):
        options["network_train_unet_only"] = True
    kind = str(options.get("xformers", "")).lower()
    if kind == "sdpa":
        options["sdpa"] = True
        labels["sdpa"] = "xformers"
    if kind in ("sdpa", "none"):
        del options["xformers"]


def _add_noise(options: dict[str, Any], data: Mapping[str, Any]) -> list[Entry]:
    """Switch off the kind of noise that is not selected, and return its entries."""
    kind = data.get("noise_offset_type")
    if "noise_offset_type" not in data:
        return []
    other = "noise_offset" if kind == "Multires" else "multires_noise_iterations"
    if other not in options:
        return []
    del options[other]
    note = f"noise_offset_type is {kind}"
    return [Entry(other, data[other], "ignored", note=note)]
