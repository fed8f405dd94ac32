"""Lazy import of bitsandbytes.

diffusers and peft import bitsandbytes if it is installed. This takes more than a
second, even if no layer is quantized, because bitsandbytes loads the compiler of torch.
A placeholder module imports the package when one of its attributes is used.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["postpone_bitsandbytes", "without_bitsandbytes"]

_NAME = "bitsandbytes"


class _StandIn(ModuleType):
    """Placeholder module that imports the package when an attribute is used."""

    def __getattr__(self, name: str) -> Any:
        # Import of a submodule asks for __path__. Other special names are those that
        # tools look for in every module, such as __warningregistry__.
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)


def postpone_bitsandbytes() -> None:
    """Replace bitsandbytes by a placeholder unless it is already imported."""
    if _NAME in sys.modules:
        return
    spec = importlib.util.find_spec(_NAME)
    if spec is None:
        return
    module = _StandIn(_NAME)
    # Code that only checks whether the package is installed needs no import.
    module.__spec__, module.__file__ = spec, spec.origin
    sys.modules[_NAME] = module


@contextlib.contextmanager
def without_bitsandbytes() -> Iterator[None]:
    """Hide bitsandbytes from peft unless it is already imported.

    peft uses the layer classes of bitsandbytes for every adapter. A model can only
    contain such layers if bitsandbytes is already imported.
    """
    before = sys.modules.get(_NAME)
    if before is not None and not isinstance(before, _StandIn):
        yield
        return
    # None makes find_spec find nothing, and an import an ImportError.
    sys.modules[_NAME] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_NAME]
        if before is not None:
            sys.modules[_NAME] = before
        _forget()


def _forget() -> None:
    """Clear the caches of peft, because a later model may be quantized."""
    found = sys.modules.get("peft.import_utils")
    for name in ("is_bnb_available", "is_bnb_4bit_available"):
        forget = getattr(getattr(found, name, None), "cache_clear", None)
        if forget is not None:
            forget()
