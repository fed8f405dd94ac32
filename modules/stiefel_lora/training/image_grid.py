"""Grid of images with headings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["image_grid"]

_MARGIN = 8
# Small images (those of the demo have 64 px) are enlarged to make room for captions.
_SHOWN_SIDE = 160


def image_grid(
    columns: Sequence[str], rows: Sequence[str], images: Sequence[Sequence[Image.Image]]
) -> Image.Image:
    """Create an image with rows of images, with headings on the left and on top.

    Args:
        columns: headings of the columns, for example prompts.
        rows: headings of the rows.
        images: images by row and column.
    """
    first = images[0]
    scale = max(1, -(-_SHOWN_SIDE // max(image.width for image in first)))
    sizes = [(p.width * scale, p.height * scale) for p in first]
    font = ImageFont.load_default(13)
    letter = font.getlength("n")
    wrapped = [
        textwrap.fill(caption, max(6, int(width / letter)), max_lines=3)
        for caption, (width, _) in zip(columns, sizes, strict=True)
    ]
    left = int(max(font.getlength(heading) for heading in rows)) + 2 * _MARGIN
    top = 3 * 17 + _MARGIN
    height = max(height for _, height in sizes)
    sheet = Image.new(
        "RGB",
        (
            left + sum(width + _MARGIN for width, _ in sizes),
            top + len(rows) * (height + _MARGIN),
        ),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for row, heading in enumerate(rows):
        middle = top + row * (height + _MARGIN) + height // 2
        draw.text((_MARGIN, middle), heading, fill="black", font=font, anchor="lm")
    x = left
    for column, (caption, size) in enumerate(zip(wrapped, sizes, strict=True)):
        draw.multiline_text((x, _MARGIN // 2), caption, fill="black", font=font)
        for row, line in enumerate(images):
            shown = line[column].resize(size, Image.Resampling.NEAREST)
            sheet.paste(shown, (x, top + row * (height + _MARGIN)))
        x += size[0] + _MARGIN
    return sheet
