"""Creation and loading of components with classes of diffusers or transformers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from .._exceptions import ModelError

__all__ = ["build", "load_part"]


def build(loader: Any, config: dict[str, Any]) -> Any:
    """Create a model with random weights on the current device.

    Raises:
        ValueError: If the settings are invalid. TypeError and KeyError are also
            possible.
    """
    if issubclass(loader, transformers.PreTrainedModel):
        kind: Any = loader.config_class
        # In the folder of a whole CLIP, the text encoder's settings are nested.
        inside = config.get(getattr(kind, "base_config_key", ""), config)
        return loader(kind.from_dict(inside))
    return loader.from_config(config)


def load_part(
    folder: Path,
    loader: Any,
    part: str,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Any:
    """Load ``folder/part`` with ``loader.from_pretrained``, from local files only.

    Args:
        folder: folder of the model.
        loader: class of diffusers or transformers.
        part: name of the subfolder.
        dtype: dtype of the weights.
        options: other arguments of ``from_pretrained``.

    Raises:
        ModelError: If the files are damaged.
    """
    options |= {"subfolder": part, "local_files_only": True}
    if dtype is not None:
        # It is dtype in transformers 5 and torch_dtype in diffusers.
        in_transformers = issubclass(loader, transformers.PreTrainedModel)
        options["dtype" if in_transformers else "torch_dtype"] = dtype
    try:
        with _quiet():
            return loader.from_pretrained(str(folder), **options)
    except MemoryError:
        raise
    except Exception as error:
        # tokenizers and settings checks similar to pydantic's raise their own classes.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0][:200]
        raise ModelError(
            f"The {part} of the base model {folder} cannot be read ({reason}). "
            "Download the model again."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Disable the progress bars of transformers inside a ``with`` block."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()
