"""Rules of OneTrainer for concepts and samples."""

from __future__ import annotations

from typing import Any

from ..foreign import reasons as why
from .key_rules import Result, Rule, Scope, ignore, left, take, took, turned
from .sampler_names import sampler_rule

__all__ = ["CONCEPT", "CONCEPT_DEFAULTS", "SAMPLE", "SAMPLE_DEFAULTS"]

CONCEPT_DEFAULTS: dict[str, Any] = {
    "image.enable_crop_jitter": True,
    "image_variations": 1,
    "text.keep_tags_count": 1,
    "text_variations": 1,
}
_AUGMENTED = (
    "image.enable_crop_jitter",
    "image.enable_random_flip",
    "image.enable_random_brightness",
    "image.enable_random_contrast",
    "image.enable_random_saturation",
    "image.enable_random_hue",
)
_SWITCHED_OFF = "it is switched off"


def _image(name: str, kind: type) -> dict[str, Rule]:
    return {f"image.{name}": take(name, kind)}


def _fixed(name: str) -> Rule:
    key = f"enable_fixed_{name}"

    def rule(scope: Scope, value: Any) -> Result:
        if not value:
            return left(_SWITCHED_OFF, matters=False)
        if scope.get(f"image.enable_random_{name}"):
            return left("the random one is used instead", matters=False)
        return took(key, True)

    return rule


def _strength(name: str) -> dict[str, Rule]:
    key = f"random_{name}_max_strength"

    def rule(scope: Scope, value: Any) -> Result:
        kinds = ("random", "fixed")
        if not any(scope.get(f"image.enable_{kind}_{name}") for kind in kinds):
            return left(_SWITCHED_OFF, matters=False)
        return took(key, float(value))

    fixed = _fixed(name)
    return {
        f"image.enable_random_{name}": ignore(f"is part of image.{key}", matters=False),
        f"image.{key}": rule,
        f"image.enable_fixed_{name}": fixed,
    }


def _type(scope: Scope, value: Any) -> Result:
    if value == "STANDARD":
        return left("a training concept", matters=False)
    if value == "VALIDATION":
        return turned("a concept of the validation set", {"_validation": True})
    return turned(
        "the target is the prediction of the base model", {"prior_prediction": True}
    )


def _balancing(scope: Scope, value: Any) -> Result:
    strategy = scope.get("balancing_strategy", "REPEATS")
    if float(value) == 1 and strategy == "REPEATS":
        return left("has no effect with this value", matters=False)
    return took("balancing", float(value))


def _strategy(scope: Scope, value: Any) -> Result:
    return took("balancing_strategy", str(value))


def _images(scope: Scope, value: Any) -> Result:
    if int(value) == 1 and not any(scope.get(key) for key in _AUGMENTED):
        return left("has no effect with this value", matters=False)
    return took("image_variations", int(value))


def _changes_text(scope: Scope) -> bool:
    keys = ("enable_tag_shuffling", "tag_dropout_enable", "caps_randomize_enable")
    return any(bool(scope.get(f"text.{key}")) for key in keys)


def _texts(scope: Scope, value: Any) -> Result:
    if int(value) == 1 and not _changes_text(scope):
        return left("has no effect with this value", matters=False)
    return took("text_variations", int(value))


def _kept(scope: Scope, value: Any) -> Result:
    if not _changes_text(scope):
        return left("tags are not changed", matters=False)
    return took("keep_tags_count", int(value))


def _dropout(scope: Scope, value: Any) -> Result:
    if not scope.get("text.tag_dropout_enable") or not float(value):
        return left(_SWITCHED_OFF, matters=False)
    mode = str(scope.get("text.tag_dropout_mode", "FULL"))
    if mode not in ("RANDOM", "RANDOM WEIGHTED", "FULL"):
        return left(f"tag_dropout_mode {mode} is not supported")
    if mode == "FULL" and not (
        int(scope.get("text.keep_tags_count", 1)) or _specials(scope)
    ):
        return turned("all tags at once", {"caption_dropout_rate": float(value)})
    sets: dict[str, Any] = {"tag_dropout_probability": float(value)}
    if mode != "RANDOM":
        sets["tag_dropout_mode"] = mode
    return turned("each tag" if mode == "RANDOM" else "", {**sets, **_specials(scope)})


