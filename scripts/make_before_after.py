"""Draw the README's comparison of prompts before and after training a style LoRA.

    python scripts/make_before_after.py --output docs/images/before_after.png

renders the 160 training concepts of the demo as Fluent Emoji High Contrast draws them
(Microsoft, MIT license; an npm package), trains the demo's SDXL model on them, and
shows the first validation prompts with seed 0, without the LoRA and with it. Nothing is
selected. Needs npm and resvg-py; the training takes a few minutes.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from demo_parts.packages import Package, content, fetch

ROOT = Path(__file__).resolve().parent.parent
PRESET = ROOT / "training_presets" / "SDXL" / "demo_stiefel_lora.json"
HIGH_CONTRAST = Package(
    "@iconify-json/fluent-emoji-high-contrast",
    "1.2.6",
    "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
)
COUNT, STEPS, SIDE, SHOWN = 10, 200, 64, 96
HEADING = 92


def main() -> int:
    """Render, train and lay out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=ROOT / "build" / "packages")
    arguments = parser.parse_args()
    fetch(arguments.packages, [HIGH_CONTRAST])
    drawings = _Drawings(content(arguments.packages, HIGH_CONTRAST))
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "train"
        _write(drawings, images)
        before, after = _samples(images, Path(folder))
    _page(_prompts(), before, after).save(arguments.output, optimize=True)
    return 0


class _Drawings:
    """Images of a package of iconify, by code point."""

    def __init__(self, package: Path) -> None:
        self._set = json.loads((package / "icons.json").read_text("utf-8"))
        self._names = json.loads((package / "chars.json").read_text("utf-8"))

    def find(self, code: str) -> Image.Image | None:
        """Draw an emoji in black on white; None if the package does not have it."""
        import resvg_py

        name = self._names.get(code) or self._names.get(f"{code}-fe0f")
        if name is None:
            return None
        while name in self._set.get("aliases", {}):
            name = self._set["aliases"][name]["parent"]
        icon = self._set["icons"][name]
        width, height = (
            icon.get(key, self._set.get(key, 16)) for key in ("width", "height")
        )
        drawn = icon["body"].replace("currentColor", "black")
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {width} {height}">{drawn}</svg>'
        )
        data = resvg_py.svg_to_bytes(
            svg_string=svg, width=128, height=128, skip_system_fonts=True
        )
        image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        flat = Image.alpha_composite(white, image).convert("RGB")
        return flat.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _write(drawings: _Drawings, folder: Path) -> None:
    """Write the training concepts of the demo in the new style, with their captions."""
    folder.mkdir()
    for path in sorted(_demo()[0].glob("*.png")):
        image = drawings.find(path.stem.partition("_")[0])
        if image is not None:
            image.save(folder / path.name)
            caption = path.with_suffix(".txt").read_text("utf-8")
            (folder / f"{path.stem}.txt").write_text(caption, "utf-8")


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
