"""torch.compile for the blocks of a denoiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .._exceptions import ConfigError

__all__ = ["check_compiler", "compile_blocks"]


def check_compiler(device: torch.device) -> None:
    """Refuse to compile where there is nothing to compile with.

    Raises:
        ConfigError: no C++ compiler for a CPU, no Triton for a card.
    """
    if device.type == "cpu":
        missing = None if _has_cpp() else "a C++ compiler (g++, clang or MSVC)"
    else:
        from torch.utils._triton import has_triton

        missing = None if has_triton() else "the package triton"
    if missing:
        raise ConfigError(
            f"compile=true needs {missing}, which is not here: install it or leave "
            f"compile out."
        )


def compile_blocks(model: nn.Module) -> None:
    """Compile the blocks that repeat, each once for all its copies, at first use.

    In place: names of parameters stay as they are, in checkpoints and files too.
    """
    compiled: Any = model
    compiled.compile_repeated_blocks()


def _has_cpp() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError):
        return False
    return True
