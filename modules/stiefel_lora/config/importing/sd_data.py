"""Rules of sd-scripts for images, captions and buckets."""

from __future__ import annotations

import math
from typing import Any

from ..foreign import reasons as why
from .caption_prefixes import PREFIX
from .key_rules import (
    Result,
    Rule,
    Scope,
    ignore,
    left,
    not_for_flux,
    take,
    took,
    turned,
)

__all__ = ["DATASET", "DATASET_DEFAULTS", "FOLDERS", "SUBSET", "SUBSET_DEFAULTS"]

SUBSET_DEFAULTS = {"caption_extension": ".caption"}
DATASET_DEFAULTS = {
    "enable_bucket": False,
    "bucket_no_upscale": False,
    "max_bucket_reso": 1024,
}
_LOWEST_BUCKET = 256
_HIGHEST_RATIO = 16.0


def _extension(scope: Scope, value: Any) -> Result:
    found = str(value) if str(value).startswith(".") else f".{value}"
    sets = {"caption_extension": found}
    return took("caption_extension", found) if found == value else turned("", sets)


def _separator(key: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        if not value:
            return left("has no effect with this value", matters=False)
        return took(key, str(value))

    return rule


def _crop(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned("random crops inside the bucket", {"enable_crop_jitter": True})


def _alpha_mask(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    return turned(
        "masks are a setting of all concepts; black areas have no weight",
        {"_alpha_mask": True},
    )


def _prefix(scope: Scope, value: Any) -> Result:
    return turned("", {PREFIX: str(value)})


SUBSET: dict[str, Rule] = {
    "alpha_mask": _alpha_mask,
    "cache_info": ignore(why.CACHE),
    "caption_dropout_every_n_epochs": ignore(
        "captions are dropped at random, with caption_dropout_rate"
    ),
    "caption_dropout_rate": take("caption_dropout_rate", float),
    "caption_extension": _extension,
    "caption_extention": _extension,
    "caption_prefix": _prefix,
    "caption_separator": take("tag_delimiter", str),
    "caption_suffix": ignore(
        "captions are used without a suffix, so it belongs into the caption files"
    ),
    "caption_tag_dropout_rate": take("tag_dropout_probability", float),
    "class_tokens": take("default_caption", str),
    "color_aug": ignore(why.AUGMENTATION),
    "conditioning_data_dir": ignore(f"{why.MASKS}. Other control images are not used"),
    "custom_attributes": ignore("it does not affect training", matters=False),
    "dataset_repeats": take("repeats", int),
    "enable_wildcard": take("enable_wildcard", bool),
    "face_crop_aug_range": ignore(why.AUGMENTATION),
    "flip_aug": take("enable_random_flip", bool),
    "image_dir": take("path", str),
    "is_reg": take("is_reg", bool),
    "keep_tokens": take("keep_tags_count", int),
    "keep_tokens_separator": _separator("keep_tags_separator"),
    "metadata_file": ignore(
        "captions that are no text files are in metadata.jsonl of their folder, with "
        'lines such as {"file_name": "cat.jpg", "text": "a cat"}'
    ),
    "num_repeats": take("repeats", int),
    "random_crop": _crop,
    "resize_interpolation": ignore("images are resized by Lanczos", ("lanczos",)),
    "secondary_separator": _separator("secondary_separator"),
    "shuffle_caption": take("enable_tag_shuffling", bool),
    "token_warmup_min": ignore("is only used with token_warmup_step", matters=False),
    "token_warmup_step": ignore("all tags are used from the first step"),
}
"""Rules of a subset, which is a concept."""


def _resolution(scope: Scope, value: Any) -> Result:
    if isinstance(value, str):
        value = [float(part) for part in value.replace("x", ",").split(",")]
    sides = [float(side) for side in (value if isinstance(value, list) else [value])]
    if len(sides) == 1:
        return took("resolution", int(sides[0]))
    width, height = sides
    if width == height:
        return turned("the side of a square", {"resolution": int(width)})
    step = 16 if scope.family == "flux" else 8
    side = round(math.sqrt(width * height) / step) * step
    square = not scope.get("enable_bucket", False)
    note = "the side of a square with as many pixels"
    if square:
        note += "; without buckets, images are cropped to it"
    return turned(note, {"resolution": side}, matters=square)


def _upscaling(scope: Scope, value: Any) -> Result:
    return turned("the opposite", {"allow_upscaling": not value})


def _longest_bucket(scope: Scope, value: Any) -> Result:
    if not scope.get("enable_bucket", False):
        return left("there are no buckets", matters=False)
    if scope.get("bucket_no_upscale", False):
        return left("is not used with bucket_no_upscale", matters=False)
    side = _resolution(scope, scope.get("resolution", 512)).sets["resolution"]
    lowest = float(scope.get("min_bucket_reso", _LOWEST_BUCKET))
    ratio = min(round(max(float(value), side) / lowest, 4), _HIGHEST_RATIO)
    return turned(
        "max_bucket_reso / min_bucket_reso; all buckets here have about as many pixels "
        "as resolution",
        {"max_aspect_ratio": ratio},
    )


def _shortest_bucket(scope: Scope, value: Any) -> Result:
    return left("is part of max_bucket_reso", matters=False)


def _bucketing(scope: Scope, value: Any) -> Result:
    return took("aspect_ratio_bucketing", bool(value))


def _bucket_step(scope: Scope, value: Any) -> Result:
    if not scope.get("enable_bucket", False):
        return left("there are no buckets", matters=False)
    return took("bucket_step", int(value))


def _prior_weight(scope: Scope, value: Any) -> Result:
    if float(value) == 1:
        return left("1 is the default", matters=False)
    return turned(
        "the loss_weight of concepts with is_reg", {"_prior_loss_weight": value}
    )


def _split(scope: Scope, value: Any) -> Result:
    if not float(value):
        return left("has no effect with this value", matters=False)
    return took("validation_split", float(value))


DATASET: dict[str, Rule] = {
    "batch_size": take("batch_size", int),
    "bucket_no_upscale": _upscaling,
    "bucket_reso_steps": _bucket_step,
    "debug_dataset": ignore(why.LOGS),
    "enable_bucket": _bucketing,
    "max_bucket_reso": _longest_bucket,
    "max_token_length": not_for_flux(take("max_token_length", int)),
    "min_bucket_reso": _shortest_bucket,
    "network_multiplier": ignore(why.FACTORS, (1, 1.0)),
    "prior_loss_weight": _prior_weight,
    "resolution": _resolution,
    "train_batch_size": take("batch_size", int),
    "validation_seed": take("validation_seed", int),
    "validation_split": _split,
}
"""Rules of a dataset, whose settings apply to all concepts here."""


def _folder(scope: Scope, value: Any) -> Result:
    if scope.has("datasets"):
        return left("dataset_config is used instead", matters=False)
    return _numbered(scope, "concepts.0", str(value), "each subfolder")


def _reg_folder(scope: Scope, value: Any) -> Result:
    if scope.has("datasets"):
        return left("dataset_config is used instead", matters=False)
    what = "a concept with is_reg; each subfolder"
    return _numbered(scope, "concepts.1", str(value), what)


def _numbered(scope: Scope, concept: str, folder: str, what: str) -> Result:
    if scope.get("in_json"):
        return took(f"{concept}.path", folder)
    return turned(
        f"{what} with a name such as 10_cat is used with its repeats. It is looked for "
        "when the folder is read",
        {f"{concept}.path": folder, f"{concept}.subfolder_repeats": True},
    )


FOLDERS: dict[str, Rule] = {"reg_data_dir": _reg_folder, "train_data_dir": _folder}
"""Rules of folders on the command line."""
