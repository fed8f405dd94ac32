"""Draw captioned images with the stock pipeline, seed 0 each, nothing chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image, ImageDraw, ImageFont

from demo_parts.captions import BASE_STYLES, caption_of
from demo_parts.concepts import Concept
from demo_parts.image_set import choose

COUNT, COLUMNS = 24, 12
STEPS, GUIDANCE, SEED = 20, 2.0, 0
SIDE, CELL, LABEL = 64, 84, 26


def sheet_concepts(concepts: list[Concept], seed: int) -> list[Concept]:
    """The first validation concepts in code-point order."""
    return choose(concepts, seed)["validation"][:COUNT]


def preview_prompts(concepts: list[Concept], seed: int) -> list[str]:
    """A row of 12 prompts a style."""
    shown = sheet_concepts(concepts, seed)[:COLUMNS]
    return [caption_of(style, concept) for style in BASE_STYLES for concept in shown]


def draw(
    pipeline: Any,
    prompts: list[str],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    **settings: Any,
) -> list[Image.Image]:
    """One 64-pixel image a prompt; every one starts from the same noise.

    Args:
        pipeline: the stock SDXL or FLUX pipeline.
        prompts: the captions.
        steps: of the sampler.
        guidance: guidance scale.
        **settings: what else this pipeline takes.
    """
    pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = []
    for start in range(0, len(prompts), COLUMNS):
        part = prompts[start : start + COLUMNS]
        result = pipeline(
            part,
            height=SIDE,
            width=SIDE,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(SEED) for _ in part],
            **settings,
        )
        images += result.images
    return images


def lay_out(rows: list[list[tuple[str, Image.Image]]]) -> Image.Image:
    """A white page with one row of captioned images after the other."""
    width = max(len(row) for row in rows) * CELL
    page = Image.new("RGB", (width, len(rows) * (SIDE + LABEL)), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=9)
    for row_number, row in enumerate(rows):
        for column, (label, image) in enumerate(row):
            left, top = column * CELL, row_number * (SIDE + LABEL)
            page.paste(image, (left + (CELL - SIDE) // 2, top))
            text = "\n".join(_wrap(label))
            pen.multiline_text((left + 2, top + SIDE), text, "black", font, spacing=1)
    return page


def write_sheet(
    pipeline_name: str,
    model_folder: Path,
    concepts: list[Concept],
    target: Path,
    **settings: Any,
) -> None:
    """Draw the sheet from the saved pipeline.

    Args:
        pipeline_name: diffusers' class that loads it.
        model_folder: its folder.
        concepts: what to draw.
        target: the image file.
        **settings: of the call, see `draw`.

    Raises:
        ValueError: if `model_folder` holds no pipeline.
    """
    if not (model_folder / "model_index.json").is_file():
        raise ValueError(
            f"{model_folder} holds no model_index.json. Run `make_demo.py pack` or "
            "`flux-pack` first."
        )
    pipeline_class = getattr(diffusers, pipeline_name)
    pipeline = pipeline_class.from_pretrained(model_folder, torch_dtype=torch.float32)
    prompts = [caption_of(style, c) for style in BASE_STYLES for c in concepts]
    images = draw(pipeline, prompts, **settings)
    captioned = list(zip(prompts, images, strict=True))
    rows = [captioned[i : i + COLUMNS] for i in range(0, len(captioned), COLUMNS)]
    target.parent.mkdir(parents=True, exist_ok=True)
    lay_out(rows).save(target, optimize=True)
    print(f"sheet: {target}, {target.stat().st_size} bytes")


def _wrap(label: str, width: int = 16) -> list[str]:
    """At most two lines of about `width` characters."""
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:2]
