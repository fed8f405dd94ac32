"""Rules of ai-toolkit: network, train, save, sample, datasets and model."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..foreign import reasons as why
from .ai_toolkit_names import MORE, WITHOUT
from .ai_toolkit_samples import SAMPLES
from .ai_toolkit_values import without
from .key_rules import (
    Result,
    Rule,
    Scope,
    dropout,
    ignore,
    left,
    mapped,
    take,
    took,
    turned,
)
from .optimizer_names import FoundOptimizer, find_optimizer, took_options
from .start_files import OWN_ALPHA, start_file

__all__ = ["DEFAULTS", "PROCESS", "option_rules"]

_DTYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "float16": "float16",
    "float32": "float32",
    "fp16": "float16",
    "fp32": "float32",
}
_STEPS = 1000
_EPS = 1e-6
# Below it, ai-toolkit uses a learning rate of 1 for Prodigy.
_LOWEST = 0.1
_TRAINERS = ("sd_trainer", "ui_trainer", "diffusion_trainer")

DEFAULTS: dict[str, Any] = {
    "model.dtype": "float16",
    "network.linear": 4,
    "network.linear_alpha": 1.0,
    "network.type": "lora",
    "save.dtype": "float16",
    "save.push_to_hub": ignore(why.CLOUD),
    "save.max_step_saves_to_keep": 5,
    "save.save_every": 1000,
    "sample.sample_every": 100,
    "train.dtype": "fp32",
    "train.gradient_checkpointing": True,
    "train.lr": 1e-6,
    "train.optimizer": "adamw",
    "train.steps": 1000,
    "train.timestep_type": "sigmoid",
}


def optimizer_of(scope: Scope) -> FoundOptimizer:
    """Return the optimizer, with the epsilon that ai-toolkit sets."""
    name = str(scope.get("train.optimizer"))
    given = scope.get("train.optimizer_params", {})
    options = dict(given) if isinstance(given, dict) else {}
    if name.lower().startswith("automagic"):
        return find_optimizer(f"{name} of ai-toolkit", {})
    if name.lower() == "adafactor":
        fixed = {"relative_step": False, "scale_parameter": False}
        options = {**fixed, "warmup_init": False, **options}
    if name.lower() in ("adam", "adamw", "adamw8bit", "prodigy", "prodigy8bit"):
        options = {"eps": _EPS, **options}
    return find_optimizer(name, options)


def option_rules(scope: Scope) -> dict[str, Rule]:
    """Return a rule for each option of the optimizer, whose names are not fixed."""
    given = scope.get("train.optimizer_params", {})
    found = optimizer_of(scope)

    def rule_of(name: str) -> Rule:
        def rule(scope: Scope, value: Any) -> Result:
            if not found.is_same or name in found.lost:
                return left(f"the optimizer {found.setting['name']} has no such option")
            return took_options(found, {name: value})

        return rule

    names = given if isinstance(given, dict) else ()
    return {f"train.optimizer_params.{name}": rule_of(str(name)) for name in names}


def _optimizer(scope: Scope, value: Any) -> Result:
    found = optimizer_of(scope)
    return turned(found.note, {"optimizer": found.setting}, matters=not found.is_same)


def _rate(scope: Scope, value: Any) -> Result:
    if scope.has("train.unet_lr"):
        return left("unet_lr is used instead", matters=False)
    return _own_rate(scope, value)


def _own_rate(scope: Scope, value: Any) -> Result:
    if not optimizer_of(scope).is_same:
        return left("its unit is that of another optimizer")
    if optimizer_of(scope).setting["name"] == "prodigy" and float(value) < _LOWEST:
        return turned("lower values are replaced by 1", {"learning_rate": 1.0})
    return took("learning_rate", float(value))


def _accumulation(scope: Scope) -> int:
    return max(1, int(scope.get("train.gradient_accumulation_steps", 1) or 1))


def _in_steps(key: str) -> Rule:
    """Return a rule for a number of batches, some of which are one step here."""

    def rule(scope: Scope, value: Any) -> Result:
        number = int(value)
        if key == "sample_every" and scope.get("train.disable_sampling"):
            return left("disable_sampling is set", matters=False)
        batches = _accumulation(scope)
        if batches == 1 or not number:
            return took(key, number)
        note = "steps of the optimizer instead of batches"
        return turned(note, {key: max(1, round(number / batches))})

    return rule


def _accumulated(scope: Scope, value: Any) -> Result:
    """Translate gradient_accumulation and gradient_accumulation_steps, a product."""
    whole = _accumulation(scope) * int(scope.get("train.gradient_accumulation", 1) or 1)
    if whole == value:
        return took("gradient_accumulation_steps", whole)
    return turned("a product", {"gradient_accumulation_steps": whole})


def _network(scope: Scope, value: Any) -> Result:
    sets: dict[str, Any] = {"layer_filter_preset": "full"}
    if scope.family == "flux" and scope.get("network.transformer_only", True):
        sets = {"layer_filter": ["transformer_blocks"]}
    if scope.get("network.network_kwargs.only_if_contains"):
        sets = {}
    if str(value).lower() == "lora":
        return turned("all linear layers", sets)
    note = f"trained as a LoRA, because {why.ADAPTERS}"
    return turned(note, sets, matters=True)


def _alpha(scope: Scope, value: Any) -> Result:
    rank = int(scope.get("network.rank") or scope.get("network.linear"))
    found = optimizer_of(scope)
    if found.owns_scale:
        note = f"{found.setting['name']} controls the scale, so alpha is the rank"
        return turned(note, {"lora_alpha": rank})
    return took("lora_alpha", float(value))


def _only_if(scope: Scope, value: Any) -> Result:
    names = [str(part) for part in (value if isinstance(value, list) else [value])]
    names = [name.removeprefix("transformer.").removeprefix("unet.") for name in names]
    return turned("names in diffusers", {"layer_filter": names})


def _conv(scope: Scope, value: Any) -> Result:
    if scope.family == "flux":
        return left("FLUX has no convolutions", matters=False)
    return took("conv_rank", int(value))


def _conv_alpha(scope: Scope, value: Any) -> Result:
    rank = float(scope.get("network.rank") or scope.get("network.linear"))
    alpha = float(scope.get("network.alpha") or scope.get("network.linear_alpha"))
    conv = float(scope.get("network.conv") or 0)
    if scope.family == "flux" or not conv or float(value) * rank == alpha * conv:
        return left("the ratio of alpha and rank is the same", matters=False)
    return left("the ratio of alpha and rank is that of other layers")


def _weights(scope: Scope, value: Any) -> Result:
    return start_file(value, OWN_ALPHA, optimizer_of(scope))


def _timesteps(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left("is only used by flow matching", matters=False)
    if value == "sigmoid":
        note = "the sigmoid of a normal distribution"
        return turned(note, {"timestep_distribution": "logit_normal"})
    if value == "linear":
        return turned("", {"timestep_distribution": "uniform"})
    if value in ("shift", "flux_shift"):
        sets = {"timestep_distribution": "uniform", "dynamic_timestep_shifting": True}
        return turned("the shift depends on the image size", sets)
    return left(why.TIMESTEPS)


def _min_snr(scope: Scope, value: Any) -> Result:
    if scope.family == "flux" or not value:
        return left("has no effect with this value", matters=False)
    sets = {"loss_weight_fn": "min_snr_gamma", "loss_weight_strength": float(value)}
    return turned("gamma of the loss weights", sets)


def _loss(scope: Scope, value: Any) -> Result:
    if value == "mse":
        return left("the squared error is the default", matters=False)
    if value == "mae":
        return turned("", {"mse_strength": 0.0, "mae_strength": 1.0})
    return left(why.LOSSES)


def _lowest(scope: Scope, value: Any) -> Result:
    if not float(value):
        return left("has no effect with this value", matters=False)
    return turned("a fraction", {"min_noising_strength": float(value) / _STEPS})


def _highest(scope: Scope, value: Any) -> Result:
    if float(value) >= _STEPS - 1:
        return left("has no effect with this value", matters=False)
    return turned("a fraction", {"max_noising_strength": (float(value) + 1) / _STEPS})


def _saves(scope: Scope, value: Any) -> Result:
    found = _in_steps("save_every")(scope, value)
    # Files there have the state of the optimizer beside them, with which it resumes.
    number = found.sets.get("save_every", 0)
    return dataclasses.replace(found, sets={**found.sets, "checkpoint_every": number})


def _text(scope: Scope, value: Any) -> Result:
    if not value:
        return turned("", {"train_text_encoder": False})
    sets: dict[str, Any] = {"train_text_encoder": True}
    if scope.family == "sdxl":
        sets["train_text_encoder_2"] = True
    rate = scope.get("train.text_encoder_lr")
    if rate and optimizer_of(scope).is_same:
        sets |= {
            f"{key.removeprefix('train_')}_learning_rate": float(rate)
            for key in [*sets]
        }
    return turned("all CLIP text encoders", sets)


def _text_rate(scope: Scope, value: Any) -> Result:
    if not scope.get("train.train_text_encoder"):
        return left("they are not trained", matters=False)
    return left("see train_text_encoder", matters=False)


def _unloaded(scope: Scope, value: Any) -> Result:
    datasets = scope.parent.get("datasets") if scope.parent else None
    items = datasets if isinstance(datasets, list) else []
    cached = any(isinstance(i, dict) and i.get("cache_text_embeddings") for i in items)
    if not value or cached:
        return left(why.OFFLOADING, matters=False)
    return left(
        "captions are used here. Without cache_text_embeddings, ai-toolkit replaces "
        "them by the trigger word, or by nothing"
    )


def _ema(scope: Scope, value: Any) -> Result:
    if not value:
        return turned("", {"ema": "off"})
    sets = {"ema": "gpu", "ema_update_step_interval": 1}
    return turned("updated in every step", sets)


def _decay(scope: Scope, value: Any) -> Result:
    if not scope.get("train.ema_config.use_ema"):
        return left("use_ema is off", matters=False)
    return took("ema_decay", float(value))


def _attention(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned("", {"attention_mechanism": "xformers"})


def _quantize(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return left("weight_dtype int8 or nfloat4 save as much memory")


def _encoder(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left("is only used for FLUX", matters=False)
    return took("text_encoder_2_model_name", str(value))


def _use_wandb(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned("", {"trackers": ["tensorboard", "wandb"]})


def _project(scope: Scope, value: Any) -> Result:
    if not scope.get("logging.use_wandb"):
        return left("is only used with wandb", matters=False)
    return turned("", {"tracker_project": str(value)})


_PART_OF_SAMPLES = ignore("is part of the samples", matters=False)

_OWN: dict[str, Rule] = {
    "adapter": ignore(why.CONDITIONS),
    "device": take("device", str),
    "model.arch": ignore("sets the model family", matters=False),
    "model.dtype": mapped("weight_dtype", _DTYPES, "unknown data type"),
    "model.ignore_if_contains": ignore("weight_dtype applies to all layers"),
    "model.only_if_contains": ignore("weight_dtype applies to all layers"),
    "model.is_flux": ignore("sets the model family", matters=False),
    "model.is_v_pred": lambda scope, value: (
        turned("", {"prediction_type": "v_prediction"})
        if value
        else left("the prediction type is read from the model", matters=False)
    ),
    "model.is_xl": ignore("sets the model family", matters=False),
    "model.name_or_path": take("base_model_name", str),
    "model.qtype": ignore("is part of quantize", matters=False),
    "model.qtype_te": ignore("is part of quantize_te", matters=False),
    "model.quantize": _quantize,
    "model.quantize_te": _quantize,
    "model.te_name_or_path": _encoder,
    "model.unet_path": take("unet_model_name", str),
    "model.vae_path": take("vae_model_name", str),
    "network.alpha": ignore("linear_alpha is used", matters=False),
    "network.conv": _conv,
    "network.conv_alpha": _conv_alpha,
    "network.dropout": dropout("lora_dropout"),
    "network.linear": take("lora_rank", int),
    "network.linear_alpha": _alpha,
    "network.network_kwargs.only_if_contains": _only_if,
    "network.network_kwargs.ignore_if_contains": ignore(
        "layer_filter selects layers, and leaves out no others"
    ),
    "network.pretrained_lora_path": _weights,
    "network.rank": take("lora_rank", int),
    "network.transformer_only": ignore("is part of type", matters=False),
    "network.type": _network,
    "logging.project_name": _project,
    "logging.use_wandb": _use_wandb,
    "performance_log_every": ignore(why.LOGS),
    **SAMPLES,
    "sample.sample_every": _in_steps("sample_every"),
    **{
        f"sample.{key}": _PART_OF_SAMPLES
        for key in (
            "guidance_scale",
            "height",
            "neg",
            "sample_steps",
            "seed",
            "walk_seed",
            "width",
        )
    },
    "save.dtype": mapped("output_dtype", _DTYPES, "unknown data type"),
    "save.max_step_saves_to_keep": take("keep_saved", int),
    "save.push_to_hub": ignore(why.CLOUD),
    "save.save_every": _saves,
    "save.save_format": ignore("LoRA files are always .safetensors", matters=False),
    "slider": ignore(why.LOSSES),
    "sqlite_db_path": ignore(why.LOGS),
    "train.attention_backend": ignore("sdp is used", ("native",), matters=False),
    "train.batch_size": take("batch_size", int),
    "train.bypass_guidance_embedding": ignore("guidance_scale is an input of FLUX"),
    "train.cfg_scale": ignore(why.LOSSES, (1, 1.0)),
    "train.content_or_style": ignore(why.TIMESTEPS, ("balanced",)),
    "train.disable_sampling": ignore("sets sample_every to 0", matters=False),
    "train.dtype": mapped("train_dtype", _DTYPES, "unknown data type"),
    "train.ema_config.ema_decay": _decay,
    "train.ema_config.param_multiplier": ignore("the average is simple", (1, 1.0)),
    "train.ema_config.use_ema": _ema,
    "train.ema_config.use_feedback": ignore("the average is not fed back"),
    "train.gradient_accumulation": _accumulated,
    "train.gradient_accumulation_steps": _accumulated,
    "train.gradient_checkpointing": take("gradient_checkpointing", bool),
    "train.loss_type": _loss,
    "train.lr": _rate,
    "train.lr_scheduler": mapped(
        "learning_rate_scheduler",
        # One cycle, unless its parameters set another length.
        {
            "constant": "constant",
            "cosine": "cosine",
            "cosine_with_restarts": "cosine",
        },
        f"{why.SCHEDULES}. constant is used",
    ),
    "train.max_denoising_steps": _highest,
    "train.max_grad_norm": take("clip_grad_norm", float),
    "train.min_denoising_steps": _lowest,
    "train.min_snr_gamma": _min_snr,
    "train.noise_offset": take("offset_noise_weight", float),
    "train.noise_scheduler": ignore("is that of the model family", matters=False),
    "train.num_train_timesteps": ignore(why.TIMESTEPS, (1000,)),
    "train.optimizer": _optimizer,
    "train.optimizer_params": ignore("it is empty", matters=False),
    "train.sdp": ignore("sdp is the default", matters=False),
    "train.snr_gamma": _min_snr,
    "train.steps": _in_steps("steps"),
    "train.text_encoder_lr": _text_rate,
    "train.timestep_type": _timesteps,
    "train.train_text_encoder": _text,
    "train.train_turbo": ignore(why.TIMESTEPS),
    "train.train_unet": ignore("the denoiser is always trained", (True,)),
    "train.unet_lr": _own_rate,
    "train.unload_text_encoder": _unloaded,
    "train.xformers": _attention,
    "trigger_word": take("trigger_word", str),
    "training_folder": take("output_dir", str),
    "type": ignore("it is another kind of training than that of a LoRA", _TRAINERS),
}
_SECTIONS = ("logging", "model", "network", "sample", "save", "train")

PROCESS: dict[str, Rule] = {
    **{
        f"{section}.{name}": without(section, name, reason)
        for section in _SECTIONS
        for name, reason in WITHOUT.items()
        # Those of a network have their own rules.
        if name != "network_kwargs"
    },
    **{
        name: without(name.partition(".")[0], name.partition(".")[2], reason)
        for reason, names in MORE.items()
        for name in names.split()
    },
    "model.compile": take("compile", bool),
    **_OWN,
}
"""Rules of a process, by section and key."""
