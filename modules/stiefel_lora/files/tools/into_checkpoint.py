"""Merging of a LoRA into the weights of a base model.

Tensors are processed one by one, and the peak memory is twice the size of the largest
tensor. Every tensor keeps its dtype, and scaled 8-bit tensors keep their scale.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..._exceptions import ModelError, OutputError
from ..._wording import counted
from .._prepare import all_finite
from ..atomic import sigterm_raises
from ..dora import apply_lora
from ..streamed import write_streamed
from ..weights import LoraFactors
from .base_checkpoint import Checkpoint, Place
from .embeddings import embeddings_of, other_adapters
from .layer_names import canonical
from .lora_file import LoraFile
from .one_thread import one_thread
from .output_path import check_new_folder, check_output
from .respell import in_layout_of
from .save_lora import NO_EFFECT, Lineage
from .to_lora import ready_to_fuse

__all__ = ["IntoReport", "add_into_checkpoint"]

# Number of entries that are computed in float64 at a time.
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class IntoReport:
    """Result of :func:`add_into_checkpoint`."""

    path: Path
    """Path of the written file or folder."""

    layers: int
    """Number of weights with a changed value."""

    error: float
    """Norm of the rounding error, relative to the norm of the added update."""

    remarks: tuple[str, ...] = ()


@torch.no_grad()
@one_thread()
def add_into_checkpoint(
    file: LoraFile,
    base: Checkpoint,
    output: str | os.PathLike[str],
    *,
    parents: Sequence[LoraFile] = (),
    overwrite: bool = False,
    command: str = "",
) -> IntoReport:
    """Merge a LoRA or DoRA into the weights of a base model and save the model.

    Args:
        file: LoRA file from :func:`open_lora`, or a sum of several files.
        base: base model checkpoint.
        output: path of the output file, or of a new folder if the base model is a
            folder.
        parents: files whose sum is ``file``. The default is ``file``.
        overwrite: whether to replace an existing file.
        command: command line to record in the metadata.

    Raises:
        ModelError: If a layer is missing in the base model or has another shape, or an
            adapter is not a LoRA.
        OutputError: If the output exists, is an input or cannot be written, or a weight
            exceeds the range of its dtype.
    """
    origin = Lineage([*(parents or [file]), base], command)
    inputs = origin.inputs
    if base.path.is_dir():
        place = check_new_folder(output, inputs)
    else:
        place = check_output(output, inputs, overwrite=overwrite)
    for other in other_adapters(file):
        raise ModelError(
            f"{file.path}: {other.name} is {other.kind}. Convert it to a plain LoRA "
            "first: stiefel-lora lora convert --rank."
        )
    added = _by_tensor(file, base)
    sums = [0.0, 0.0]
    clamped: dict[str, int] = {}
    changed, lost_whole = [], []

    def tensor(key: str) -> Tensor:
        stored = base.tensor(key)
        if key in added:
            found = _change(key, stored, base.scale(key), added[key])
            sums[0] += found.lost
            sums[1] += found.change
            if found.clamped:
                clamped[key] = found.clamped
            if found.is_visible:
                changed.append(key)
            elif found.change:
                lost_whole.append(key)
        return stored

    lineage = {"stiefel_lora_lineage": origin.to_json()}
    if base.path.is_dir():
        _write_folder(place.path, base, tensor, lineage)
    else:
        metadata = {**base.metadata, **lineage}
        write_streamed(place.path, base.specs, tensor, metadata, overwrite=overwrite)
    error = (sums[0] / sums[1]) ** 0.5 if sums[1] else 0.0
    remarks = [*place.remarks, *_clamped(clamped, base)]
    if embeddings := embeddings_of(file):
        remarks.append(
            f"{counted(len(embeddings), 'embedding was', 'embeddings were')} omitted, "
            f"because a checkpoint has no place for them: {embeddings[0].name}."
        )
    if sums[1] == 0:
        remarks.append(f"{NO_EFFECT} The weights did not change.")
    remarks += _rounded_away(lost_whole, base)
    return IntoReport(place.path, len(changed), error, tuple(remarks))


def _rounded_away(keys: Sequence[str], base: Checkpoint) -> list[str]:
    """Return a message about weights whose updates are below their precision."""
    if not keys:
        return []
    dtype = str(base.specs[keys[0]].dtype).removeprefix("torch.")
    return [
        f"{counted(len(keys), 'weight', 'weights')} did not change, because their "
        f"updates are below the precision of {dtype}, for example {keys[0]}. Use a "
        "larger weight for the LoRA, or a base model with a wider dtype."
    ]


def _clamped(counts: Mapping[str, int], base: Checkpoint) -> list[str]:
    """Return a message about values that exceeded the range of an 8-bit dtype."""
    if not counts:
        return []
    key, most = max(counts.items(), key=lambda entry: entry[1])
    dtype = str(base.specs[key].dtype).removeprefix("torch.")
    several = counted(len(counts), "weight exceed", "weights exceed")
    return [
        f"{counted(sum(counts.values()), 'value', 'values')} of {several} the range of "
        f"{dtype} and were clamped, most of them in {key} ({most}). Use a smaller "
        "weight for the LoRA, or a base model with a wider dtype."
    ]


def _write_folder(
    output: Path,
    base: Checkpoint,
    tensor: Callable[[str], Tensor],
    lineage: Mapping[str, str],
) -> None:
    """Write a folder with the changed weights. Other files are copied."""
    target = part = Path(os.path.realpath(output))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            sigterm_raises(),
            tempfile.TemporaryDirectory(
                prefix=f".{target.name}.", dir=target.parent
            ) as name,
        ):
            part = Path(name, target.name)
            weights = {file.path for file in base.files}
            shutil.copytree(
                base.path,
                part,
                ignore=lambda folder, names: [
                    name for name in names if Path(folder, name) in weights
                ],
            )
            for file in base.files:
                specs = {key: base.specs[file.prefix + key] for key in file.table}
                place = part / file.path.relative_to(base.path)
                prefix = file.prefix
                write_streamed(
                    place,
                    specs,
                    lambda key, prefix=prefix: tensor(prefix + key),
                    {**file.metadata, **lineage},
                )
            part.replace(target)
    except OutputError as error:
        # Use the name that the user gave, not the temporary one.
        raise OutputError(str(error).replace(str(part), str(target))) from error
    except shutil.Error as error:
        source, _, reason = error.args[0][0]
        raise OutputError(
            f"{source} cannot be copied to {target}: {reason}. Remove it from the base "
            "model, or restore it."
        ) from error
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{target} could not be written: {reason}. Free disk space, or use "
            "another folder."
        ) from error


_Added = list[tuple[Place, LoraFactors]]


def _by_tensor(file: LoraFile, base: Checkpoint) -> Mapping[str, _Added]:
    """Return the layers that are added to each tensor of the base model."""
    if base.family == file.family:
        file = ready_to_fuse(file, base) if base.fused else file
        file = in_layout_of(file, base.fused, base.lengths)
    found: dict[str, _Added] = {}
    places: dict[Place, str] = {}
    missing = []
    for layer in file.layers:
        name = canonical(layer.parsed, base.family) or layer.name
        place = base.places.get(name)
        if place is None:
            missing.append(layer.name)
            continue
        base.check_numbers(place.key)
        rows, *others = base.specs[place.key].shape
        if place.third is not None:
            rows //= 3
        factors = layer.factors
        inputs = factors.down.shape[1:]
        size = torch.Size(others).numel()
        if factors.up.shape[0] != rows or inputs.numel() != size:
            raise ModelError(
                f"{base.path}: {place.key} has shape {base.specs[place.key].shape}, "
                f"which does not match {layer.name} of {file.path.name}. Use the "
                "base model that the LoRA was trained on."
            )
        if place in places:
            raise ModelError(
                f"{file.path}: {places[place]} and {layer.name} are the same layer in "
                f"{base.path.name}. Remove the keys of one of them from the file."
            )
        places[place] = layer.name
        found.setdefault(place.key, []).append((place, factors))
    if missing:
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        raise ModelError(
            f"{base.path} has no weight for {', '.join(missing[:2])}{more} of "
            f"{file.path.name}. Use the base model that the LoRA was trained on. "
            "Layers of a text encoder require a file that contains it."
        )
    return found


@dataclasses.dataclass
class _Change:
    """Change of a weight."""

    lost: float = 0.0
    """Squared norm of the rounding error."""

    change: float = 0.0
    """Squared norm of the exact change."""

    clamped: int = 0
    """Number of clamped values."""

    is_visible: bool = False
    """Whether a stored value changed."""


def _change(key: str, stored: Tensor, scale: float, added: _Added) -> _Change:
    """Add the updates of layers to a weight in place, in blocks of rows."""
    found = _Change()
    limit = _largest(stored.dtype)
    inputs = stored[0].numel()
    step = max(1, _BLOCK // inputs)
    for first in range(0, len(stored), step):
        rows = slice(first, min(first + step, len(stored)))
        # float32 would round small updates away before their error is measured.
        old = stored[rows].double() * scale
        new = old
        for place, factors in added:
            new = _with_rows(new, place, factors, rows, len(stored))
        if not all_finite(new):
            raise ModelError(
                f"{key} contains NaN or infinity in the LoRA or the base model."
            )
        # Rounded once, from the sum of all layers: one rounding per layer would lose
        # updates below the spacing of the stored dtype one by one.
        exact = new / scale
        found.clamped += int((exact.abs() > limit).sum())
        result = exact.to(stored.dtype)
        kept = result.double() * scale
        if not all_finite(kept):
            raise OutputError(
                f"{key}: a weight exceeds the range of {stored.dtype}. Use a "
                "smaller weight for the LoRA, or a base model with a wider dtype."
            )
        stored[rows] = result
        found.lost += float((kept - new).square().sum())
        found.change += float((new - old).square().sum())
        found.is_visible |= not torch.equal(kept, old)
    return found


def _largest(dtype: torch.dtype) -> float:
    """Return the largest number that is rounded to a finite number of a dtype.

    Infinite for dtypes with an infinity, to which larger numbers are rounded.
    """
    info = torch.finfo(dtype)
    if dtype.itemsize > 1 or dtype == torch.float8_e5m2:
        return math.inf
    spacing = 2.0 ** math.floor(math.log2(info.max)) * info.eps
    return info.max + spacing / 2


def _with_rows(
    block: Tensor, place: Place, factors: LoraFactors, rows: slice, total: int
) -> Tensor:
    """Compute a block of rows of a weight with the update of a layer."""
    start = 0 if place.third is None else total // 3 * place.third
    first = max(rows.start, start)
    last = min(rows.stop, start + factors.up.shape[0])
    if first >= last:
        return block
    own = slice(first - start, last - start)
    lengths = {
        part: None if value is None else value.flatten()[own]
        for part in ("magnitude", "dora_scale")
        for value in (getattr(factors, part),)
    }
    part = LoraFactors(factors.up[own], factors.down, factors.alpha, **lengths)
    here = slice(first - rows.start, last - rows.start)
    changed = block.clone()
    changed[here] = apply_lora(block[here], part)
    return changed
