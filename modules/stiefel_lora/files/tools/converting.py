"""Conversion of a LoRA file to another key format, with the same updates.

If both formats contain alpha, the factors are copied exactly. If the new format has no
alpha (PEFT), the scale is multiplied into A. For FLUX.1, q, k and v are fused in the
kohya format with a block-diagonal B, and separate in other formats. Both conversions
are exact.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import torch
from torch import Tensor

from ..._exceptions import ModelError
from ..._wording import counted
from ...families.catalogue import family_names, record_of
from ..metadata import network_metadata
from .base_checkpoint import Checkpoint
from .embeddings import other_adapters
from .finite_layers import check_finite
from .layer_names import MODEL, is_t5
from .lora_file import LoraFile, LoraLayer
from .nearest_lora import Rank
from .one_thread import one_thread
from .other_models import OMI
from .peft_folder import check_place, save_as
from .respell import SPELLINGS, in_layout_of, respelled
from .save_lora import Lineage, Saved
from .to_lora import (
    MadePlain,
    as_plain_lora,
    ready_for_peft,
    ready_to_fuse,
    with_both_lengths,
)

__all__ = ["convert_lora", "converted"]


@torch.no_grad()
@one_thread()
def convert_lora(
    file: LoraFile,
    output: str | os.PathLike[str],
    spelling: str,
    *,
    goal: Rank | None = None,
    base: Checkpoint | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    command: str = "",
) -> Saved:
    """Convert a LoRA file to another key format.

    Args:
        file: LoRA file from ``open_lora``.
        output: path of the output file, or of a new folder for ``PEFT (own)``.
        spelling: key format of the output, such as ``"kohya"`` or ``"PEFT"`` (a key of
            ``respell.SPELLINGS``).
        goal: rank or error with which other kinds of adapters are converted to plain
            LoRA.
        base: base model, which is required to convert DoRA layers to plain LoRA or to
            another DoRA format.
        dtype: dtype of the factors. The default is the widest dtype of the file.
        overwrite: whether to replace an existing file.
        command: command line to record in the metadata.

    Raises:
        ModelError: If the key format does not support a layer, or a layer contains NaN
            or infinity.
        OutputError: If the output exists, is the input, or cannot be written.
    """
    lineage = Lineage([file] if base is None else [file, base], command)
    place = check_place(output, spelling, lineage.inputs, overwrite=overwrite)
    check_finite(file)
    remarks = list(place.remarks)
    given, plain = file, None
    if goal is not None:
        plain = as_plain_lora(file, goal, base)
        given = plain.file
    elif base is not None:
        given = with_both_lengths(file, base)
        style = SPELLINGS.get(spelling)
        if style is not None and style.fused:
            given = ready_to_fuse(given, base)
        elif style is not None and "magnitude" in style.suffixes:
            given = ready_for_peft(given, base)
    lengths = None if base is None else base.lengths
    changed = converted(given, spelling, base_lengths=lengths)
    saved = save_as(
        place.path,
        changed,
        dtype=dtype,
        lineage=lineage,
        one_alpha=False,
        reported=() if plain is None else {*plain.replaced, *plain.left_out},
        overwrite=overwrite,
    )
    if plain is not None:
        error = plain.stored_error(saved)
        remarks += _approximations(file, plain, error)
        saved = dataclasses.replace(saved, error=error)
    remarks += [*saved.remarks, *_remarks(changed), *_number_of_t5(given, changed)]
    return dataclasses.replace(saved, remarks=tuple(remarks))


def _approximations(file: LoraFile, plain: MadePlain, error: float) -> list[str]:
    found = [
        counted(
            len(plain.made),
            "layer was converted to a plain LoRA",
            "layers were converted to plain LoRAs",
        )
        + f", with a relative error of {error:.6g}."
    ]
    if plain.unknown_kernels:
        found.append(
            f"The kernels of {len(plain.unknown_kernels)} layers are unknown, because "
            f"there is no table of {file.family or 'this family'}, so these layers "
            f"were written as linear, for example {plain.unknown_kernels[0]}. Only "
            "ComfyUI and Forge apply them to a convolution."
        )
    if plain.left_out:
        found.append(
            counted(
                len(plain.left_out),
                "tensor of biases and norms was",
                "tensors of biases and norms were",
            )
            + " omitted, because a LoRA contains only products of two factors, for "
            f"example {plain.left_out[0]}."
        )
    return found


def converted(
    file: LoraFile,
    spelling: str,
    *,
    base_lengths: Callable[[str], Tensor] | None = None,
) -> LoraFile:
    """Return the file with the keys of another format.

    Args:
        file: LoRA file.
        spelling: key format of the result (a key of ``respell.SPELLINGS``).
        base_lengths: see ``respell.in_layout_of``.

    Raises:
        ModelError: If the key format does not support a layer.
    """
    if spelling not in SPELLINGS:
        raise ModelError(
            f"{spelling!r} is not a supported key format. Use one of "
            f"{', '.join(SPELLINGS)}."
        )
    style = SPELLINGS[spelling]
    if file.family == OMI:
        raise ModelError(
            f"{file.path} is in the OMI format of older versions of OneTrainer, which "
            "cannot be converted. Convert it to another format with such a version."
        )
    # Embeddings have the same keys in all formats.
    for other in other_adapters(file):
        raise ModelError(
            f"{file.path}: {other.name} is {other.kind}, which is only supported in "
            "the key format of the file. Add --rank or --error to convert it to a "
            "LoRA."
        )
    fitting = [_with_known_lengths(file, layer, spelling) for layer in file.layers]
    file = dataclasses.replace(file, layers=tuple(fitting))
    apart = in_layout_of(file, style.fused, base_lengths)
    if "magnitude" in style.suffixes:
        _check_all_dora(apart)
    layers = [respelled(layer, spelling, file.family) for layer in apart.layers]
    metadata = dict(file.metadata)
    if layers and file.family in family_names() and not file.variant:
        if style.names == "kohya":
            first = layers[0].factors
            own = network_metadata(file.family, first.rank, first.alpha)
            metadata = own | metadata
        elif "ss_base_model_version" not in metadata:
            # Some names are those of several families, as in a text encoder alone.
            architecture = record_of(file.family).lora_files.architecture
            metadata.setdefault("modelspec.architecture", architecture)
    return dataclasses.replace(
        apart, layers=tuple(layers), metadata=metadata, spelling=spelling
    )


def _with_known_lengths(file: LoraFile, layer: LoraLayer, spelling: str) -> LoraLayer:
    """Return a layer with only the DoRA scale that the key format supports."""
    if not layer.factors.is_dora:
        return layer
    suffixes = SPELLINGS[spelling].suffixes
    own = {part: getattr(layer.factors, part) for part in ("magnitude", "dora_scale")}
    kept = {part: own[part] if part in suffixes else None for part in own}
    if all(lengths is None for lengths in kept.values()):
        (part,) = [part for part, lengths in own.items() if lengths is not None]
        raise ModelError(
            f"{file.path}: {layer.name} is a DoRA with {part}, which the key format "
            f"{spelling} does not support; converting it requires the base model. Add "
            "--base, or convert to plain LoRAs with --base and --rank."
        )
    known = {p: s for p, s in layer.suffixes.items() if p not in own or p in suffixes}
    factors = dataclasses.replace(
        layer.factors, magnitude=kept["magnitude"], dora_scale=kept["dora_scale"]
    )
    return dataclasses.replace(layer, factors=factors, suffixes=known)


def _check_all_dora(file: LoraFile) -> None:
    """Check that peft, which applies DoRA to all layers of a model, has all scales."""
    scaled = {x.parsed.component for x in file.layers if x.factors.is_dora}
    plain = [
        layer.name
        for layer in file.layers
        if layer.parsed.component in scaled and not layer.factors.is_dora
    ]
    if plain:
        raise ModelError(
            f"{file.path}: {plain[0]} is a plain LoRA, but other layers of the model "
            "are DoRA layers, and peft applies DoRA to all of them. Add --base, which "
            "adds a scale that does not change it."
        )


def _remarks(file: LoraFile) -> list[str]:
    scales = {layer.factors.alpha for layer in file.layers}
    one_alpha = (
        file.family in family_names()
        and record_of(file.family).lora_files.one_alpha
        and "alpha" in SPELLINGS[file.spelling].suffixes
    )
    if one_alpha and len(scales) > 1:
        return [
            "The layers have different alphas, but diffusers 0.42 uses the same "
            "alpha for all of them. Convert the file to the key format peft for "
            "diffusers."
        ]
    return []


def _number_of_t5(given: LoraFile, changed: LoraFile) -> list[str]:
    """Return a message if T5 may have the wrong number for its model."""
    encoders = {layer.parsed.component for layer in changed.layers}
    numbered = [
        layer.name
        for layer in changed.layers
        if is_t5(layer.parsed) and layer.parsed.prefix.endswith("text_encoder_3.")
    ]
    dotted = any(layer.parsed.prefix == "text_encoder_3." for layer in given.layers)
    if changed.family is not None or not numbered or dotted:
        return []
    if "text_encoder_2" in encoders or MODEL in encoders:
        return []
    return [
        "T5 was written as text_encoder_3, as in SD 3, because the file contains no "
        "layer of a transformer that determines the family. In a model with two text "
        "encoders, it is text_encoder_2: merge the file with a LoRA of its transformer "
        "first."
    ]
