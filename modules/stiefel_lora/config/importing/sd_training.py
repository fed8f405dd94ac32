"""Rules of sd-scripts for the model, the LoRA, the optimizer and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..foreign import reasons as why
from .block_weights import BLOCK_ARGUMENTS, trained_blocks
from .key_rules import (
    Result,
    Rule,
    Scope,
    dropout,
    ignore,
    left,
    mapped,
    not_for_flux,
    only_for,
    take,
    took,
    turned,
)
from .optimizer_names import FoundOptimizer, find_optimizer, took_options
from .sd_saving import SAVING, interval_rule
from .sd_schedule import SCHEDULE
from .source_files import literal
from .start_files import OWN_ALPHA, WHOLE_FILE, start_file

__all__ = [
    "DEFAULTS",
    "NETWORK_ARGS",
    "TRAINING",
    "argument_rules",
    "optimizer_of",
    "parsed_arguments",
]

DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-6,
    "max_train_steps": 1600,
    "mixed_precision": "no",
    "network_alpha": 1,
    "network_dim": 4,
    "network_module": "networks.lora",
    "optimizer_type": "AdamW",
    "network_train_unet_only": False,
    "save_model_as": "safetensors",
    "save_precision": "float",
    "cache_latents": False,
}
_DTYPES = {
    "no": "float32",
    "float": "float32",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
}


def optimizer_of(scope: Scope) -> FoundOptimizer:
    """Return the optimizer, with its arguments and LoRA+."""
    name = str(scope.get("optimizer_type"))
    if not scope.has("optimizer_type"):
        name = "AdamW8bit" if scope.get("use_8bit_adam") else name
        name = "Lion" if scope.get("use_lion_optimizer") else name
    if name.lower() == "dadaptation":
        # Another class than that of the same name elsewhere.
        name = "DAdaptAdamPreprint"
    found = find_optimizer(name, dict(scope.get("optimizer_args", {})))
    ratio = scope.get("network_args.loraplus_lr_ratio") or scope.get(
        "network_args.loraplus_unet_lr_ratio"
    )
    if ratio and found.setting["name"] == "adamw":
        setting = {**found.setting, "name": "lora_plus", "lr_ratio": float(ratio)}
        return FoundOptimizer(setting)
    return found


def _optimizer(scope: Scope, value: Any) -> Result:
    found = optimizer_of(scope)
    return turned(found.note, {"optimizer": found.setting}, matters=not found.is_same)


def _chosen_by_flag(scope: Scope, value: Any) -> Result:
    if not value or scope.has("optimizer_type"):
        return left("has no effect with this value", matters=False)
    return _optimizer(scope, value)


def _optimizer_argument(name: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        found = optimizer_of(scope)
        if not found.is_same or name in found.lost:
            return left(f"the optimizer {found.setting['name']} has no such option")
        return took_options(found, {name: value})

    return rule


def argument_rules(scope: Scope) -> dict[str, Rule]:
    """Return a rule for each argument of the optimizer, whose names are not fixed."""
    return {
        f"optimizer_args.{name}": _optimizer_argument(name)
        for name in scope.get("optimizer_args", {})
    }


def _learning_rate(scope: Scope, value: Any) -> Result:
    if float(scope.get("unet_lr", 0) or 0):
        return left("unet_lr is used instead", matters=False)
    return _rate(scope, value)


def _rate(scope: Scope, value: Any) -> Result:
    if not optimizer_of(scope).is_same:
        return left("its unit is that of another optimizer")
    if not float(value):
        return left("the denoiser is always trained")
    return took("learning_rate", float(value))


def _are_cached(scope: Scope) -> bool:
    """Return whether the outputs of all text encoders are cached.

    For FLUX, sd-scripts only caches those of T5, and trains CLIP.
    """
    keys = ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")
    return scope.family != "flux" and any(scope.get(key) for key in keys)


def _text_encoders(scope: Scope, value: Any) -> Result:
    """Translate network_train_unet_only. Given rates are those of text_encoder_lr."""
    if value or _are_cached(scope):
        return turned("", {"train_text_encoder": False})
    found = _rates_of_parts(scope)
    parts = [part for part, rate in found.items() if rate != 0]
    if not parts:
        return turned("their learning rate is 0", {"train_text_encoder": False})
    sets: dict[str, Any] = {f"train_{part}": True for part in parts}
    note = "text encoders are trained unless this option is set"
    own = any(rate is not None for rate in found.values())
    if own and not scope.has("text_encoder_lr") and optimizer_of(scope).is_same:
        note += ", here with learning_rate, because text_encoder_lr is not set"
        sets |= {f"{part}_learning_rate": found[part] for part in parts}
    return turned(note, sets)


def _given_text_rates(scope: Scope) -> list[float]:
    given = scope.get("text_encoder_lr")
    if given is None and float(scope.get("unet_lr", 0) or 0):
        given = scope.get("learning_rate")
    given = given if isinstance(given, list) else [given]
    return [float(rate) for rate in given if rate is not None]


def _rates_of_parts(scope: Scope) -> dict[str, float | None]:
    """Return the learning rate of each text encoder, or None for that of all layers."""
    parts = ["text_encoder"]
    t5 = scope.family == "flux" and scope.get("network_args.train_t5xxl")
    if scope.family == "sdxl" or t5:
        parts.append("text_encoder_2")
    rates = _given_text_rates(scope)
    if not rates:
        return dict.fromkeys(parts)
    # The networks of SDXL and SD 1.5 use the first one for both encoders.
    last = rates[min(1, len(rates) - 1)] if scope.family == "flux" else rates[0]
    return dict(zip(parts, (rates[0], last), strict=False))


def _text_rate(scope: Scope, value: Any) -> Result:
    if scope.get("network_train_unet_only"):
        return left("is not used with network_train_unet_only", matters=False)
    used = optimizer_of(scope).is_same and not _are_cached(scope)
    rates = {
        f"{part}_learning_rate": rate
        for part, rate in _rates_of_parts(scope).items()
        if rate and used
    }
    note = "see network_train_unet_only"
    if scope.family == "sdxl" and len({*_given_text_rates(scope)}) > 1:
        note += "; sd-scripts uses the first one for both text encoders"
    return Result("taken", rates, note)


def _epochs(scope: Scope, value: Any) -> Result:
    if not float(value):
        return left("has no effect with this value", matters=False)
    return took("epochs", float(value))


def _steps(scope: Scope, value: Any) -> Result:
    if float(scope.get("max_train_epochs", 0)):
        return left("max_train_epochs is used instead", matters=False)
    return took("steps", int(value))


def _precision(scope: Scope, value: Any) -> Result:
    dtype = _DTYPES[str(value).lower()]
    return turned(
        "also that of the base model", {"train_dtype": dtype, "weight_dtype": dtype}
    )


def _attention(name: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        if not value:
            return left("has no effect with this value", matters=False)
        return turned("", {"attention_mechanism": name})

    return rule


def _rank(scope: Scope, value: Any) -> Result:
    return took("lora_rank", int(value))


def _alpha(scope: Scope, value: Any) -> Result:
    rank = int(scope.get("network_dim"))
    found = optimizer_of(scope)
    if found.owns_scale:
        note = f"{found.setting['name']} controls the scale, so alpha is the rank"
        return turned(note, {"lora_alpha": rank})
    if not float(value):
        return turned("0 is the rank", {"lora_alpha": rank})
    return took("lora_alpha", float(value))


# All linear layers of the blocks, including modulation, by train_blocks.
_FLUX_BLOCKS = {
    "all": "transformer_blocks",
    "double": "transformer_blocks.*",
    "single": "single_transformer_blocks.*",
}


def _module(scope: Scope, value: Any) -> Result:
    sets: dict[str, Any] = {"layer_filter_preset": "attn-mlp"}
    fused = False
    if scope.family == "flux":
        sets["layer_filter"] = [_FLUX_BLOCKS[_blocks(scope)]]
        fused = str(scope.get("network_args.split_qkv")) != "True"
    if scope.family == "sd15":
        # The presets leave out convolutions, also those of one pixel beside attention.
        more = ["resnets", "samplers"] if scope.get("network_args.conv_dim") else []
        sets["layer_filter"] = ["attentions", *more]
    if blocks := trained_blocks(scope):
        sets["layer_filter"] = blocks
    name = str(value)
    algorithm = str(scope.get("network_args.algo", "lora")).lower()
    if name in ("networks.lora", "networks.lora_flux", "networks.lora_fa"):
        note = "the layers of its LoRA"
    elif name == "lycoris.kohya" and algorithm in ("lora", "locon"):
        note = "LoRA of LyCORIS"
    else:
        note = f"trained as a LoRA, because {why.ADAPTERS}"
        return turned(note, sets, matters=True)
    return turned(
        f"{note}, but {why.FUSED_LAYERS}" if fused else note, sets, matters=fused
    )


def _blocks(scope: Scope) -> str:
    found = str(scope.get("network_args.train_blocks", "all"))
    return found if found in _FLUX_BLOCKS else "all"


def _train_blocks(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left("is only used for FLUX", matters=False)
    if value not in _FLUX_BLOCKS:
        return left("must be all, single or double, so all blocks are trained")
    return left("is part of network_module", matters=False)


def _conv_rank(scope: Scope, value: Any) -> Result:
    if scope.family == "flux":
        return left("FLUX has no convolutions", matters=False)
    return took("conv_rank", int(value)) if int(value) else left("is 0", matters=False)


def _conv_alpha(scope: Scope, value: Any) -> Result:
    conv = float(scope.get("network_args.conv_dim", 0) or 0)
    rank, alpha = float(scope.get("network_dim")), float(scope.get("network_alpha"))
    if not conv or not rank or float(value) / conv == alpha / rank:
        return left("the ratio of alpha and rank is the same", matters=False)
    return left("the ratio of alpha and rank is that of other layers")


def _lora_plus(scope: Scope, value: Any) -> Result:
    found = optimizer_of(scope)
    if found.setting["name"] != "lora_plus":
        return left("LoRA+ is only supported with AdamW")
    return turned("", {"optimizer": found.setting})


def _algorithm(scope: Scope, value: Any) -> Result:
    if str(value).lower() in ("lora", "locon"):
        return left("a LoRA", matters=False)
    return left(why.ADAPTERS)


_NO_DROPOUT = "network_args.dora_wd"


def _t5(scope: Scope, value: Any) -> Result:
    if not value or scope.family != "flux":
        return left("has no effect with this value", matters=False)
    return left("see network_train_unet_only", matters=False)


def _rank_dropout(scope: Scope, value: Any) -> Result:
    found = dropout("rank_dropout", _NO_DROPOUT)(scope, value)
    if not found.sets or not str(scope.get("network_module")).startswith("lycoris"):
        return found
    note = "for each image, and the others are scaled, as in networks.lora"
    return turned(note, found.sets, matters=True)


NETWORK_ARGS: dict[str, Rule] = {
    **BLOCK_ARGUMENTS,
    "algo": _algorithm,
    "block_alphas": ignore("is part of block_dims", matters=False),
    "conv_alpha": _conv_alpha,
    "conv_block_alphas": ignore(why.FACTORS),
    "conv_block_dims": ignore("rank_pattern sets ranks of layers, by their names"),
    "conv_dim": _conv_rank,
    "dora_wd": take("use_dora", bool),
    "loraplus_lr_ratio": _lora_plus,
    "loraplus_text_encoder_lr_ratio": ignore("LoRA+ has one ratio"),
    "loraplus_unet_lr_ratio": _lora_plus,
    "module_dropout": dropout("module_dropout", _NO_DROPOUT),
    "rank_dropout": _rank_dropout,
    "split_qkv": only_for(
        "flux", "FLUX", ignore("is part of network_module", matters=False)
    ),
    "train_blocks": _train_blocks,
    "train_t5xxl": _t5,
    "verbose": ignore(why.LOGS),
}
"""Rules of ``network_args``."""


def _format(scope: Scope, value: Any) -> Result:
    return turned("kohya's keys", {"output_formats": ["kohya"]})


def _weights(scope: Scope, value: Any) -> Result:
    whole = bool(scope.get("dim_from_weights"))
    return start_file(value, WHOLE_FILE if whole else OWN_ALPHA, optimizer_of(scope))


def _masked(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned(
        "black areas have no weight; masks are files such as cat-masklabel.png",
        {"masked_training": True, "unmasked_weight": 0.0, "unmasked_probability": 0.0},
    )


def _clip(scope: Scope, value: Any) -> Result:
    # Its table of settings contains hidden_act twice, and the second one counts.
    note = "sd-scripts computes CLIP of FLUX with GELU. Here, it is CLIP's quick GELU"
    sets = {"text_encoder_model_name": str(value)}
    return Result("taken", sets, note, matters=scope.family == "flux")


def _clip_skip(scope: Scope, value: Any) -> Result:
    if scope.family != "sd15":
        # It is accepted with a warning, and the encoding does not depend on it.
        return left("sd-scripts uses it for SD 1.5 only", matters=False)
    place = int(value)
    if place < 1:
        return left("the layer must be 1 or higher, so the last one is used")
    return turned(
        "sd-scripts counts layers from the end, and 1 is the last one",
        {"text_encoder_layer_skip": place - 1},
    )


def _dataset_file(scope: Scope, value: Any) -> Result:
    if scope.has("datasets"):
        return left("is read", matters=False)
    return left("the file does not exist. Put it beside the configuration")


def _lion(scope: Scope, value: Any) -> Result:
    return _chosen_by_flag(scope, value)


_FP8 = "weight_dtype int8 or nfloat4 save as much memory"

TRAINING: dict[str, Rule] = {
    **SAVING,
    **SCHEDULE,
    "ae": take("vae_model_name", str),
    "cache_latents": take("latent_caching", bool),
    "cache_latents_to_disk": ignore("the cache is always on the disk", matters=False),
    **dict.fromkeys(
        (
            "apply_lg_attn_mask",
            "clip_g",
            "clip_g_dropout_rate",
            "clip_l_dropout_rate",
            "enable_scaled_pos_embed",
            "pos_emb_random_crop_rate",
            "save_clip",
            "save_t5xxl",
            "support_controlnet",
            "support_dreambooth",
            "support_dropout",
            "support_finetuning",
            "t5_dropout_rate",
            "t5xxl_device",
            "t5xxl_dtype",
            "training_shift",
        ),
        ignore("is only used for other families", matters=False),
    ),
    "clip_l": _clip,
    "clip_skip": _clip_skip,
    "config_file": ignore("is read", matters=False),
    "dataset_config": _dataset_file,
    "dim_from_weights": ignore("lora_rank is set", matters=True),
    "disable_mmap_load_safetensors": ignore("files are read once", matters=False),
    "dynamo_backend": ignore("torch.compile is used with its default", matters=False),
    "fp8_base": ignore(_FP8),
    "fp8_base_unet": ignore(_FP8),
    "full_bf16": ignore("the LoRA is always updated in float32"),
    "full_fp16": ignore("the LoRA is always updated in float32"),
    "gradient_accumulation_steps": take("gradient_accumulation_steps", int),
    "gradient_checkpointing": take("gradient_checkpointing", bool),
    "learning_rate": _learning_rate,
    "logging_dir": ignore(why.LOGS),
    "masked_loss": _masked,
    "max_grad_norm": take("clip_grad_norm", float),
    "max_train_epochs": _epochs,
    "max_train_steps": _steps,
    "max_validation_steps": ignore("the whole validation set is used", matters=False),
    "mem_eff_attn": _attention("sdp"),
    "mixed_precision": _precision,
    "model_type": mapped("model_type", {"flux": "flux"}, "Chroma is not supported"),
    "network_alpha": _alpha,
    "network_dim": _rank,
    "network_dropout": dropout("lora_dropout", _NO_DROPOUT),
    "network_module": _module,
    "network_train_unet_only": _text_encoders,
    "network_weights": _weights,
    "no_half_vae": ignore("the VAE always runs in float32", matters=False),
    # Others are added by argument_rules.
    "optimizer_args.lr": ignore("learning_rate is used", matters=False),
    "optimizer_type": _optimizer,
    "output_dir": take("output_dir", str),
    "output_name": take("run_name", str),
    "pretrained_model_name_or_path": take("base_model_name", str),
    "sample_every_n_epochs": interval_rule("sample_every", "epochs"),
    "sample_every_n_steps": interval_rule(
        "sample_every", "steps", "sample_every_n_epochs"
    ),
    "save_model_as": _format,
    "save_precision": mapped("output_dtype", _DTYPES, "unknown data type"),
    "scale_weight_norms": take("scale_weight_norms", float),
    "sdpa": _attention("sdp"),
    "seed": take("seed", int),
    "t5xxl": only_for("flux", "FLUX", take("text_encoder_2_model_name", str)),
    "t5xxl_max_token_length": only_for(
        "flux", "FLUX", take("text_encoder_2_sequence_length", int)
    ),
    "text_encoder_lr": _text_rate,
    "tokenizer_cache_dir": ignore("the model contains them", matters=False),
    "torch_compile": take("compile", bool),
    "training_comment": take("comment", str),
    "unet_lr": _rate,
    "use_8bit_adam": _chosen_by_flag,
    "use_lion_optimizer": _lion,
    "v2": ignore("SD 2 is another family"),
    "vae": take("vae_model_name", str),
    "validate_every_n_epochs": interval_rule("validate_every", "epochs"),
    "validate_every_n_steps": interval_rule(
        "validate_every", "steps", "validate_every_n_epochs"
    ),
    "weighted_captions": not_for_flux(take("weighted_captions", bool)),
    "xformers": _attention("xformers"),
}
"""Rules by option."""


def parsed_arguments(value: Any) -> dict[str, Any]:
    """Return ``key=value`` words as a dictionary. A word without ``=`` is true."""
    if isinstance(value, Mapping):
        return dict(value)
    words = value if isinstance(value, list) else str(value).split()
    found = {}
    for word in words:
        key, equals, text = str(word).partition("=")
        found[key.strip(" \"'")] = literal(text.strip()) if equals else True
    return found
