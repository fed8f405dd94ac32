"""Hosts that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from onetrainer_stand_in import patched_host


@pytest.fixture(scope="module")
def host() -> Iterator[Any]:
    yield from patched_host()
