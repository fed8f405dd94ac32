"""The effective ranks in the description of the README's image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("AdamW", "Stiefel LoRA")


@pytest.mark.parametrize("page", ["README.md", "docs/gallery.md"])
def test_the_ranks_beside_the_image_are_those_of_the_evidence(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    found = re.search(
        r"at rank 64: (\d+) with AdamW, (\d+) with Stiefel LoRA.*rank_comparison", text
    )
    assert found
    evidence = (ROOT / "docs" / "evidence.md").read_text("utf-8").splitlines()
    for method, shown in zip(METHODS, found.groups(), strict=True):
        start = f"| large | sdxl | 64 | 120 | {method} |"
        row = next(line for line in evidence if line.startswith(start))
        assert round(float(row.strip("| ").split("|")[-1])) == int(shown)
