"""Decoding of an image file to the tensor that is encoded for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .augmentation import Augmentation
from .image_crop import crop_image

__all__ = ["read_image"]


def read_image(path: Path, augmentation: Augmentation) -> Tensor:
    """Decode and crop an image file, see :func:`.image_crop.crop_image`.

    Args:
        path: image file.
        augmentation: augmentation for the size of the image.

    Returns:
        ``(3, height, width)`` float32 in [-1, 1].

    Raises:
        UnreadableImage: If the file is truncated, not an image, or does not have the
            expected size.
    """
    cut = crop_image(path, augmentation)
    pixels = torch.from_numpy(np.array(cut)).permute(2, 0, 1)
    return pixels.float().div(127.5).sub(1.0).contiguous()
