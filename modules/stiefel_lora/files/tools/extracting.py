"""Extraction of the difference between two checkpoints as a LoRA.

Values are not clamped. Only one weight of each checkpoint is in memory at a time.
"""

from __future__ import annotations

import dataclasses
import math
import os

import torch

from ..._exceptions import ModelError
from .._prepare import all_finite
from ..metadata import network_metadata
from .base_checkpoint import Checkpoint
from .differences import relative
from .layer_names import canonical_key, parse_stem
from .lora_file import LoraFile, LoraLayer
from .nearest_lora import Nearest, Rank, nearest_lora
from .one_thread import one_thread
from .peft_folder import check_place, save_as
from .respell import SPELLINGS, in_layout_of, kohya_names, respelled
from .save_lora import Lineage, Saved

__all__ = ["ExtractReport", "extract_lora"]

# A change of dtype alone, to 8 bits or more, stays below this relative difference.
_ROUNDING = 1e-7
_SCALES = ("scale_weight", "weight_scale")


@dataclasses.dataclass(frozen=True)
class ExtractReport:
    """Result of :func:`extract_lora`."""

    error: float
    """Relative error of the LoRA in the Frobenius norm."""

    norm: float
    """Frobenius norm of the differences of all layers."""

    equal: int
    """Number of layers that do not differ."""

    others: tuple[str, ...]
    """Tensors that differ, but are not part of the LoRA: biases, norms and the VAE."""

    saved: Saved


@torch.no_grad()
@one_thread()
def extract_lora(
    base: Checkpoint,
    tuned: Checkpoint,
    output: str | os.PathLike[str],
    goal: Rank,
    *,
    spelling: str = "kohya",
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
    command: str = "",
) -> ExtractReport:
    """Extract the difference between two checkpoints as a LoRA file.

    Args:
        base: checkpoint before training.
        tuned: checkpoint after training, with the same family and key names.
        output: path of the output file.
        goal: rank, or maximum relative error of each layer.
        spelling: key format of the output (a key of ``respell.SPELLINGS``).
        dtype: dtype of the factors.
        overwrite: whether to replace an existing file.
        command: command line to record in the metadata.

    Raises:
        ModelError: If the checkpoints have different families or shapes, or do not
            differ.
        OutputError: If the output exists, is an input, or cannot be written.
    """
    lineage = Lineage([base, tuned], command)
    place = check_place(output, spelling, lineage.inputs, overwrite=overwrite)
    if (base.family, base.fused) != (tuned.family, tuned.fused):
        raise ModelError(
            f"{base.path} is {base.family} and {tuned.path} is {tuned.family}, or "
            "one of them has the key names of diffusers. Use two checkpoints of the "
            "same family and format."
        )
    layers, found, equal = [], [], 0
    for name in base.places.keys() & tuned.places.keys():
        nearest = _difference(base, tuned, name, goal)
        if nearest is None:
            equal += 1
            continue
        found.append(nearest)
        layers.append(_layer(base, name, nearest, dtype))
    if not layers:
        raise ModelError(
            f"{tuned.path} has the same weights as {base.path} in all {equal} "
            "layers. Use a checkpoint that was fine-tuned from it."
        )
    # The names above are a set: without sorting, the order would change from process to
    # process, and with it the rank in the metadata.
    layers.sort(key=lambda layer: layer.key)
    file = LoraFile(
        path=place.path,
        layers=tuple(layers),
        others=(),
        unknown={},
        metadata=network_metadata(base.family, layers[0].factors.rank, 1.0),
        family=base.family,
        spelling=spelling,
        size=0,
    )
    file = in_layout_of(file, SPELLINGS[spelling].fused)
    own = tuple(respelled(layer, spelling, file.family) for layer in file.layers)
    saved = save_as(
        place.path,
        dataclasses.replace(file, layers=own),
        dtype=dtype,
        lineage=lineage,
        overwrite=overwrite,
    )
    norm = math.hypot(*(one.norm for one in found))
    # Rounding is orthogonal to what the SVD cuts off.
    lost = math.hypot(*(one.lost for one in found), *saved.differences)
    return ExtractReport(
        error=relative(lost, norm),
        norm=norm,
        equal=equal,
        others=_others(base, tuned),
        saved=saved.with_remarks([*place.remarks, *_alone(base, tuned)]),
    )


def _difference(
    base: Checkpoint, tuned: Checkpoint, name: str, goal: Rank
) -> Nearest | None:
    one, two = base.weight(name), tuned.weight(name)
    assert one is not None
    assert two is not None
    if one.shape != two.shape:
        raise ModelError(
            f"{name} has shape {tuple(one.shape)} in {base.path}, but "
            f"{tuple(two.shape)} in {tuned.path}. Use two checkpoints of the same "
            "model."
        )
    update = two - one
    if not all_finite(update):
        raise ModelError(
            f"{name} contains NaN or infinity in {base.path} or {tuned.path}."
        )
    if float(update.norm()) <= _ROUNDING * float(one.norm()):
        return None
    return nearest_lora(update, goal)


def _layer(
    base: Checkpoint, name: str, nearest: Nearest, dtype: torch.dtype
) -> LoraLayer:
    stem = kohya_names(base.family).get(name, name)
    factors = nearest.factors
    size = (factors.up.numel() + factors.down.numel()) * dtype.itemsize
    return LoraLayer(
        name=name,
        stem=stem,
        parsed=parse_stem(stem),
        factors=factors,
        suffixes={"down": ".lora_down.weight", "up": ".lora_up.weight"},
        stored_rank=factors.rank,
        dtype=dtype,
        size=size,
        key=canonical_key(name),
    )


def _alone(base: Checkpoint, tuned: Checkpoint) -> list[str]:
    """Return messages about tensors that are only in one of the checkpoints."""
    remarks = []
    for one, two in ((base, tuned), (tuned, base)):
        names = sorted(key for key in one.specs.keys() - two.specs.keys())
        names = [key for key in names if not key.endswith(_SCALES)]
        if names:
            count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
            remarks.append(
                f"Only in {one.path.name} and not compared: {count}, for example "
                f"{names[0]}."
            )
    return remarks


def _others(base: Checkpoint, tuned: Checkpoint) -> tuple[str, ...]:
    """Return the tensors that differ and are not weights of layers."""
    held = {place.key for place in base.places.values()}
    found = []
    for key in sorted(base.specs.keys() & tuned.specs.keys()):
        if key in held or key.endswith(_SCALES):
            continue
        one, two = base.tensor(key), tuned.tensor(key)
        # NaN in both is no difference.
        same = one.shape == two.shape and torch.allclose(
            one.float(), two.float(), rtol=0, atol=0, equal_nan=True
        )
        if not same:
            found.append(key)
    return tuple(found)
