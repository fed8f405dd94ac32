"""Model families with a common interface.

Classes are imported when they are first used, because the records of families
(``families.catalogue``) are also used without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .catalogue import ModelType, family_names, record_of, records
from .record import FamilyRecord, LoraFileFacts

if TYPE_CHECKING:
    from .opening import check_model, open_family
    from .protocol import Batch, Family, Prediction, SampleRequest

__all__ = [
    "Batch",
    "Family",
    "FamilyRecord",
    "LoraFileFacts",
    "ModelType",
    "Prediction",
    "SampleRequest",
    "check_model",
    "family_names",
    "open_family",
    "record_of",
    "records",
]

_HOME = {
    "Batch": "protocol",
    "Family": "protocol",
    "Prediction": "protocol",
    "SampleRequest": "protocol",
    "check_model": "opening",
    "open_family": "opening",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