def _specials(scope: Scope) -> dict[str, Any]:
    """Return the settings of special tags."""
    mode = scope.get("text.tag_dropout_special_tags_mode", "NONE")
    tags = str(scope.get("text.tag_dropout_special_tags", ""))
    if mode not in ("WHITELIST", "BLACKLIST") or not tags.strip() or _in_file(tags):
        return {}
    found = {
        "tag_dropout_special_tags_mode": mode,
        "tag_dropout_special_tags": tags,
    }
    regex = bool(scope.get("text.tag_dropout_special_tags_regex"))
    return found | ({"tag_dropout_special_tags_regex": True} if regex else {})


def _in_file(tags: str) -> bool:
    return tags.strip().lower().endswith((".txt", ".csv"))


def _special(scope: Scope, value: Any) -> Result:
    off = not scope.get("text.tag_dropout_enable")
    if off or value in (False, "", "NONE"):
        return left(_SWITCHED_OFF, matters=False)
    tags = str(scope.get("text.tag_dropout_special_tags", ""))
    if _in_file(tags):
        return left("write the tags of the file into tag_dropout_special_tags")
    if not _specials(scope):
        return left("there are no special tags, or no mode", matters=False)
    return left("is part of tag_dropout_probability", matters=False)


_CAPITALS = ("capslock", "title", "first", "random")


def _caps(scope: Scope, value: Any) -> Result:
    rate = float(scope.get("text.caps_randomize_probability", 0))
    if not scope.get("text.caps_randomize_enable") or not rate:
        return left(_SWITCHED_OFF, matters=False)
    named = str(scope.get("text.caps_randomize_mode", ", ".join(_CAPITALS)))
    kinds = [kind.strip() for kind in named.split(",")]
    known = [kind for kind in dict.fromkeys(kinds) if kind in _CAPITALS]
    if not known:
        return left(f"there is no kind of capitals in {named!r}")
    sets: dict[str, Any] = {"caps_randomize_probability": rate}
    if tuple(known) != _CAPITALS:
        sets["caps_randomize_mode"] = known
    return turned("", sets)


def _caps_mode(scope: Scope, value: Any) -> Result:
    if not scope.get("text.caps_randomize_enable"):
        return left(_SWITCHED_OFF, matters=False)
    return left("is part of caps_randomize_probability", matters=False)


def _override(scope: Scope, value: Any) -> Result:
    if not scope.get("image.enable_resolution_override"):
        return left(_SWITCHED_OFF, matters=False)
    parts = [part.strip() for part in str(value).split(",") if part.strip()]
    sides = dict.fromkeys(int(part) for part in parts if part.isdecimal())
    if len(parts) == len(sides):
        return turned("a list", {"resolutions": list(sides)})
    return left("resolutions of concepts are sides of squares")


def _rotation(scope: Scope, value: Any) -> Result:
    turned_on = scope.get("image.enable_random_rotate")
    turned_on = turned_on or scope.get("image.enable_fixed_rotate")
    if not turned_on or not value:
        return left(_SWITCHED_OFF, matters=False)
    return left(why.AUGMENTATION)


