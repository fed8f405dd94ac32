"""Build or read one part of a model with its class of diffusers or transformers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers.utils import logging

from .._exceptions import ModelError

__all__ = ["build", "load_part"]


def build(loader: Any, config: dict[str, Any]) -> Any:
    """Make a model with fresh weights on the current device.

    Raises:
        ValueError: the settings are not such a model's; TypeError and KeyError alike.
    """
    if issubclass(loader, transformers.PreTrainedModel):
        kind: Any = loader.config_class
        return loader(kind.from_dict(config))
    return loader.from_config(config)


def load_part(
    folder: Path, loader: Any, part: str, dtype: torch.dtype | None = None
) -> Any:
    """Load ``folder/part`` with ``loader.from_pretrained``, never from the network.

    Raises:
        ModelError: its files are damaged.
    """
    options: dict[str, Any] = {"subfolder": part, "local_files_only": True}
    if dtype is not None:
        # transformers 5 calls it dtype, diffusers torch_dtype.
        in_transformers = issubclass(loader, transformers.PreTrainedModel)
        options["dtype" if in_transformers else "torch_dtype"] = dtype
    try:
        with _quiet():
            return loader.from_pretrained(str(folder), **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"The part {part} of the base model {folder} can not be read ({reason}); "
            f"fetch the model again."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Switch the progress bars of transformers off for a while."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()
