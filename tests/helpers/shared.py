"""Folders that are made once for all processes of one run of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

__all__ = ["shared_folder"]


def shared_folder(
    request: pytest.FixtureRequest, name: str, build: Callable[[Path], object]
) -> Path:
    """Return a folder that the first process to need it has built.

    With pytest-xdist each process has a temporary folder of its own inside that of the
    run, where the shared one lies; without it, both are the same.

    Args:
        request: of the fixture, which has the scope of the session.
        name: one for each folder.
        build: writes the folder that it is given; it does not exist yet.
    """
    root = request.getfixturevalue("tmp_path_factory").getbasetemp()
    if hasattr(request.config, "workerinput"):
        root = root.parent
    folder = root / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            part = folder.with_name(f"{name}.part")
            build(part)
            # Only whole folders have the name: a builder that failed left a part.
            part.rename(folder)
    return folder
