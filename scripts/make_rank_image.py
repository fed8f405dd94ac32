"""Draw the effective rank of every block of two runs beside each other.

    python scripts/make_rank_image.py RUN RUN --titles AdamW "Stiefel LoRA"
        --output docs/images/rank_comparison.png

The image of the README shows runs of the study, which are trained and drawn with:

    python benchmarks/study ranks --output docs/images/rank_comparison.png

Both heat maps have the same scale, from 0 to the rank of the LoRA, as in the GUI.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyqtgraph
from PIL import Image, ImageDraw, ImageFont

from stiefel_lora.ui.controllers.rank_table import RankTable
from stiefel_lora.ui.controllers.run_record import RunRecord

# Pixels.
WIDTH, HEIGHT = 400, 320
LEFT, TOP, GAP, BAR = 118, 58, 30, 14
RIGHT, BELOW = 74, 48
INK, PAPER = (31, 41, 51), (255, 255, 255)


def main() -> int:
    """Read both runs and write the image."""
    arguments = _parse()
    try:
        draw(arguments.runs, arguments.titles, arguments.output)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def draw(runs: Sequence[Path], names: Sequence[str], target: Path) -> None:
    """Draw the heat maps of two run folders beside each other.

    Raises:
        ValueError: If the runs have different blocks or ranks.
    """
    tables = [_table(run) for run in runs]
    first, second = tables
    if first.blocks != second.blocks or first.rank != second.rank:
        raise ValueError("The runs have different blocks or ranks.")
    means = [float(table.shares[-1].mean()) / 255 * table.rank for table in tables]
    titles = [
        f"{name}: effective rank {mean:.0f} of {first.rank:.0f}"
        for name, mean in zip(names, means, strict=True)
    ]
    _page(tables, titles).save(target, optimize=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--titles", nargs=2, required=True, metavar="TEXT")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def _table(run: Path) -> RankTable:
    record = RunRecord(run)
    while record.look():
        pass
    return record.ranks


def _page(tables: list[RankTable], titles: list[str]) -> Image.Image:
    colors = pyqtgraph.colormap.get("viridis").getLookupTable(0.0, 1.0, 256)
    width = LEFT + 2 * WIDTH + 2 * GAP + BAR + RIGHT
    page = Image.new("RGB", (width, TOP + HEIGHT + BELOW), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for number, (table, title) in enumerate(zip(tables, titles, strict=True)):
        left = LEFT + number * (WIDTH + GAP)
        # Columns are measurements, rows blocks.
        image = Image.fromarray(colors[table.shares.T].astype(np.uint8))
        page.paste(image.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST), (left, TOP))
        pen.text((left, TOP - 26), title, INK, ImageFont.load_default(size=16))
        pen.text((left, TOP + HEIGHT + 6), f"step {table.steps[0]}", INK, font)
        end = left + WIDTH
        pen.text((end, TOP + HEIGHT + 6), f"{table.steps[-1]}", INK, font, anchor="ra")
    for row, name in tables[0].sections():
        top = TOP + HEIGHT * row / len(tables[0].blocks)
        pen.line((LEFT - 6, top, LEFT - 1, top), INK)
        pen.text((LEFT - 10, top), name, INK, font, anchor="ra")
    heading = "Effective rank of every LoRA block during training"
    pen.text((LEFT, 6), heading, INK, ImageFont.load_default(size=18))
    _bar(page, pen, colors, tables[0].rank)
    return page


def _bar(
    page: Image.Image, pen: ImageDraw.ImageDraw, colors: np.ndarray, rank: float
) -> None:
    """Draw the color bar, from 0 at the bottom to the rank."""
    left, font = LEFT + 2 * WIDTH + 2 * GAP, ImageFont.load_default(size=13)
    image = Image.fromarray(colors[255 - np.arange(256)][:, None].astype(np.uint8))
    page.paste(image.resize((BAR, HEIGHT)), (left, TOP))
    for part in range(5):
        middle = TOP + HEIGHT * (1 - part / 4)
        text = f"{rank * part / 4:g}"
        pen.text((left + BAR + 6, middle), text, INK, font, anchor="lm")


if __name__ == "__main__":
    sys.exit(main())
