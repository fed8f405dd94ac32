"""No module imports itself through others, imports for annotations included."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

MODULES = Path(__file__).resolve().parents[1] / "modules"


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ``known`` that ``path`` imports anywhere, relative ones resolved."""
    package = [*path.relative_to(MODULES).with_suffix("").parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        up = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*up, *(node.module or "").split(".")]).strip(".")
        for alias in node.names:
            inside = f"{base}.{alias.name}"
            found |= {inside if inside in known else base} & known.keys()
    return found


@pytest.mark.parametrize("package", ["config", "ui"])
def test_a_package_has_no_circles(package: str) -> None:
    known = {
        ".".join(path.relative_to(MODULES).with_suffix("").parts): path
        for path in (MODULES / "stiefel_lora" / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert len(known) > 20
    graph = {name: imports_of(path, known) for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(known)
    # Raises CycleError, which names the modules of a circle.
    assert len([*graphlib.TopologicalSorter(graph).static_order()]) == len(known)
