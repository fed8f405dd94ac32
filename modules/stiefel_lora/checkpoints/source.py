"""Sources of the parts of a base model, independent of families.

A family requests each part by its name in the diffusers format ("unet", "transformer",
"vae", "text_encoder", "tokenizer_2", "scheduler" ...), whatever the user gave::

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
    """One part of a base model, from any kind of source."""

    def config(self) -> dict[str, Any]:
        """Return the settings of the part, as in its ``config.json``."""
        ...

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Read the part with a class of diffusers or transformers."""
        ...

    def digest_into(self, digest: _Hash) -> None:
        """Feed a hash with the part's content, independent of its location."""
        ...


class ModelSource:
    """All parts of one base model.

    Args:
        name: name of the model in messages, as the user wrote it.
        parts: the parts by name.
    """

    def __init__(self, name: str, parts: Mapping[str, PartSource]) -> None:
        self.name = name
        self._parts = dict(parts)

    def has(self, part: str) -> bool:
        """Return whether the model has this part."""
        return part in self._parts

    def config(self, part: str) -> dict[str, Any]:
        """Settings of a part: its ``config.json``, or ``scheduler_config.json``.

        Raises:
            ModelError: If the part is missing or damaged.
        """
        return self._parts[part].config()

    def load(self, part: str, loader: Any, dtype: torch.dtype | None = None) -> Any:
        """Load a part on the CPU with all values in ``dtype``, never from the network.

        Args:
            part: name of the part.
            loader: class of diffusers or transformers that loads the part.
            dtype: dtype of the weights; None for tokenizers and schedulers.

        Raises:
            ModelError: If the files are damaged.
        """
        return self._parts[part].load(loader, dtype)

    def skeleton(self, part: str, loader: Any) -> nn.Module:
        """Build a part from its settings alone, on the meta device.

        Raises:
            ModelError: If the settings do not belong to such a part.
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
        """Return the same model with one part replaced by ``wrap(part)``."""
        return ModelSource(self.name, {**self._parts, part: wrap(self._parts[part])})

    def fingerprint(self, parts: Iterable[str], *settings: str) -> str:
        """Hash some parts and the settings that change their output.

        Independent of their location. 64 pieces of 64 KiB of large files are read.
        """
        digest = hashlib.sha256("/".join(settings).encode())
        for part in parts:
            self._parts[part].digest_into(digest)
        return digest.hexdigest()


def folder_source(folder: Path, parts: Iterable[str]) -> ModelSource:
    """Take all parts from one diffusers folder, without checks."""
    return ModelSource(str(folder), {part: FolderPart(folder, part) for part in parts})
