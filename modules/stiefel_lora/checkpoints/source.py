"""Sources of the components of a base model.

Components are loaded by their names in the diffusers format ("unet", "transformer",
"vae", "text_encoder", "tokenizer_2", "scheduler", ...), for all formats of the base
model::

    unet = source.load("unet", diffusers.UNet2DConditionModel, torch.bfloat16)
    layers = source.skeleton("unet", diffusers.UNet2DConditionModel)
    tokenizer = source.load("tokenizer", transformers.CLIPTokenizer)
    noise = source.load("scheduler", diffusers.DDPMScheduler)
    kind = source.config("scheduler")["_class_name"]
    same = source.fingerprint(("unet", "scheduler"))

In tests and scripts, ``folder_source(folder, parts)`` creates one from a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from .._exceptions import ModelError
from .folder_part import FolderPart
from .from_pretrained import build

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ModelSource", "PartSource", "folder_source"]


class PartSource(Protocol):
    """Interface of a component of a base model."""

    def config(self) -> dict[str, Any]:
        """Return the settings of the component, as in ``config.json``."""
        ...

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Load the component with a class of diffusers or transformers."""
        ...

    def digest_into(self, digest: _Hash) -> None:
        """Update a hash with the content of the component."""
        ...


class ModelSource:
    """Components of a base model.

    Args:
        name: name of the model for messages.
        parts: components by name.
    """

    def __init__(self, name: str, parts: Mapping[str, PartSource]) -> None:
        self.name = name
        self._parts = dict(parts)

    def has(self, part: str) -> bool:
        """Return whether the model has a component."""
        return part in self._parts

    def config(self, part: str) -> dict[str, Any]:
        """Return the settings of a component.

        Raises:
            ModelError: If the component is missing or damaged.
        """
        return self._parts[part].config()

    def load(self, part: str, loader: Any, dtype: torch.dtype | None = None) -> Any:
        """Load a component on the CPU from local files.

        Args:
            part: name of the component.
            loader: class of diffusers or transformers that loads the component.
            dtype: dtype of the weights. None for tokenizers and schedulers.

        Raises:
            ModelError: If the files are damaged.
        """
        return self._parts[part].load(loader, dtype)

    def skeleton(self, part: str, loader: Any) -> nn.Module:
        """Create a component on the meta device from its settings.

        Raises:
            ModelError: If the settings are invalid for the component.
        """
        config = self.config(part)
        try:
            with torch.device("meta"):
                return build(loader, config)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"The {part} of the base model {self.name} cannot be created from "
                f"its config.json ({error})."
            ) from error

    def with_part(
        self, part: str, wrap: Callable[[PartSource], PartSource]
    ) -> ModelSource:
        """Return a copy in which a component is replaced by ``wrap(component)``."""
        return ModelSource(self.name, {**self._parts, part: wrap(self._parts[part])})

    def fingerprint(self, parts: Iterable[str], *settings: str) -> str:
        """Return a hash of the weights and settings of some components.

        The hash does not depend on their location. Only parts of large files are read.
        """
        digest = hashlib.sha256("/".join(settings).encode())
        for part in parts:
            self._parts[part].digest_into(digest)
        return digest.hexdigest()


def folder_source(folder: Path, parts: Iterable[str]) -> ModelSource:
    """Create a source from a folder in the diffusers format, without checks."""
    return ModelSource(str(folder), {part: FolderPart(folder, part) for part in parts})
