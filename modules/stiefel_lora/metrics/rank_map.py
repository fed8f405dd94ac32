"""Heat map of effective ranks: one row per block, one column per measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .tags import split_section

__all__ = ["heat_map"]

# Viridis at nine points (matplotlib, CC0): dark is low, bright is high.
_COLORS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ],
    dtype=np.float64,
)
_ROW_LIMITS = (1, 12)
_WIDTH = 640
_HEIGHT = 720
_LABELS = 130


def heat_map(
    names: Sequence[str], columns: Sequence[Sequence[float]], steps: Sequence[int]
) -> Image.Image:
    """Draw a heat map of effective rank / rank of all blocks over time.

    Args:
        names: names of the blocks, in the order of the model.
        columns: for each measurement, one value in [0, 1] per block. NaN is drawn
            white.
        steps: training step of each measurement.
    """
    given = np.asarray(columns, dtype=np.float64).T
    values = np.clip(np.nan_to_num(given), 0.0, 1.0)
    row = int(np.clip(_HEIGHT // len(names), *_ROW_LIMITS))
    place = values * (len(_COLORS) - 1)
    channels = [
        np.interp(place, np.arange(len(_COLORS)), _COLORS[:, c]) for c in range(3)
    ]
    colors = np.stack(channels, axis=-1).round().astype(np.uint8)
    colors[np.isnan(given)] = 255
    body = Image.fromarray(colors).resize(
        (_WIDTH, row * len(names)), Image.Resampling.NEAREST
    )
    sheet = Image.new("RGB", (_LABELS + _WIDTH, body.height + 36), "white")
    sheet.paste(body, (_LABELS, 18))
    _write_labels(ImageDraw.Draw(sheet), names, row, steps, body.height)
    return sheet


def _write_labels(
    draw: ImageDraw.ImageDraw,
    names: Sequence[str],
    row: int,
    steps: Sequence[int],
    height: int,
) -> None:
    font = ImageFont.load_default(12)
    title = "effective rank / rank: dark 0, bright 1"
    draw.text((_LABELS, 2), title, fill="black", font=font)
    below = 20 + height
    draw.text((_LABELS, below), f"step {steps[0]}", fill="black", font=font)
    right = f"step {steps[-1]}"
    draw.text((_LABELS + _WIDTH, below), right, fill="black", font=font, anchor="ra")
    last, free = "", 0
    for index, name in enumerate(names):
        section, _ = split_section(name)
        y = 18 + index * row
        if section != last and y >= free:
            draw.line((_LABELS - 6, y, _LABELS - 1, y), fill="black")
            draw.text((4, y), section, fill="black", font=font)
            free = y + 14
        last = section
