"""Embeddings in LoRA files (``bundle_emb`` of OneTrainer)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ..._exceptions import ModelError
from .differences import equal_numbers
from .lora_file import LoraFile, OtherLayer

__all__ = ["all_embeddings", "embeddings_of", "other_adapters"]

_KIND = "embedding"


def embeddings_of(file: LoraFile) -> tuple[OtherLayer, ...]:
    """Return the embeddings of a file."""
    return tuple(other for other in file.others if other.kind == _KIND)


def other_adapters(file: LoraFile) -> tuple[OtherLayer, ...]:
    """Return the adapters of a file that are neither LoRA nor embeddings."""
    return tuple(other for other in file.others if other.kind != _KIND)


def all_embeddings(files: Iterable[LoraFile]) -> tuple[OtherLayer, ...]:
    """Return the embeddings of several files.

    Raises:
        ModelError: If two files have different embeddings with the same name.
    """
    found: list[OtherLayer] = []
    held: dict[str, tuple[LoraFile, Tensor]] = {}
    for file in files:
        for other in embeddings_of(file):
            if other.tensors.keys() - held.keys():
                found.append(other)
            for key, tensor in other.tensors.items():
                first, known = held.setdefault(key, (file, tensor))
                if not equal_numbers(known, tensor):
                    raise ModelError(
                        f"{first.path} and {file.path} have different embeddings with "
                        f"the name {key}. Remove the key from one of the files."
                    )
    return tuple(found)
