"""A LoRA file in another spelling, with the same updates.

Where both spellings hold alpha, every bit of the factors stays. Where the new one does
not (PEFT), the scale is multiplied into A. FLUX.1's q, k and v are fused for kohya's
spelling, B block-diagonal, and taken apart for the others; both are exact.
"""

from __future__ import annotations

import dataclasses
import os

import torch

from ..._exceptions import ModelError
from ..metadata import network_metadata
from .lora_file import LoraFile, LoraLayer
from .one_thread import one_thread
from .respell import SPELLINGS, TRAINED, in_layout_of, respelled
from .save_lora import Lineage, Saved, check_output, save_lora

__all__ = ["convert_lora", "converted"]


@torch.no_grad()
@one_thread()
def convert_lora(
    file: LoraFile,
    output: str | os.PathLike[str],
    spelling: str,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    command: str = "",
) -> Saved:
    """Write a LoRA file in another spelling.

    Args:
        file: of ``open_lora``.
        output: path to write.
        spelling: a key of ``respell.SPELLINGS``, as ``"kohya"`` or ``"PEFT"``.
        dtype: of the factors; by default the widest of the file.
        overwrite: replace a file that exists.
        command: for the metadata.

    Raises:
        ModelError: a layer that the spelling cannot hold.
        OutputError: the output exists, is the input, or cannot be written.
    """
    check_output(output, [file.path], overwrite=overwrite)
    changed = converted(file, spelling)
    saved = save_lora(
        output,
        changed,
        dtype=dtype,
        lineage=Lineage([file], command),
        one_alpha=False,
    )
    return dataclasses.replace(saved, remarks=(*saved.remarks, *_remarks(changed)))


def converted(file: LoraFile, spelling: str) -> LoraFile:
    """The same file with the keys of another spelling.

    Raises:
        ModelError: a layer that the spelling cannot hold.
    """
    if spelling not in SPELLINGS:
        raise ModelError(
            f"{spelling!r} is no spelling to convert to. Use one of "
            f"{', '.join(SPELLINGS)}."
        )
    style = SPELLINGS[spelling]
    # Trained words have the same keys in all spellings.
    foreign = [other for other in file.others if other.kind != "embedding"]
    if foreign:
        other = foreign[0]
        raise ModelError(
            f"{file.path}: {other.name} is {other.kind}, which is not converted. Give "
            "a file of LoRA or DoRA layers."
        )
    for layer in file.layers:
        _check_dora(file, layer, spelling)
    apart = in_layout_of(file, style.fused)
    layers = [respelled(layer, spelling, file.family) for layer in apart.layers]
    metadata = dict(file.metadata)
    if style.names == "kohya" and file.family in TRAINED:
        first = layers[0].factors
        own = network_metadata(file.family, first.rank, first.alpha)
        metadata = own | metadata
    return dataclasses.replace(
        apart, layers=tuple(layers), metadata=metadata, spelling=spelling
    )


def _check_dora(file: LoraFile, layer: LoraLayer, spelling: str) -> None:
    suffixes = SPELLINGS[spelling].suffixes
    for part in ("magnitude", "dora_scale"):
        if getattr(layer.factors, part) is not None and part not in suffixes:
            raise ModelError(
                f"{file.path}: {layer.name} is a DoRA whose {part} the spelling "
                f"{spelling} does not have; the other number needs the base model. "
                "Use complete_dora in Python."
            )


def _remarks(file: LoraFile) -> list[str]:
    scales = {layer.factors.alpha for layer in file.layers}
    unet = (
        file.family in ("sdxl", "sd15") and "alpha" in SPELLINGS[file.spelling].suffixes
    )
    if unet and len(scales) > 1:
        return [
            "The alphas differ from layer to layer: diffusers 0.42 applies one of them "
            "to all. Convert to peft for diffusers."
        ]
    return []
