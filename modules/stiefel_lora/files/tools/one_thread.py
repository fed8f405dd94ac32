"""Small matrices on one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Generator[None, None, None]:
    """Let torch use one thread, and restore its number afterwards.

    A file has hundreds of products with an r x r side. Threads would wait for each
    other after each of them: on two busy cores that took ten times the CPU time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
