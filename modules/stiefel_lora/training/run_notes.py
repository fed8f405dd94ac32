"""What the LoRA file of a run says of its settings and pictures to other programs."""

from __future__ import annotations

import collections
from fractions import Fraction
from typing import TYPE_CHECKING

from ..data.balance import rates_of
from ..data.buckets import Size
from ..data.folder import Picture
from ..data.prepare import EncodedSet
from ..files import LearnedFolder, picture_metadata

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["run_notes"]

# Words of accelerate, which sd-scripts writes.
_MIXED = {"float32": "no", "float16": "fp16", "bfloat16": "bf16"}


def run_notes(config: TrainConfig, pictures: EncodedSet) -> dict[str, object]:
    """Entries by the names that sd-scripts gives them, for ``training_metadata``."""
    return {**_settings(config), **_pictures(pictures)}


def _settings(config: TrainConfig) -> dict[str, object]:
    """Truth values are spelled as Python does, which readers of sd-scripts expect."""
    rates = list(config.text_encoder_rates.values())
    asked = {
        "ss_noise_offset": config.offset_noise_weight,
        "ss_min_snr_gamma": (
            config.loss_weight_fn == "min_snr_gamma" and config.loss_weight_strength
        ),
        "ss_text_encoder_lr": rates[0] if len(rates) == 1 else rates,
    }
    return {
        "ss_seed": config.seed,
        "ss_max_train_steps": config.steps,
        "ss_batch_size_per_device": config.batch_size,
        "ss_total_batch_size": config.batch_size * config.gradient_accumulation_steps,
        "ss_gradient_accumulation_steps": config.gradient_accumulation_steps,
        "ss_gradient_checkpointing": str(config.gradient_checkpointing),
        "ss_mixed_precision": _MIXED[config.train_dtype],
        "ss_lr_scheduler": config.learning_rate_scheduler,
        "ss_lr_warmup_steps": config.learning_rate_warmup_steps,
        "ss_max_grad_norm": config.clip_grad_norm,
        "ss_enable_bucket": str(config.aspect_ratio_bucketing),
        "ss_bucket_no_upscale": str(not config.allow_upscaling),
        **{key: value for key, value in asked.items() if value},
    }


def _pictures(pictures: EncodedSet) -> dict[str, object]:
    rates = rates_of(pictures.pictures)
    buckets: dict[Size, float] = collections.defaultdict(float)
    concepts: dict[int, list[tuple[Picture, Fraction]]] = {}
    for picture, rate, size in zip(
        pictures.pictures, rates, pictures.sizes, strict=True
    ):
        buckets[size] += float(rate)
        concepts.setdefault(id(picture.concept), []).append((picture, rate))
    folders = [_folder(members) for members in concepts.values()]
    return picture_metadata(folders, buckets)


def _folder(members: list[tuple[Picture, Fraction]]) -> LearnedFolder:
    picture, rate = members[0]
    return LearnedFolder(
        name=picture.concept.path.name,
        captions=[picture.caption for picture, _ in members],
        repeats=float(rate),
        is_reg=picture.concept.is_reg,
        tag_delimiter=picture.concept.tag_delimiter,
    )
