"""Join the packages on Unicode code points: one concept, its name, its images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from demo_parts import packages

STYLES = ("noto", "twemoji", "fluent")
VARIATION = 0xFE0F
SKIN = range(0x1F3FB, 0x1F400)
REGIONAL = range(0x1F1E6, 0x1F200)
TAGS = range(0xE0020, 0xE0080)
# Flag pictograms: chequered, triangular, crossed, black and white flag.
FLAGS = frozenset({0x1F3C1, 0x1F6A9, 0x1F38C, 0x1F3F4, 0x1F3F3})


@dataclass(frozen=True)
class Concept:
    """A named emoji and, for each style that draws it, the key of its image."""

    points: tuple[int, ...]
    name: str
    images: tuple[tuple[str, str], ...]

    @property
    def stem(self) -> str:
        """File stem such as `1f34e_red_apple`."""
        code = "-".join(f"{point:x}" for point in self.points)
        return f"{code}_{self.name.replace(' ', '_')}"

    @property
    def is_single(self) -> bool:
        """True if the emoji is one code point, ignoring variation selectors."""
        return len(self.points) == 1

    def image(self, style: str) -> str | None:
        """Key of the image in `style`, or None where the style lacks it."""
        return dict(self.images).get(style)


def load_concepts(folder: Path) -> list[Concept]:
    """All named concepts without skin tones and flags, in code-point order.

    Args:
        folder: where `packages.fetch` put the packages.
    """
    names = _names(packages.content(folder, packages.EMOJILIB))
    keys = {style: _image_keys(folder, style) for style in STYLES}
    found = []
    for points, name in sorted(names.items()):
        if _is_variant(points):
            continue
        images = tuple(
            (style, keys[style][points]) for style in STYLES if points in keys[style]
        )
        if images:
            found.append(Concept(points, name, images))
    return found


def shared_single_concepts(concepts: list[Concept]) -> list[Concept]:
    """Concepts of one code point that every style draws."""
    return [c for c in concepts if c.is_single and len(c.images) == len(STYLES)]


def _names(content: Path) -> dict[tuple[int, ...], str]:
    table = json.loads((content / "dist" / "emoji-en-US.json").read_text("utf-8"))
    return {
        _strip(ord(character) for character in emoji): clean_name(keywords[0])
        for emoji, keywords in table.items()
    }


def clean_name(text: str) -> str:
    """Lower-case ASCII words: `red_apple` becomes `red apple`."""
    kept = [c if c.isascii() and (c.isalnum() or c == "-") else " " for c in text]
    return " ".join("".join(kept).lower().split())


def _image_keys(folder: Path, style: str) -> dict[tuple[int, ...], str]:
    """Map code points to the icon name (noto) or the file stem (others)."""
    if style == "noto":
        path = packages.content(folder, packages.NOTO) / "chars.json"
        return {
            _parse(code): icon
            for code, icon in json.loads(path.read_text("utf-8")).items()
        }
    if style == "twemoji":
        images = packages.content(folder, packages.TWEMOJI) / "dist" / "svg"
        return {_parse(p.stem): p.stem for p in sorted(images.glob("*.svg"))}
    images = packages.content(folder, packages.FLUENT) / "assets"
    return {_parse(p.stem): p.stem for p in sorted(images.glob("*.webp"))}


def _parse(code: str) -> tuple[int, ...]:
    return _strip(int(part, 16) for part in code.split("-"))


def _strip(points: Iterable[int]) -> tuple[int, ...]:
    """Drop the variation selector: packages disagree on when to write it."""
    return tuple(point for point in points if point != VARIATION)


def _is_variant(points: tuple[int, ...]) -> bool:
    return any(p in SKIN or p in REGIONAL or p in TAGS or p in FLAGS for p in points)
