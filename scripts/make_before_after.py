"""Draw the README's comparison of prompts before and after training a style LoRA.

    python scripts/make_before_after.py --output docs/images/before_after.png

turns the 160 training concepts of the demo, as Noto draws them (Google, Apache 2.0; an
npm package), into pencil sketches, trains the demo's SDXL model on them, and shows the
first validation prompts with seed 0, without the LoRA and with it. Nothing is selected.
Needs npm and resvg-py; the training takes a few minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from demo_parts.concepts import load_concepts
from demo_parts.packages import fetch
from demo_parts.rasters import load_image

ROOT = Path(__file__).resolve().parent.parent
PRESET = ROOT / "training_presets" / "SDXL" / "demo_stiefel_lora.json"
COUNT, STEPS, RATE, SHOWN = 10, 200, 0.01, 96
HEADING = 92
# Radius of the blur in pixels, and factor of the darkness of lines.
BLUR, DARKNESS = 2.0, 1.6


def main() -> int:
    """Render, train and lay out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=ROOT / "build" / "packages")
    arguments = parser.parse_args()
    fetch(arguments.packages)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "train"
        _write(arguments.packages, images)
        before, after = _samples(images, Path(folder))
    _page(_prompts(), before, after).save(arguments.output, optimize=True)
    return 0


def _write(packages: Path, folder: Path) -> None:
    """Write sketches of the training concepts of the demo, with their captions."""
    folder.mkdir()
    keys = {c.stem: c.image("noto") for c in load_concepts(packages)}
    for path in sorted(_demo()[0].glob("*.png")):
        key = keys.get(path.stem)
        if key is not None:
            _sketch(load_image(packages, "noto", key)).save(folder / path.name)
            caption = path.with_suffix(".txt").read_text("utf-8")
            (folder / f"{path.stem}.txt").write_text(caption, "utf-8")


def _sketch(image: Image.Image) -> Image.Image:
    """Turn an image into a pencil sketch: its gray values divided by blurred ones."""
    gray = image.convert("L")
    blurred = np.asarray(gray.filter(ImageFilter.GaussianBlur(BLUR)), np.float32)
    lines = np.asarray(gray, np.float32) * 255 / np.maximum(blurred, 1)
    dark = np.clip(DARKNESS * (255 - lines), 0, 255)
    return Image.fromarray((255 - dark).astype(np.uint8)).convert("RGB")


def _prompts() -> list[str]:
    """Return the first validation captions of the demo, in code-point order."""
    paths = sorted(_demo()[1].glob("*.txt"))[:COUNT]
    return [path.read_text("utf-8").strip() for path in paths]


def _demo() -> tuple[Path, Path]:
    """Return the folders of the demo's training and validation images."""
    from stiefel_lora.config import load_config

    config = load_config(PRESET)
    return config.concepts[0].path, config.validation_concepts[0].path


def _samples(images: Path, folder: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    from stiefel_lora.config import load_config
    from stiefel_lora.training import train

    samples = [{"prompt": text, "steps": 25, "guidance": 2} for text in _prompts()]
    settings: dict[str, Any] = {
        "concepts": [{"path": str(images)}],
        "output_dir": str(folder / "runs"),
        "run_name": "style",
        "steps": STEPS,
        "learning_rate": RATE,
        "samples": samples,
        "sample_every": STEPS,
        "validate_every": 0,
        "checkpoint_every": 0,
    }
    changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    made = train(load_config(PRESET, changes)).run_dir / "samples"
    before, after = (
        [
            Image.open(made / f"step-{step:06d}-{number}.png").convert("RGB")
            for number in range(COUNT)
        ]
        for step in (0, STEPS)
    )
    return before, after


def _page(
    prompts: list[str], before: list[Image.Image], after: list[Image.Image]
) -> Image.Image:
    step, top = SHOWN + 6, 22
    page = Image.new("RGB", (HEADING + COUNT * step, top + 2 * step), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=12)
    for row, (heading, images) in enumerate((("base", before), ("LoRA", after))):
        middle = top + row * step + SHOWN // 2
        pen.text((8, middle), heading, "black", ImageFont.load_default(size=16), "lm")
        for column, image in enumerate(images):
            place = (HEADING + column * step, top + row * step)
            page.paste(image.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC), place)
    for column, prompt in enumerate(prompts):
        shown = prompt if len(prompt) <= 15 else f"{prompt[:13]}..."
        pen.text((HEADING + column * step + 2, 4), shown, "black", font)
    return page


if __name__ == "__main__":
    sys.exit(main())
