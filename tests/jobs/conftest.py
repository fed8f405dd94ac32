from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from helpers.fixtures import tiny_sdxl
from helpers.jobs import ready_config

__all__ = ["tiny_sdxl"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file that could train, but whose base model is an empty folder."""
    return ready_config(tmp_path)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A config file with a mistake that the schema finds."""
    path = ready_config(tmp_path, "broken")
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "lora_rnk": 4}), encoding="utf-8")
    return path
