"""Write a page for each public package into docs/api before the site is built.

The names are those of ``__all__``, so that a page follows the package when code moves.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

__all__ = ["PACKAGES", "setup"]

PACKAGES = {
    "stiefel_lora": "Names that are imported from the package itself.",
    "stiefel_lora.optim": "Optimizers, pairs and initialization; needs only torch.",
    "stiefel_lora.geometry": "Batched operations on orthonormal and low-rank matrices.",
    "stiefel_lora.methods": "Catalogue of the optimizers and their options; no torch.",
    "stiefel_lora.testing": "Contract tests for optimizers from outside the package.",
    "stiefel_lora.files": "Reading, writing and changing LoRA files.",
    "stiefel_lora.config": "Configuration of a run: reading, validation, defaults.",
    "stiefel_lora.training": "Training of a configuration, and its results.",
    "stiefel_lora.jobs": "Batches and the queue.",
}


def write_pages(app: Sphinx) -> None:
    """Write the pages; files that are already equal keep their time stamps."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    pages = {name: list(page(name, text)) for name, text in PACKAGES.items()}
    pages["index"] = list(index())
    for name, lines in pages.items():
        content = "\n".join(lines) + "\n"
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")


def index() -> Iterator[str]:
    """Lines of the page that lists the packages."""
    yield from ("API reference", "=============", "")
    yield from (".. list-table::", "   :widths: 30 70", "")
    for name, text in PACKAGES.items():
        yield from (f"   * - :doc:`{name}`", f"     - {text}")
    yield from ("", ".. toctree::", "   :hidden:", "")
    yield from (f"   {name}" for name in PACKAGES)


def page(name: str, text: str) -> Iterator[str]:
    """Lines of the page of one package; the top package only links to the others."""
    package = importlib.import_module(name)
    yield from (name, "=" * len(name), "", text, "")
    yield from (f".. py:module:: {name}", "")
    if name == "stiefel_lora":
        yield from _links(package)
        return
    for exported in sorted(package.__all__, key=str.lower):
        yield from _entry(name, exported, getattr(package, exported))


def _links(package: Any) -> Iterator[str]:
    others = [importlib.import_module(name) for name in list(PACKAGES)[1:]]
    left = []
    for exported in sorted(package.__all__, key=str.lower):
        found = next((m.__name__ for m in others if exported in m.__all__), None)
        if found is None:
            left.append(exported)
        else:
            yield f"* :py:obj:`~{found}.{exported}` of :doc:`{found}`"
    yield ""
    for exported in left:
        yield from _entry(package.__name__, exported, getattr(package, exported))


def _entry(package: str, name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f".. autoclass:: {package}.{name}"
        yield from ("   :members:", "   :show-inheritance:", "")
    elif inspect.isroutine(value):
        yield from (f".. autofunction:: {package}.{name}", "")
    else:
        yield from (f".. py:data:: {package}.{name}", "")
        yield from (f"   {line}" for line in _text_below(package, name).splitlines())
        yield ""


def _text_below(package: str, name: str) -> str:
    """Return the string literal below the assignment of a constant."""
    folder = Path(inspect.getfile(importlib.import_module(package))).parent
    for path in sorted(folder.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for statement, below in itertools.pairwise(body):
            if (
                isinstance(statement, ast.Assign | ast.AnnAssign)
                and name in ast.unparse(statement).split("=")[0].split(":")[0].split()
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                return inspect.cleandoc(str(below.value.value))
    return ""


def escape_bars(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep docutils from reading the bars of ``|x|`` as a substitution."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[number] = "``".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when the builder starts."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True}
