"""Images of two methods beside each other and beside the drawing they should resemble.

    python benchmarks/study sheet --base sdxl --output sheet.png

Trains AdamW at rank 64 and Stiefel LoRA at rank 16 at the rates that the study chose,
and samples the first validation captions with seed 0. Nothing is chosen by its looks.
"""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path

from demo_runs import Rows
from PIL import Image, ImageDraw, ImageFont
from samples import sample
from stages import ADAMW, PRODUCT, Cell
from tasks import validation_drawings

__all__ = ["write_sheet"]

COUNT = 12
SIDE, MARGIN, HEADING = 96, 6, 110


def write_sheet(base: str, rows: Rows, target: Path, steps: int = 120) -> None:
    """Train both, and lay out base, AdamW, Stiefel LoRA and drawing as four rows.

    Raises:
        ValueError: a sweep whose best rate is not known yet.
    """
    drawings = validation_drawings()[:COUNT]
    captions = [
        path.with_suffix(".txt").read_text("utf-8").strip() for path in drawings
    ]
    cells = (
        Cell(base, ADAMW, 64, steps, "large"),
        Cell(base, PRODUCT, 16, steps, "large"),
    )
    found = [_samples(cell, rows, captions) for cell in cells]
    shown = [
        ("base model", found[0][0]),
        ("AdamW\nrank 64", found[0][1]),
        ("Stiefel LoRA\nrank 16", found[1][1]),
        ("drawing, never\ntrained on", [Image.open(path) for path in drawings]),
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    _page(captions, shown).save(target, optimize=True)


def _samples(
    cell: Cell, rows: Rows, captions: list[str]
) -> tuple[list[Image.Image], list[Image.Image]]:
    """Samples before and after training at the best rate, seed 1."""
    rate = cell.best(rows)
    if rate is None:
        raise ValueError(f"The sweep of {cell.method.label} is not complete.")
    run = cell.runs(rate)[0]
    with tempfile.TemporaryDirectory() as folder:
        made = sample(run, captions, Path(folder))
        before, after = (
            [
                Image.open(made / f"step-{step:06d}-{index}.png").convert("RGB")
                for index in range(len(captions))
            ]
            for step in (0, run.steps)
        )
    return before, after


def _page(
    captions: list[str], shown: list[tuple[str, list[Image.Image]]]
) -> Image.Image:
    width = HEADING + len(captions) * (SIDE + MARGIN)
    page = Image.new("RGB", (width, 40 + len(shown) * (SIDE + MARGIN)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for column, caption in enumerate(captions):
        left = HEADING + column * (SIDE + MARGIN)
        pen.multiline_text((left, 4), _wrapped(caption), "black", font)
        for row, (_, images) in enumerate(shown):
            image = images[column].convert("RGB").resize((SIDE, SIDE))
            page.paste(image, (left, 40 + row * (SIDE + MARGIN)))
    for row, (heading, _) in enumerate(shown):
        top = 40 + row * (SIDE + MARGIN) + SIDE // 2 - 12
        pen.multiline_text((4, top), heading, "black", font)
    return page


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 16, max_lines=2, placeholder=" ...")
