"""Number of steps in an epoch, from the headers of the images."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from ..config.epochs import has_epochs, in_steps
from .balance import rates_of
from .buckets import buckets_of
from .folder_report import sizes_of
from .unreadable import check_some_readable

if TYPE_CHECKING:
    from ..config import TrainConfig
    from .folder import CaptionedImage, Scan

__all__ = ["images_per_epoch", "steps_per_epoch", "without_epochs"]


def without_epochs(config: TrainConfig, train: Scan) -> tuple[TrainConfig, str]:
    """Convert the epochs of a configuration to steps.

    Args:
        config: the configuration, which is returned unchanged if it has no epochs.
        train: training images. Without any, the epochs are kept.

    Returns:
        The configuration and one line about the conversion, or "".

    Raises:
        SettingsError: If the number of steps breaks a rule.
        DataError: If no image can be used.
    """
    # Only then: this reads the header of every image.
    if not has_epochs(config) or not train.images:
        return config, ""
    images = images_per_epoch(config, train.images)
    return in_steps(config, steps_per_epoch(config, images))


def images_per_epoch(config: TrainConfig, images: Sequence[CaptionedImage]) -> Fraction:
    """Return the average number of images in an epoch, repeats included.

    Images that cannot be used according to their headers do not count.

    Raises:
        DataError: If no image can be used.
    """
    sizes, broken = sizes_of(images, buckets_of(config))
    check_some_readable(
        len(images), [f"{path} ({reason})" for path, reason in broken.items()]
    )
    return Fraction(sum(rates_of([images[number] for number in sizes])))


def steps_per_epoch(config: TrainConfig, images: Fraction) -> Fraction:
    """Return the average number of optimizer steps in an epoch of ``images``.

    A fraction, because batches are always full: the remainder of a bucket comes first
    in its next epoch (``data.order``).
    """
    return images / (config.batch_size * config.gradient_accumulation_steps)
