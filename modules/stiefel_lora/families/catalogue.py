"""Model families by name. This module does not import torch.

A family consists of a member of ``ModelType`` and a module
``families/<name>_record.py`` with a ``RECORD``, which refers to all other modules.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from .record import FamilyRecord

__all__ = [
    "DEFAULT",
    "ModelType",
    "adding",
    "family_names",
    "listed",
    "record_of",
    "records",
]

ModelType = Literal["sdxl", "sd15", "flux"]
DEFAULT: ModelType = "sdxl"
"""Default model family."""

_added: dict[str, FamilyRecord] = {}


def family_names() -> tuple[str, ...]:
    """Return the names of all families, in a fixed order."""
    return (*get_args(ModelType), *_added)


def record_of(name: str) -> FamilyRecord:
    """Return the record of a family.

    Raises:
        KeyError: If the family does not exist.
    """
    if name in _added:
        return _added[name]
    if name not in get_args(ModelType):
        raise KeyError(name)
    module = importlib.import_module(f"{__package__}.{name}_record")
    record: FamilyRecord = module.RECORD
    return record


def records() -> list[FamilyRecord]:
    """Return the records of all families."""
    return [record_of(name) for name in family_names()]


def listed(names: Iterable[str], word: str = "or") -> str:
    """Join names for a message, such as ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


@contextlib.contextmanager
def adding(record: FamilyRecord) -> Iterator[None]:
    """Add a family inside a ``with`` block, to test its record."""
    _added[record.name] = record
    try:
        yield
    finally:
        del _added[record.name]
