"""Rules of OneTrainer for the run and the LoRA."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from ..foreign import onetrainer
from ..foreign import reasons as why
from ..interval import interval_text
from .key_rules import (
    Result,
    Rule,
    Scope,
    dropout,
    ignore,
    left,
    mapped,
    only_for,
    take,
    took,
    turned,
    without_counterpart,
)
from .onetrainer_objective import OBJECTIVE
from .onetrainer_optimizer import OPTIMIZER, optimizer_of, rate_rule
from .onetrainer_parts import PARTS
from .start_files import FILE_ALPHA, start_file

__all__ = ["DEFAULTS", "NONE_COUNTS", "ROOT"]

NONE_COUNTS = ("clip_grad_norm",)
DTYPES = {
    "float_32": "float32",
    "tfloat_32": "float32",
    "float_16": "float16",
    "bfloat_16": "bfloat16",
}
DEFAULTS: dict[str, Any] = {
    "batch_size": 1,
    "backup_after": 30,
    "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "ema": "OFF",
    "epochs": 100,
    "layer_filter_preset": "full",
    "learning_rate": 3e-6,
    "learning_rate_warmup_steps": 200,
    "lora_alpha": 1.0,
    "lora_rank": 16,
    "optimizer.optimizer": "ADAMW",
    "output_dtype": "FLOAT_32",
    "output_model_format": "SAFETENSORS",
    "resolution": "512",
    "sample_after": 10,
    "text_encoder.stop_training_after": 30,
    "text_encoder.train": True,
    "text_encoder_2.stop_training_after": 30,
    "text_encoder_2.train": True,
    "text_encoder_2_sequence_length": 77,
    "timestep_distribution": "UNIFORM",
    "train_dtype": "FLOAT_16",
    "training_method": "FINE_TUNE",
    "transformer.gradient_checkpointing": True,
    "transformer.weight_dtype": "FLOAT_32",
    "unet.gradient_checkpointing": True,
    "unet.weight_dtype": "FLOAT_32",
}
_UNITS = {
    "backup_after": "MINUTE",
    "sample_after": "MINUTE",
    "save_every": "NEVER",
    "validate_after": "EPOCH",
}
_MINUTES = {"SECOND": 1 / 60, "MINUTE": 1.0, "HOUR": 60.0}
_PART_OF = "is part of {}"


def _interval(key: str, name: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        unit = str(scope.get(f"{name}_unit", _UNITS[name]))
        if unit == "NEVER" or not float(value):
            return turned("never", {key: 0})
        if unit == "EPOCH":
            return turned("", {key: interval_text(f"{float(value):f}", "epochs")})
        if unit in ("STEP", "ALWAYS"):
            # Steps there are batches, also within an accumulated step.
            batches = float(value) if unit == "STEP" else 1
            number = math.ceil(batches / _accumulation(scope))
            return turned("steps of the optimizer", {key: number})
        minutes = f"{float(value) * _MINUTES[unit]:.4f}"
        return turned("", {key: interval_text(minutes, "minutes")})

    return rule


def _accumulation(scope: Scope) -> int:
    return max(1, int(scope.get("gradient_accumulation_steps", 1)))


def _validate(scope: Scope, value: Any) -> Result:
    if not scope.get("validation"):
        return left("validation is off", matters=False)
    return _interval("validate_every", "validate_after")(scope, value)


def _validation(scope: Scope, value: Any) -> Result:
    if not value:
        return left("validation is off", matters=False)
    if scope.has("validate_after"):
        return left("see validate_after", matters=False)
    return turned("", {"validate_every": "1 epoch"})


def _part_of(key: str) -> Rule:
    return lambda scope, value: left(_PART_OF.format(key), matters=False)


def _rate(scope: Scope, value: Any) -> Result:
    part = "transformer" if scope.family == "flux" else "unet"
    if scope.has(f"{part}.learning_rate"):
        return left(f"{part}.learning_rate is used instead", matters=False)
    return rate_rule("learning_rate")(scope, value)


def _scaler(scope: Scope, value: Any) -> Result:
    if str(value).startswith("GLOBAL") and scope.get("multi_gpu"):
        return left("the rate is that of one device")
    return left("is part of the learning rates", matters=False)


def _warmup(scope: Scope, value: Any) -> Result:
    steps = float(value)
    if steps <= 0:
        return left("has no effect with this value", matters=False)
    if optimizer_of(scope).setting["name"] == "prodigy_plus_schedule_free":
        return left("is not used with this optimizer", matters=False)
    if steps <= 1:
        share = f"{100 * steps:.10g} %"
        return turned("a fraction of the run", {"learning_rate_warmup_steps": share})
    number = int(steps / _accumulation(scope))
    if number == steps:
        return took("learning_rate_warmup_steps", number)
    note = "steps of the optimizer instead of batches"
    return turned(note, {"learning_rate_warmup_steps": number})


def _scheduler(scope: Scope, value: Any) -> Result:
    name = str(value).lower()
    if optimizer_of(scope).is_schedule_free:
        note = "" if name == "constant" else "schedule-free optimizers have none"
        return turned(note, {"learning_rate_scheduler": "constant"})
    if name in ("constant", "linear", "cosine"):
        return turned("", {"learning_rate_scheduler": name})
    if name == "rex":
        return turned("", {"learning_rate_scheduler": name})
    cycles = float(scope.get("learning_rate_cycles", 1) or 1)
    if name == "cosine_with_hard_restarts":
        return _restarts(cycles)
    if name == "cosine_with_restarts" and cycles == 0.5:
        # Half a wave, without a restart.
        return turned("", {"learning_rate_scheduler": "cosine"})
    if name == "cosine_with_restarts":
        note = "the rate rises slowly in each cycle there"
        return left(f"{note}, and {why.SCHEDULES}. constant is used")
    return left(f"{why.SCHEDULES}. constant is used")


def _restarts(cycles: float) -> Result:
    number = max(1, round(cycles))
    note = ""
    if number != cycles:
        note = f"the number of cycles is whole here: {number} instead of {cycles:g}"
    sets = {
        "learning_rate_scheduler": "cosine_with_restarts",
        "learning_rate_cycles": number,
    }
    return turned(note, sets, matters=bool(note))


def _lowest_rate(scope: Scope, value: Any) -> Result:
    if not float(value):
        return left("has no effect with this value", matters=False)
    return took("learning_rate_min_factor", float(value))


def _alpha(scope: Scope, value: Any) -> Result:
    rank = int(scope.get("lora_rank"))
    found = optimizer_of(scope)
    if found.owns_scale:
        note = f"{found.setting['name']} controls the scale, so alpha is the rank"
        return turned(note, {"lora_alpha": rank})
    return took("lora_alpha", float(value))


def _filter_preset(scope: Scope, value: Any) -> Result:
    name = str(value)
    if scope.get("layer_filter") and (
        name == "custom" or not scope.has("layer_filter_preset")
    ):
        return left("layer_filter is used", matters=False)
    if name in ("attn-only", "attn-mlp"):
        return took("layer_filter_preset", name)
    if name == "full" and scope.family == "flux":
        return took("layer_filter_preset", name)
    if name == "full":
        rank = int(scope.get("lora_rank"))
        note = "full includes convolutions in OneTrainer"
        return turned(note, {"layer_filter_preset": "full", "conv_rank": rank})
    if name == "blocks":
        return turned(
            "the layers of all blocks", {"layer_filter": ["transformer_block"]}
        )
    return left("the preset is not known")


def _filter(scope: Scope, value: Any) -> Result:
    preset = scope.get("layer_filter_preset")
    if scope.has("layer_filter_preset") and preset != "custom":
        return left("layer_filter_preset is used", matters=False)
    if scope.get("layer_filter_regex"):
        return left("regular expressions are not supported. Use names with *")
    names = [part.strip() for part in str(value).split(",") if part.strip()]
    return turned("a list", {"layer_filter": names})


def _resolution(scope: Scope, value: Any) -> Result:
    first, *others = [part.strip() for part in str(value).split(",") if part.strip()]
    sides = [float(side) for side in first.lower().split("x")]
    step = 16 if scope.family == "flux" else 8
    pixels = sides[0] * sides[-1]
    side = int(sides[0]) if len(sides) == 1 else round(math.sqrt(pixels) / step) * step
    sets = {"resolution": side}
    if others:
        rest = dict.fromkeys(int(part) for part in others)
        rest.pop(side, None)
        note = "each image is used equally often at each of them"
        return turned(note, {**sets, "extra_resolutions": list(rest)})
    if len(sides) > 1:
        square = not scope.get("aspect_ratio_bucketing", True)
        note = "the side of a square with as many pixels"
        return turned(note, sets, matters=square)
    return turned("a number", sets)


_FUSED_FORMATS = ("KOHYA_LORA", "COMFY_LORA", "ORIGINAL_LORA")


def _format(scope: Scope, value: Any) -> Result:
    if value == "DIFFUSERS_LORA":
        return turned("", {"output_formats": ["peft"]})
    if scope.family == "flux" and value in _FUSED_FORMATS:
        # The layers that are trained there depend on the format.
        note = f"with this format, {why.FUSED_LAYERS}"
        return turned(note, {"output_formats": ["kohya"]}, matters=True)
    note = (
        "" if value in ("KOHYA_LORA", "LEGACY_LORA") else "kohya files load in ComfyUI"
    )
    return turned(note, {"output_formats": ["kohya"]})


def _destination(scope: Scope, value: Any) -> Result:
    name = PurePath(str(value).replace("\\", "/")).stem
    note = "its name without the ending; the file is in the folder of the run"
    return turned(note, {"run_name": name}) if name else left("is not set")


def _weights(scope: Scope, value: Any) -> Result:
    return start_file(value, FILE_ALPHA, optimizer_of(scope))


def _method(scope: Scope, value: Any) -> Result:
    if value == "LORA":
        return left("a LoRA is always trained", matters=False)
    return left(f"a LoRA is trained instead, because {why.ADAPTERS}")


def _dora_axis(scope: Scope, value: Any) -> Result:
    if not scope.get("lora_decompose") or value:
        return left("has no effect with this value", matters=False)
    return left("the magnitudes of DoRA are those of rows (output axis)")


def _stiefel(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned(
        "its learning rate has another unit, so the default is used",
        {"optimizer": {"name": "stiefel_lora"}},
    )


def _clip(scope: Scope, value: Any) -> Result:
    if value is None:
        return turned("no clipping", {"clip_grad_norm": 0.0})
    return took("clip_grad_norm", float(value))


def _kept(scope: Scope, value: Any) -> Result:
    if not scope.get("rolling_backup"):
        return left("rolling_backup is off; 3 checkpoints are kept", matters=False)
    return took("keep_checkpoints", int(value))


_NO_ADAPTER = ignore("is only used by other adapters", matters=False)
_EMBEDDINGS = ignore("is only used for embeddings", matters=False)
_NAMES = {key: take(key, bool) for key in ("aspect_ratio_bucketing", "latent_caching")}


def _skip(scope: Scope, value: Any) -> Result:
    if scope.family == "flux":
        return left("only the pooled output of it is used for FLUX", matters=False)
    return took("text_encoder_layer_skip", int(value))


def _second_skip(scope: Scope, value: Any) -> Result:
    if scope.family == "sd15":
        return left("SD 1.5 has one text encoder", matters=False)
    if scope.family == "flux":
        return left("all layers of T5 are used", matters=bool(int(value)))
    return took("text_encoder_2_layer_skip", int(value))


ROOT: dict[str, Rule] = {
    **without_counterpart(
        onetrainer.WITHOUT, but=[key.partition(".")[0] for key in PARTS]
    ),
    **OPTIMIZER,
    **OBJECTIVE,
    **PARTS,
    **_NAMES,
    **dict.fromkeys(
        (
            "lokr_decompose_both",
            "lokr_decompose_factor",
            "lokr_dim",
            "lokr_dora_on_output",
            "lokr_full_matrix",
            "lokr_use_tucker",
            "lokr_vec_trick",
            "lokr_weight_decompose",
            "oft_block_share",
            "oft_block_size",
            "oft_scaled",
        ),
        _NO_ADAPTER,
    ),
    **dict.fromkeys(
        (
            "bundle_additional_embeddings",
            "embedding",
            "embedding_learning_rate",
            "embedding_weight_dtype",
            "preserve_embedding_norm",
        ),
        _EMBEDDINGS,
    ),
    "__version": ignore("the version of the file", matters=False),
    "attention_mechanism": mapped(
        "attention_mechanism",
        {"sdp": "sdp", "default": "sdp", "xformers": "xformers", "flash": "flash"},
        "sdp is used",
    ),
    "backup_after": _interval("checkpoint_every", "backup_after"),
    "backup_after_unit": _part_of("backup_after"),
    "base_model_name": take("base_model_name", str),
    "batch_size": take("batch_size", int),
    "cache_dir": take("cache_dir", str),
    "clip_grad_norm": _clip,
    "compile": take("compile", bool),
    "concept_file_name": ignore("is read", matters=False),
    "config_version": ignore("the version of the file", matters=False),
    "custom_learning_rate_scheduler": ignore(why.SCHEDULES),
    "dropout_probability": dropout("lora_dropout", "lora_decompose"),
    "ema": mapped("ema", {"off": "off", "gpu": "gpu", "cpu": "cpu"}, "unknown mode"),
    "ema_decay": take("ema_decay", float),
    "ema_update_step_interval": take("ema_update_step_interval", int),
    "epochs": take("epochs", float),
    "fallback_train_dtype": ignore(why.PRECISION, matters=False),
    "enable_autocast_cache": ignore(why.PRECISION, matters=False),
    "frames": ignore("is only used for videos", matters=False),
    "gradient_accumulation_steps": take("gradient_accumulation_steps", int),
    "gradient_checkpointing": mapped(
        "gradient_checkpointing",
        {True: True, False: False, "on": True, "off": False, "cpu_offloaded": True},
        "unknown mode",
    ),
    "layer_filter": _filter,
    "layer_filter_preset": _filter_preset,
    "layer_filter_regex": ignore("is part of layer_filter", matters=False),
    "learning_rate": _rate,
    "learning_rate_cycles": ignore("is part of learning_rate_scheduler", matters=False),
    "learning_rate_min_factor": _lowest_rate,
    "learning_rate_scaler": _scaler,
    "learning_rate_scheduler": _scheduler,
    "learning_rate_warmup_steps": _warmup,
    "lora_alpha": _alpha,
    "lora_decompose": take("use_dora", bool),
    "lora_decompose_norm_epsilon": ignore("the norm has no epsilon", matters=False),
    "lora_decompose_output_axis": _dora_axis,
    "lora_model_name": _weights,
    "lora_rank": take("lora_rank", int),
    "lora_weight_dtype": ignore(
        "the LoRA is always updated in float32", ("FLOAT_32", "NONE")
    ),
    "model_type": ignore("sets the model family", matters=False),
    "non_ema_sampling": ignore(
        "samples are generated with the averaged weights whenever ema is set",
        matters=False,
    ),
    "include_train_config": ignore(
        "the settings are part of the metadata of every LoRA file", matters=False
    ),
    "layer_offload_fraction": ignore(why.OFFLOADING),
    "offline_mode": ignore(why.CLOUD),
    "optimizer_defaults": ignore("the window remembers them", matters=False),
    "output_dtype": mapped("output_dtype", DTYPES, "unknown data type"),
    "output_model_destination": _destination,
    "output_model_format": _format,
    "peft_type": ignore(
        f"a LoRA is trained instead, because {why.ADAPTERS}", ("LORA",)
    ),
    "quantization": ignore("weight_dtype applies to all layers", matters=False),
    "resolution": _resolution,
    "rolling_backup": ignore("is part of rolling_backup_count", matters=False),
    "rolling_backup_count": _kept,
    "sample_after": _interval("sample_every", "sample_after"),
    "sample_after_unit": _part_of("sample_after"),
    "sample_definition_file_name": ignore("is read", matters=False),
    "sample_image_format": ignore("samples are written as .png", matters=False),
    "sample_audio_format": ignore(why.SAMPLER),
    "sample_video_format": ignore(why.SAMPLER),
    "save_every": _interval("save_every", "save_every"),
    "save_every_unit": _part_of("save_every"),
    "save_filename_prefix": ignore("files are named after run_name", matters=False),
    "seed": take("seed", int),
    "text_encoder_layer_skip": _skip,
    "text_encoder_2_layer_skip": _second_skip,
    "text_encoder_2_sequence_length": only_for(
        "flux", "FLUX", take("text_encoder_2_sequence_length", int)
    ),
    "text_encoder_sequence_length": ignore(
        "is only used for other families", matters=False
    ),
    "train_device": take("device", str),
    "train_dtype": mapped("train_dtype", DTYPES, "unknown data type"),
    "training_method": _method,
    "use_stiefel": _stiefel,
    "validate_after": _validate,
    "validate_after_unit": _part_of("validate_after"),
    "validation": _validation,
    "workspace_dir": take("output_dir", str),
}
"""Rules by dotted key."""
