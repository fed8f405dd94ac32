"""Rules of OneTrainer for the parts of a model."""

from __future__ import annotations

import math
from typing import Any

from ..foreign import reasons as why
from ..interval import interval_text
from .key_rules import Result, Rule, Scope, ignore, left, took, turned
from .onetrainer_optimizer import optimizer_of, rate_rule, scaled

__all__ = ["PARTS"]

_WEIGHTS = {
    "FLOAT_32": "float32",
    "FLOAT_16": "float16",
    "BFLOAT_16": "bfloat16",
    "INT_8": "int8",
    "NFLOAT_4": "nfloat4",
}
_DENOISERS = ("unet", "transformer")
_ENCODERS = ("text_encoder", "text_encoder_2")
_STRANGERS = (
    "decoder",
    "decoder_text_encoder",
    "decoder_vqgan",
    "effnet_encoder",
    "prior",
    "text_encoder_3",
    "text_encoder_4",
    "unconditional_transformer",
)
_FIELDS = (
    "__version",
    "activation_offloading",
    "attention_mask",
    "dropout_probability",
    "gradient_checkpointing",
    "guidance_scale",
    "include",
    "learning_rate",
    "model_name",
    "offload_fraction",
    "stop_training_after",
    "stop_training_after_unit",
    "train",
    "train_embedding",
    "weight_dtype",
)


def _has(scope: Scope, part: str) -> bool:
    if part in _DENOISERS:
        return (part == "transformer") is (scope.family == "flux")
    return part != "text_encoder_2" or scope.family != "sd15"


def _of_family(part: str, rule: Rule) -> Rule:
    def changed(scope: Scope, value: Any) -> Result:
        if not _has(scope, part):
            return left("the model has no such part", matters=False)
        return rule(scope, value)

    return changed


def _name(part: str) -> Rule:
    return lambda scope, value: took(f"{part}_model_name", str(value))


def _denoiser_trained(scope: Scope, value: Any) -> Result:
    if value:
        return left("the denoiser is always trained", matters=False)
    return left("the denoiser is always trained")


def _weight_dtype(scope: Scope, value: Any) -> Result:
    if value in _WEIGHTS:
        return turned("", {"weight_dtype": _WEIGHTS[value]})
    return left("weight_dtype int8 or nfloat4 save as much memory")


def _guidance(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left("is only used for FLUX", matters=False)
    return took("guidance_scale", float(value))


# Differences of a trained second text encoder, by family.
_SECOND = {
    "sdxl": "OneTrainer also trains a LoRA of text_projection, which is frozen here",
    "flux": "OneTrainer uses the dropout of T5, which is off here",
}


def _encoder_trained(part: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        sets: dict[str, Any] = {f"train_{part}": bool(value)}
        if not value:
            return turned("", sets)
        denoiser = "transformer" if scope.family == "flux" else "unet"
        own = scope.has(f"{part}.learning_rate") or not optimizer_of(scope).is_same
        if scope.has(f"{denoiser}.learning_rate") and not own:
            # learning_rate here is that of the denoiser.
            sets[f"{part}_learning_rate"] = scaled(scope, scope.get("learning_rate"))
        second = part == "text_encoder_2"
        return turned(_SECOND[scope.family] if second else "", sets, matters=second)

    return rule


def _encoder_rate(part: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        if not scope.get(f"{part}.train", True):
            return left("it is not trained", matters=False)
        return rate_rule(f"{part}_learning_rate")(scope, value)

    return rule


def _stop(part: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        usual = "NEVER" if part in _DENOISERS else "EPOCH"
        unit = scope.get(f"{part}.stop_training_after_unit", usual)
        trained = scope.get(f"{part}.train", True)
        late = unit == "EPOCH" and float(value) >= float(scope.get("epochs"))
        if unit == "NEVER" or late or not trained or not float(value):
            return left("has no effect with this value", matters=False)
        if part not in _ENCODERS:
            return left("the denoiser is trained to the end")
        key = f"{part}_stop_training_after"
        if unit == "EPOCH":
            return turned("", {key: interval_text(f"{float(value):f}", "epochs")})
        if unit == "STEP":
            batches = max(1, int(scope.get("gradient_accumulation_steps", 1)))
            number = math.ceil(float(value) / batches)
            return turned("steps of the optimizer", {key: number})
        return left("only steps and epochs are supported, which are reproducible")

    return rule


_TECHNICAL_FIELDS = ignore(why.OFFLOADING)
_DTYPE_OF_OTHERS = ignore("weight_dtype is that of the denoiser", matters=False)


def _part(part: str) -> dict[str, Rule]:
    encoder = part in _ENCODERS
    rules: dict[str, Rule] = {
        "__version": ignore("the version of the file", matters=False),
        "activation_offloading": _TECHNICAL_FIELDS,
        "attention_mask": ignore(why.TEXT_LAYERS),
        "dropout_probability": ignore("use caption_dropout_rate of concepts"),
        "gradient_checkpointing": (
            ignore("is that of the denoiser", matters=False)
            if encoder or part == "vae"
            else lambda scope, value: took("gradient_checkpointing", bool(value))
        ),
        "guidance_scale": _guidance
        if part == "transformer"
        else ignore("is only used for FLUX", matters=False),
        "include": ignore("the part is always used", (True,)),
        "learning_rate": _encoder_rate(part) if encoder else rate_rule("learning_rate"),
        "model_name": _name(part),
        "offload_fraction": _TECHNICAL_FIELDS,
        "stop_training_after": _stop(part),
        "stop_training_after_unit": ignore(
            "is part of stop_training_after", matters=False
        ),
        "train": _encoder_trained(part) if encoder else _denoiser_trained,
        "train_embedding": ignore("is only used for embeddings", matters=False),
        "weight_dtype": _weight_dtype if part in _DENOISERS else _DTYPE_OF_OTHERS,
    }
    if part == "vae":
        idle = ignore("the VAE is not trained", matters=False)
        rules |= dict.fromkeys(("train", "learning_rate", "stop_training_after"), idle)
        rules["weight_dtype"] = ignore("the VAE always runs in float32", matters=False)
    return {f"{part}.{key}": _of_family(part, rules[key]) for key in _FIELDS}


PARTS: dict[str, Rule] = {
    **{
        key: rule
        for part in (*_DENOISERS, *_ENCODERS, "vae")
        for key, rule in _part(part).items()
    },
    **{
        f"{part}.{key}": ignore("the model has no such part", matters=False)
        for part in _STRANGERS
        for key in _FIELDS
    },
}
"""Rules of the parts of a model."""
