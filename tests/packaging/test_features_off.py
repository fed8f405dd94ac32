"""Switch each feature of docs/features.md off, and see its tests fail.

In a copy of the package whose files are links but for one, which helpers/features_off
changes. ``pytest tests/packaging/test_features_off.py -v -s -k min-SNR`` shows what
became of it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_features import OURS, PROOF, ROOT, rows

from helpers.features_off import OFF, Off
from helpers.forked import HUNG, run_forked
from helpers.mutations import mutated

PACKAGE = ROOT / "modules" / "stiefel_lora"
LONGEST = 300
"""Seconds; a test that hangs without the feature has failed as well."""


def linked(row: list[str]) -> set[str]:
    found = re.findall(r"\[`(\w+)`\]\(\.\./([^)]+)\)", row[PROOF])
    return {f"{file}::{name}" for name, file in found}


def unparametrized(test: str) -> str:
    return test.partition("[")[0]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_linked_test_has_a_way_to_fail(row: list[str]) -> None:
    ways = [off for off in OFF if off.feature == row[0]]
    tests = {unparametrized(test) for off in ways for test in off.tests}
    assert tests == linked(row)
    assert bool(tests) == (not row[OURS].startswith("no"))


def changed(off: Off) -> tuple[Path, str]:
    return mutated(PACKAGE.parent, f"{PACKAGE.name}.{off.function}", off.change)


@pytest.mark.parametrize("off", OFF, ids=lambda off: off.label)
def test_what_is_switched_off_is_there(off: Off) -> None:
    path, text = changed(off)
    assert text != ast.unparse(ast.parse(path.read_text("utf-8")))
    compile(text, str(path), "exec")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of links; one for all, so that Python compiles it once."""
    root = tmp_path_factory.mktemp("off")
    for path in PACKAGE.rglob("*"):
        inside = root / "modules" / path.relative_to(PACKAGE.parent)
        if path.is_file() and "__pycache__" not in path.parts:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.symlink_to(path)
    (root / "training_presets").symlink_to(ROOT / "training_presets")
    return root


@contextmanager
def switched_off(off: Off, root: Path) -> Iterator[None]:
    source, text = changed(off)
    inside = root / "modules" / source.relative_to(PACKAGE.parent)
    inside.unlink()
    inside.write_text(text, "utf-8")
    try:
        yield
    finally:
        inside.unlink()
        inside.symlink_to(source)


def run_tests(off: Off, root: Path) -> str:
    modules = root / "modules"
    plain = ["-q", "-rfEs", "--tb=line", "-p", "no:cacheprovider"]
    paths = ["-o", f"pythonpath={modules} scripts tests", "--rootdir", str(ROOT)]
    tests = [str(ROOT / test) for test in off.tests]
    return run_forked([*plain, *paths, *tests], modules, root / "log.txt", LONGEST)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("off", OFF, ids=lambda off: off.label)
def test_it_fails_without_the_feature(off: Off, copy: Path) -> None:
    with switched_off(off, copy):
        output = run_tests(off, copy)
    skipped = re.search(r"^SKIPPED \[\d+\] [^ ]+ (.+)$", output, re.MULTILINE)
    if skipped:
        pytest.skip(skipped[1])
    for test in off.tests:
        fate = rf"^(FAILED|ERROR) {re.escape(test)}.*$"
        found = re.search(fate, output, re.MULTILINE)
        hung = output.endswith(HUNG)
        assert found or hung, output
        print(f"\n{off.label}: {off.change}\n  {found[0] if found else 'hung'}")
