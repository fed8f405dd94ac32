"""Single-threaded computation for small matrices."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Generator[None, None, None]:
    """Limit torch to one thread, and restore the setting afterwards.

    A file needs hundreds of products with one side of size r, and the threads would be
    synchronized after each: on two busy cores that took ten times the CPU time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
