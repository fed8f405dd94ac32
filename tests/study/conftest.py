"""Modules of the study, which are scripts beside each other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

MODULES = (
    *("demo_runs", "one_run", "stages", "tables", "stack", "strength", "samples"),
    *("tasks", "judge"),
)
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def study() -> Iterator[ModuleType]:
    """A namespace of the study's modules."""
    before = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(BENCHMARKS / "study"), str(BENCHMARKS)]
    namespace = ModuleType("study")
    for name in MODULES:
        setattr(namespace, name, importlib.import_module(name))
    sys.path[:] = before[0]
    yield namespace
    for name in set(sys.modules) - before[1]:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
