"""Fixtures that several test folders import in their conftest."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny_sdxl import build_tiny_sdxl

__all__ = ["tiny_sdxl"]


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random SDXL, one for the whole session; do not change it."""
    return build_tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny_sdxl")
