"""What tells a model family from the others before a weight is read."""

from __future__ import annotations

import dataclasses
import re

__all__ = ["FamilyFacts"]


@dataclasses.dataclass(frozen=True)
class FamilyFacts:
    """What finding and checking a base model needs to know of its family.

    A family's class holds it as ``facts``; there is no other list of families but the
    registry in ``families``.
    """

    name: str
    """Name in configurations and files."""

    label: str
    """Name in sentences."""

    pipeline: str
    """Regular expression that matches ``_class_name`` in ``model_index.json``."""

    parts: tuple[str, ...]
    """Parts that training needs, by the names of the diffusers layout."""

    def is_pipeline(self, kind: str) -> bool:
        """Tell whether a pipeline class is one of this family."""
        return re.match(self.pipeline, kind) is not None
