"""Rules of ai-toolkit for datasets."""

from __future__ import annotations

from typing import Any

from ..foreign import reasons as why
from .ai_toolkit_names import WITHOUT
from .ai_toolkit_values import without
from .key_rules import Result, Rule, Scope, ignore, left, take, took, turned

__all__ = ["DATASET", "DATASET_DEFAULTS"]

DATASET_DEFAULTS: dict[str, Any] = {"resolution": 512}


def _resolution(scope: Scope, value: Any) -> Result:
    sides = [int(side) for side in (value if isinstance(value, list) else [value])]
    found = list(dict.fromkeys(sides))
    if len(found) == 1:
        return took("_resolution", found[0])
    note = "every image is used at each of them, so repeats is multiplied"
    return turned(note, {"_resolution": max(found), "resolutions": found})


def _caption(scope: Scope, value: Any) -> Result:
    found = str(value) if str(value).startswith(".") else f".{value}"
    sets = {"caption_extension": found}
    return took("caption_extension", found) if found == value else turned("", sets)


def _caching(scope: Scope, value: Any) -> Result:
    return (
        turned("for all concepts", {"_latent_caching": True})
        if value
        else left("has no effect with this value", matters=False)
    )


def _masks(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned("for all concepts", {"_alpha_mask": True})


def _least(scope: Scope, value: Any) -> Result:
    if not scope.get("alpha_mask"):
        return left("is only used with masks", matters=False)
    return turned("for all concepts", {"_unmasked_weight": float(value)})


DATASET: dict[str, Rule] = {
    **{name: without("", name, reason) for name, reason in WITHOUT.items()},
    **dict.fromkeys(
        ("controls", "control_from_same_folder", "unconditional_path", "poi"),
        ignore(why.CONDITIONS),
    ),
    **dict.fromkeys(
        (
            "audio_normalize",
            "audio_preserve_pitch",
            "auto_frame_count",
            "clip_image_augmentations",
            "clip_image_from_same_folder",
            "clip_image_shuffle_augmentations",
            "control_transparent_color",
            "extra_values",
            "full_size_control_images",
            "guidance_type",
            "num_controls_from_same_folder",
            "trim_auto_frame_count_tail",
        ),
        ignore("is only used with video, audio or control inputs", matters=False),
    ),
    **dict.fromkeys(
        (
            "cache_clip_vision_to_disk",
            "cache_tensors_to_disk",
            "debug",
            "fast_image_size",
            "load_image_when_caching_latents",
            "replay_transforms",
        ),
        ignore("it does not change training", matters=False),
    ),
    "alpha_mask": _masks,
    "batch_size": ignore("batch_size applies to all concepts"),
    "bucket_tolerance": lambda scope, value: took("_bucket_step", int(value)),
    "buckets": lambda scope, value: took("_aspect_ratio_bucketing", bool(value)),
    "cache_latents": _caching,
    "cache_latents_to_disk": _caching,
    "caption_dropout_rate": take("caption_dropout_rate", float),
    "caption_ext": _caption,
    "default_caption": take("default_caption", str),
    "dataset_path": take("path", str),
    "flip_x": take("enable_random_flip", bool),
    "folder_path": take("path", str),
    "invert_mask": ignore("masks are not inverted"),
    "is_reg": take("is_reg", bool),
    "keep_tokens": take("keep_tags_count", int),
    "loss_multiplier": take("loss_weight", float),
    "mask_min_value": _least,
    "mask_path": ignore(why.MASKS),
    "num_repeats": take("repeats", int),
    "random_crop": take("enable_crop_jitter", bool),
    "resolution": _resolution,
    "scale": ignore(why.AUGMENTATION, (1, 1.0)),
    "shuffle_augmentations": ignore(why.AUGMENTATION),
    "shuffle_tokens": take("enable_tag_shuffling", bool),
    "token_dropout_rate": take("tag_dropout_probability", float),
    "trigger_word": lambda scope, value: turned(
        "for all concepts", {"_trigger_word": str(value)}
    ),
    "type": ignore("images are the only data", ("image",)),
}
"""Rules of a dataset, which is a concept."""
