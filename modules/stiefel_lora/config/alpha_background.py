"""Background of transparent images."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["HIDDEN", "WHITE", "Background"]

WHITE = "#ffffff"
"""The default."""

HIDDEN = "none"
"""Use the colors that transparent areas have in the file."""

_COLOR = re.compile(r"#[0-9a-f]{6}")


def _checked(text: str) -> str:
    found = text.strip().lower()
    if found != HIDDEN and not _COLOR.fullmatch(found):
        problem = f"must be a color such as {WHITE}, or {HIDDEN!r}"
        raise PydanticCustomError("background", "{problem}", {"problem": problem})
    return found


Background = Annotated[str, AfterValidator(_checked)]
"""A color such as #ffffff, or ``HIDDEN``."""
