"""docs/features.md: each "yes" names tests, and the tests are there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "features.md"
OURS, PROOF = 1, -1


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@functools.cache
def functions_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_is_promised_is_tested(row: list[str]) -> None:
    proofs = re.findall(r"\[`(\w+)`\]\(([^)]+)\)", row[PROOF])
    assert row[OURS].split(":")[0] in ("yes", "partly", "no")
    assert bool(proofs) == (not row[OURS].startswith("no")), row[0]
    for name, file in proofs:
        assert name in functions_in((PAGE.parent / file).resolve()), (row[0], name)
