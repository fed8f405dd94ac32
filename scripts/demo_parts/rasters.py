"""Turn the images of each style into 64-pixel RGB on white."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from demo_parts import packages
from demo_parts.concepts import STYLES, Concept

SIDE = 64
OVERSAMPLE = 128


def load_image(folder: Path, style: str, key: str) -> Image.Image:
    """One image as RGB on white, `SIDE` x `SIDE` pixels.

    Args:
        folder: where the packages are.
        style: `noto`, `twemoji` or `fluent`.
        key: the concept's image key in that style.
    """
    if style == "fluent":
        assets = packages.content(folder, packages.FLUENT) / "assets"
        return _on_white(Image.open(assets / f"{key}.webp"))
    return _on_white(_render(_svg(folder, style, key)))


def render_icon(body: str, side: int) -> Image.Image:
    """Content of an SVG of `side` x `side` units as RGB on white, `SIDE` pixels."""
    return _on_white(_render(_icon_svg(body, side)))


def load_rasters(
    folder: Path, cache: Path, concepts: list[Concept], style: str
) -> tuple[list[Concept], np.ndarray]:
    """All images of a style, cached on disk.

    Returns:
        The concepts that the style draws and a uint8 array
        (concept, SIDE, SIDE, 3) in the same order.
    """
    drawn = [c for c in concepts if c.image(style) is not None]
    path = cache / f"{style}.npy"
    if path.is_file():
        pixels = np.load(path)
        if len(pixels) == len(drawn):
            return drawn, pixels
    keys = [key for c in drawn if (key := c.image(style)) is not None]
    pixels = np.stack([np.asarray(load_image(folder, style, key)) for key in keys])
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels)
    return drawn, pixels


def load_all_rasters(
    folder: Path, cache: Path, concepts: list[Concept]
) -> dict[str, tuple[list[Concept], np.ndarray]]:
    """`load_rasters` for every style."""
    return {style: load_rasters(folder, cache, concepts, style) for style in STYLES}


def _render(svg: str) -> Image.Image:
    import resvg_py

    data = resvg_py.svg_to_bytes(
        svg_string=svg, width=OVERSAMPLE, height=OVERSAMPLE, skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(data)))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image).convert("RGB")
    return flat.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _svg(folder: Path, style: str, key: str) -> str:
    if style == "twemoji":
        images = packages.content(folder, packages.TWEMOJI) / "dist" / "svg"
        return (images / f"{key}.svg").read_text("utf-8")
    icons = _noto_icons(packages.content(folder, packages.NOTO))
    return _icon_svg(icons[key], 128)


def _icon_svg(body: str, side: int) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {side} {side}">'
        f"{body}</svg>"
    )


@lru_cache(maxsize=1)
def _noto_icons(content: Path) -> dict[str, str]:
    table = json.loads((content / "icons.json").read_text("utf-8"))["icons"]
    return {name: icon["body"] for name, icon in table.items()}
