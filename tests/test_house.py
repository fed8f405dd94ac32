"""The house rules: sizes, exports, direction of imports, no private text."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "modules" / "stiefel_lora"
SOURCES = sorted(
    path
    for folder in (PACKAGE, ROOT / "scripts", ROOT / "benchmarks")
    for path in folder.rglob("*.py")
)
PUBLIC = sorted(
    ".".join(("stiefel_lora", *path.parent.relative_to(PACKAGE).parts))
    for path in PACKAGE.rglob("__init__.py")
)
FILE_LINES, FUNCTION_LINES = 500, 60

# Stems of several files: the same thing in two layers, which people look for by name.
# A file in _commands is named after its verb, so none of them counts.
SHARED_STEMS = {
    "lora": "the layers of a LoRA, and the settings of them",
    "optimizer": "the setting, and its editor",
    "plan": "the images of an epoch, and the jobs of a batch",
    "plugins": "methods from outside, and the setting that names them",
    "spectrum": "singular values, and their plot",
    "stiefel": "the manifold, and the optimizer on it",
}

# What a package may not pull in, not even through a neighbour.
HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")
FORBIDDEN = {
    "stiefel_lora": HEAVY,
    "stiefel_lora.methods": (*HEAVY, "pydantic"),
    "stiefel_lora.config": HEAVY,
    "stiefel_lora.cli": HEAVY,
    "stiefel_lora.runs": (*HEAVY, "stiefel_lora.training"),
    "stiefel_lora.ui": (*HEAVY, "PySide6", "stiefel_lora.training"),
    "stiefel_lora.ui.controllers": (*HEAVY, "PySide6", "stiefel_lora.training"),
    "stiefel_lora.ui.web": (*HEAVY, "PySide6", "nicegui", "stiefel_lora.training"),
    "stiefel_lora.ui.web.server": (*HEAVY, "PySide6", "stiefel_lora.training"),
    "stiefel_lora.captioning": (*HEAVY, "onnxruntime", "stiefel_lora.training"),
    "stiefel_lora.jobs": (*HEAVY, "stiefel_lora.training"),
    "stiefel_lora.geometry": (*HEAVY[1:], "pydantic", "stiefel_lora.optim"),
    "stiefel_lora.optim": (*HEAVY[1:], "pydantic", "stiefel_lora.training"),
    "stiefel_lora.testing": (*HEAVY[1:], "pydantic", "pytest"),
    "stiefel_lora.metrics": (*HEAVY, "pydantic"),
    "stiefel_lora.metrics.tags": (*HEAVY, "pydantic"),
    "stiefel_lora.metrics.ranks": (*HEAVY[1:], "pydantic", "stiefel_lora.training"),
    "stiefel_lora.checkpoints": (
        "stiefel_lora.adapters",
        "stiefel_lora.families.protocol",
        "stiefel_lora.files",
        "stiefel_lora.training",
    ),
    "stiefel_lora.families": HEAVY,
    "stiefel_lora.families.sdxl_record": HEAVY,
    "stiefel_lora.families.flux_record": HEAVY,
    "stiefel_lora.families.opening": (
        "stiefel_lora.adapters",
        "stiefel_lora.files",
        "stiefel_lora.memory",
        "stiefel_lora.training",
    ),
    "stiefel_lora.files": (
        "diffusers",
        "transformers",
        "peft",
        "stiefel_lora.training",
    ),
}

# Written in pieces, so that this file does not contain what it searches for.
PRIVATE_TEXT = re.compile(
    "|".join(
        [
            "pypi" + r"\.org",
            "python" + r"hosted\.org",
            "download" + r"\.pytorch\.org",
            "npm" + r"js\.(org|com)",
            "deb" + r"ian\.org",
            r"(?<![\w.])/" + r"(work|root|home/(?!somebody)\w+)/",
            r"[A-Z]:\\+Users" + r"\\+(?!\\|somebody)",
        ]
    )
)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_file_is_too_long() -> None:
    long = {_name(p): _lines(p) for p in SOURCES if _lines(p) > FILE_LINES}
    assert not long, f"over {FILE_LINES} lines: split by idea"


def test_no_file_stem_stands_twice() -> None:
    files: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "__init__" and path.parent.name != "_commands":
            files.setdefault(path.stem, []).append(_name(path))
    shared = {stem: names for stem, names in files.items() if len(names) > 1}
    new = {stem: names for stem, names in shared.items() if stem not in SHARED_STEMS}
    assert not new, "rename one, so that its name is enough to find it"
    assert shared.keys() == SHARED_STEMS.keys(), "an exception that is not needed"


def test_no_function_is_too_long() -> None:
    long = {
        f"{_name(path)}:{node.lineno} {node.name}": _body_lines(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _body_lines(node) > FUNCTION_LINES
    }
    assert not long, f"over {FUNCTION_LINES} lines without docstring: split"


@pytest.mark.parametrize("package", PUBLIC)
def test_exported_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    assert not [name for name in exported if not hasattr(module, name)]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_downward(package: str) -> None:
    code = f"import sys, {package}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "modules",
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not loaded & set(FORBIDDEN[package]), f"{package} imports what it may not"


def test_tracked_text_names_no_host_of_a_registry_and_no_machine_path() -> None:
    found = [
        f"{_name(path)}:{number}: {line.strip()[:100]}"
        for path in _tracked_text_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if PRIVATE_TEXT.search(line)
    ]
    assert not found


def test_no_link_is_tracked() -> None:
    """Windows checks them out as text, and they point to a path of one machine."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage"], capture_output=True, check=True, cwd=ROOT
    )
    links = [line for line in listed.stdout.splitlines() if line.startswith(b"120000")]
    assert not links


def _tracked_text_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, check=True, cwd=ROOT
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and _is_text(path)]


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096)
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut in two at the end of the sample.
        return error.start > len(start) - 4 and b"\0" not in start
    return b"\0" not in start
