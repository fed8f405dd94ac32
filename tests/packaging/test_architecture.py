"""docs/architecture.md: files and functions exist, layers match the house test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import test_house

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "modules" / "stiefel_lora"
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
LAYERS, _, PATHS = TEXT.partition("## A training step")


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [row for row in cells if "`" in "".join(row)]


def names_in(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = [m for m in node.body if isinstance(m, ast.FunctionDef)]
            names |= {f"{node.name}.{member.name}" for member in members}
    return names


@pytest.mark.parametrize("row", rows(PATHS), ids=lambda row: row[0][:40])
def test_a_step_of_a_path_is_where_the_page_has_it(row: list[str]) -> None:
    path = PACKAGE / row[1].strip("`")
    assert path.exists(), f"docs/architecture.md: {path} has moved"
    functions = re.findall(r"`([^`]+)`", row[2]) if len(row) > 2 else []
    assert not set(functions) - (names_in(path) if functions else set())


def test_every_package_is_a_layer() -> None:
    named = set(re.findall(r"`(\w+)/`", LAYERS))
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert named - {"controllers", "views", "web"} == folders - {"demo"}


def test_packages_without_torch_are_those_of_the_house_test() -> None:
    restrictions = {row[0]: row[-1] for row in rows(LAYERS)}
    for package, forbidden in test_house.FORBIDDEN.items():
        name = package.removeprefix("stiefel_lora").removeprefix(".")
        if not name or "." in name:
            continue
        (cell,) = [
            text
            for key, text in restrictions.items()
            if f"`{name}/`" in key or f"`{name}.py`" in key
        ]
        assert ("no torch" in cell) == ("torch" in forbidden), name
