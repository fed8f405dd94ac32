"""Paths that libraries can open although a name on the way is not UTF-8."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

__all__ = ["utf8_path"]


@contextlib.contextmanager
def utf8_path(path: str | os.PathLike[str]) -> Generator[Path, None, None]:
    """Yield the path, or a temporary link to it if it is not UTF-8.

    Safetensors only opens paths that are UTF-8.
    """
    path = Path(path)
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "link.safetensors")
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path
