"""Context for single-threaded computation."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Generator[None, None, None]:
    """Limit torch to one thread inside a ``with`` block.

    With small matrices, threads are synchronized after each operation, which can take
    ten times the CPU time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