CONCEPT: dict[str, Rule] = {
    **_image("enable_crop_jitter", bool),
    **_image("enable_random_flip", bool),
    "image.enable_fixed_flip": _fixed("flip"),
    "image.enable_random_rotate": ignore(why.AUGMENTATION),
    "image.enable_fixed_rotate": ignore(why.AUGMENTATION),
    "image.random_rotate_max_angle": _rotation,
    **_strength("brightness"),
    **_strength("contrast"),
    **_strength("saturation"),
    **_strength("hue"),
    "image.enable_resolution_override": ignore(
        "is part of resolution_override", matters=False
    ),
    "image.resolution_override": _override,
    "image.enable_random_circular_mask_shrink": ignore(why.AUGMENTATION),
    "image.enable_random_mask_rotate_crop": ignore(why.AUGMENTATION),
    "text.prompt_source": take("prompt_source", str),
    "text.prompt_path": take("prompt_path", str),
    "text.enable_tag_shuffling": take("enable_tag_shuffling", bool),
    "text.tag_delimiter": take("tag_delimiter", str),
    "text.keep_tags_count": _kept,
    "text.tag_dropout_enable": ignore(
        "is part of tag_dropout_probability", matters=False
    ),
    "text.tag_dropout_mode": ignore(
        "is part of tag_dropout_probability", matters=False
    ),
    "text.tag_dropout_probability": _dropout,
    "text.tag_dropout_special_tags": _special,
    "text.tag_dropout_special_tags_mode": _special,
    "text.tag_dropout_special_tags_regex": _special,
    "text.caps_randomize_enable": _caps_mode,
    "text.caps_randomize_lowercase": take("caps_randomize_lowercase", bool),
    "text.caps_randomize_mode": _caps_mode,
    "text.caps_randomize_probability": _caps,
    **{
        f"{place}__version": ignore("the version of the file", matters=False)
        for place in ("", "image.", "text.")
    },
    "name": ignore("the path names a concept", matters=False),
    "path": take("path", str),
    "seed": ignore("a run has one seed", matters=False),
    "enabled": take("enabled", bool),
    "type": _type,
    "include_subdirectories": take("include_subdirectories", bool),
    "image_variations": _images,
    "text_variations": _texts,
    "balancing": _balancing,
    "balancing_strategy": _strategy,
    "loss_weight": take("loss_weight", float),
    "concept_stats": ignore("the window shows them", matters=False),
}
"""Rules of a concept."""

_SAMPLE_DEFAULTS: dict[str, Any] = {"seed": 42, "diffusion_steps": 30}
SAMPLE_DEFAULTS: dict[str, dict[str, Any]] = {
    "flux": {**_SAMPLE_DEFAULTS, "width": 1024, "height": 1024, "cfg_scale": 3.5},
    "sd15": {**_SAMPLE_DEFAULTS, "width": 512, "height": 512, "cfg_scale": 7.5},
    "sdxl": {**_SAMPLE_DEFAULTS, "width": 1024, "height": 1024, "cfg_scale": 7.5},
}
"""Defaults of a sample, by family."""
_OTHER_SAMPLER = (
    "base_image_path",
    "force_last_timestep",
    "frames",
    "length",
    "mask_image_path",
    "sample_inpainting",
    "text_encoder_1_layer_skip",
    "text_encoder_1_sequence_length",
    "text_encoder_2_layer_skip",
    "text_encoder_2_sequence_length",
    "text_encoder_3_layer_skip",
    "text_encoder_4_layer_skip",
    "transformer_attention_mask",
)


def _negative(scope: Scope, value: Any) -> Result:
    if scope.family == "flux":
        return left("FLUX does not use a negative prompt", matters=False)
    return took("negative_prompt", str(value))


SAMPLE: dict[str, Rule] = {
    **dict.fromkeys(_OTHER_SAMPLER, ignore(why.SAMPLER)),
    "__version": ignore("the version of the file", matters=False),
    "cfg_scale": take("guidance", float),
    "diffusion_steps": take("steps", int),
    "enabled": ignore("the sample is generated", matters=False),
    "height": take("height", int),
    "negative_prompt": _negative,
    "noise_scheduler": sampler_rule,
    "prompt": take("prompt", str),
    "random_seed": ignore("the same seed is always used", matters=False),
    "seed": take("seed", int),
    "width": take("width", int),
}
"""Rules of a sample."""
