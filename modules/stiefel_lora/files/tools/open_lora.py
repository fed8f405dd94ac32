"""Reading of LoRA files of any key format and model family.

:func:`~stiefel_lora.files.load_lora` only reads files of supported families and checks
every name. :func:`open_lora` reads files of all tools with a known key format.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..._exceptions import ModelError
from ..._wording import counted
from ..peft import (
    alpha_of,
    parse_adapter_metadata,
    peft_scale,
    rank_in_settings,
)
from ..tensors import read_tensors
from ..weights import LoraFactors, rank_of
from .differences import equal_numbers
from .families import families_apart, family_of, unet_variant
from .layer_names import (
    MODEL,
    StemName,
    canonical,
    canonical_key,
    encoder_name,
    parse_stem,
)
from .lora_file import LoraFile, LoraLayer, OtherLayer
from .other_models import REFINER
from .peft_file_names import CONFIG, WEIGHTS
from .peft_folder_names import MODELS, file_in, read_models, settings_in
from .plain_factors import plain_factors
from .spellings import spelling_of
from .suffixes import LORA_PARTS, OTHER_KINDS, Key, parse_key
from .widest_dtype import widest_dtype

__all__ = ["named_layer", "open_lora", "with_family"]

_LINEAR1 = (
    "The q, k and v layers of single blocks in the XLabs format are "
    "converted to rows of linear1."
)

_FACTORS = ("down", "up", "mid")
_BAD_SETTINGS = (AttributeError, TypeError, ValueError, re.error)

_Parts = dict[str, tuple[Key, Tensor]]


def open_lora(path: str | os.PathLike[str]) -> LoraFile:
    """Read all layers of a LoRA file of any tool.

    A missing alpha is set to the rank, as in other loaders. A Tucker core
    (``lora_mid``) is multiplied into A. NaN and infinity in the factors are not an
    error.

    Raises:
        ModelError: If the file is missing, damaged or not a LoRA, or a layer is
            incomplete or stored twice with different values.
    """
    path = Path(path)
    # Unlike Path.is_dir, this raises nothing for names that are too long.
    folder = path if os.path.isdir(path) else None
    if folder is not None:
        path = file_in(path) or path
    tensors, metadata, adapter, remarks, size = _read(path)
    stems, unknown, doubles = _sorted_keys(path, tensors, remarks)
    if not stems:
        raise ModelError(_no_lora(path, tensors))
    names = _names(path, stems, remarks)
    layers, others = [], []
    for stem, parts in stems.items():
        kinds, name = _other_kinds(parts), names[stem]
        if kinds and not {"down", "up"} & set(parts):
            scale, kind = _scale(path, name, adapter), next(iter(kinds))
            others.append(OtherLayer(stem, kind, _held(parts), scale, name))
            continue
        for kind, own in kinds.items():
            others.append(OtherLayer(stem, kind, _held(own), parsed=name))
        parts = {part: held for part, held in parts.items() if part in LORA_PARTS}
        if _scales_columns(parts):
            kind = "DoRA of columns"
            others.append(OtherLayer(stem, kind, _held(parts), parsed=name))
            continue
        layers.append(_layer(path, stem, name, parts, adapter))
    _check_all_read(path, tensors, layers, others, doubles | set(unknown))
    shapes = {layer.parsed: _sides(layer) for layer in layers}
    # Without a LoRA layer only the names are available.
    shapes = shapes or {names[x.name]: (0, 1) for x in others if x.name in names}
    family = family_of(shapes, metadata)
    variant = unet_variant(family, shapes, metadata)
    family = None if variant == REFINER else family
    if not variant and (apart := families_apart(names.values())):
        shares = ", ".join(f"{count} to {label}" for label, count in apart.items())
        remarks.append(
            f"Layers belong to different models: {shares}. Save them to separate files."
        )
    named = [_whole_linear1(named_layer(x, family), remarks) for x in layers]
    return LoraFile(
        path=path,
        layers=_without_doubles(path, named, remarks),
        others=tuple(others),
        unknown=unknown,
        metadata=metadata,
        family=family,
        spelling=spelling_of(named, family),
        size=size,
        remarks=tuple(remarks),
        tensors=tensors,
        folder=folder,
        variant=variant,
    )


def _names(path: Path, stems: Iterable[str], remarks: list[str]) -> dict[str, StemName]:
    """Parse the names of layers, whose model can be that of the folder."""
    folder = Path(os.path.abspath(path)).parent.name if path.name == WEIGHTS else ""
    folder = folder if folder in MODELS else ""
    names = {stem: parse_stem(stem, folder) for stem in stems}
    if any(name.component != parse_stem(x).component for x, name in names.items()):
        remarks.append(f"The layers are those of {folder}, the name of the folder.")
    return names


def _read(
    path: Path,
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any], list[str], int]:
    """Read tensors, metadata, peft settings, remarks and size of a file or folder."""
    if not os.path.isdir(path):
        tensors, metadata = read_tensors(path)
        adapter, remarks = _adapter_config(path, metadata)
        return tensors, metadata, adapter, remarks, path.stat().st_size
    try:
        tensors, metadata, adapter, size = read_models(path)
    except (OSError, RecursionError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise _bad_settings(path, error) from error
    return tensors, metadata, adapter, [], size


def _other_kinds(parts: _Parts) -> dict[str, _Parts]:
    """Return the tensors of each kind of adapter other than LoRA."""
    found = {
        kind: {p: held for p, held in parts.items() if held[0].part == kind}
        for kind in OTHER_KINDS
    }
    return {kind: own for kind, own in found.items() if own}


def _held(parts: _Parts) -> dict[str, Tensor]:
    return {key.stem + key.suffix: tensor for key, tensor in parts.values()}


def _check_all_read(
    path: Path,
    tensors: Mapping[str, Tensor],
    layers: Iterable[LoraLayer],
    others: Iterable[OtherLayer],
    apart: set[str],
) -> None:
    """Check that each tensor belongs to a layer or is reported.

    A verb writes the layers and the other adapters, so any other tensor would be lost.
    """
    read = {layer.stem + s for layer in layers for s in layer.suffixes.values()}
    read.update(key for other in others for key in other.tensors)
    for key in tensors.keys() - read - apart:
        raise ModelError(
            f"{path}: {key} could not be assigned to a layer. Remove the key from the "
            "file."
        )


def _sorted_keys(
    path: Path, tensors: Mapping[str, Tensor], remarks: list[str]
) -> tuple[dict[str, _Parts], dict[str, Tensor], set[str]]:
    """Group the keys by layer. Duplicate tensors of a factor are used once.

    Returns:
        Tensors by layer, tensors that are not part of an adapter, and the keys of
        duplicates.
    """
    stems: dict[str, _Parts] = {}
    doubles: dict[str, _Parts] = {}
    unknown: dict[str, Tensor] = {}
    adapters = set()
    for text, tensor in tensors.items():
        key = parse_key(text)
        if key is None:
            unknown[text] = tensor
            continue
        adapters.add(key.adapter)
        parts = stems.setdefault(key.stem, {})
        # LoHa and similar adapters have several tensors of one kind.
        part = key.part if key.part in LORA_PARTS else key.suffix
        if part in parts:
            first = parts[key.part][0]
            if not equal_numbers(parts[key.part][1], tensor):
                raise ModelError(
                    f"{path}: {key.stem} has two different tensors for the same "
                    f"factor, {first.suffix} and {key.suffix}. Remove one of the "
                    "two keys from the file."
                )
            doubles.setdefault(key.stem, {})[part] = key, tensor
            continue
        parts[part] = key, tensor
    for stem, twice in doubles.items():
        _use_one_naming(stems[stem], twice)
    if doubles:
        remarks.append(_stored_twice(len(doubles)))
    adapters.discard("")
    if len(adapters) > 1:
        raise ModelError(
            f"{path} contains {len(adapters)} adapters "
            f"({', '.join(sorted(adapters))}). Save each of them to a separate file."
        )
    again = {key for twice in doubles.values() for key in _held(twice)}
    return _only_adapters(stems, unknown), unknown, again


def _use_one_naming(parts: _Parts, twice: _Parts) -> None:
    """Use a pair such as ``lora_down`` and ``lora_up`` of a layer that is stored twice.

    Loaders ignore a ``lora_A`` beside a ``lora_up``.
    """
    for part, other in (("down", "up"), ("up", "down")):
        if part not in twice or other not in parts:
            continue
        wanted = parts[other][0].form
        if parts[part][0].form != wanted == twice[part][0].form:
            parts[part], twice[part] = twice[part], parts[part]


def _only_adapters(
    stems: dict[str, _Parts], unknown: dict[str, Tensor]
) -> dict[str, _Parts]:
    """Move keys that are not part of an adapter to ``unknown``."""
    found = {}
    for stem, parts in stems.items():
        kinds = {key.part for key, _ in parts.values()}
        if kinds & {"down", "up", "mid", *OTHER_KINDS}:
            found[stem] = parts
        else:
            unknown.update({key.stem + key.suffix: t for key, t in parts.values()})
    return found


def _no_lora(path: Path, tensors: Mapping[str, Tensor]) -> str:
    if not tensors:
        return f"{path} contains no tensors. Use a LoRA file."
    example = f"{next(iter(tensors))!r}"
    weights = sum(key.endswith(".weight") for key in tensors)
    if weights > len(tensors) / 3:
        return (
            f"{path} is a checkpoint or a part of a model, not a LoRA: none of its "
            f"{len(tensors)} tensors is a LoRA factor, for example {example}. Use a "
            "LoRA file."
        )
    return (
        f"{path} is not a LoRA file: none of its {len(tensors)} keys is known, for "
        f"example {example}. Use a LoRA file."
    )


def _adapter_config(
    path: Path, metadata: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Read ``peft.LoraConfig`` settings from the metadata or adapter_config.json."""
    try:
        found = parse_adapter_metadata(metadata)
        # The settings in a folder belong to the file that peft names so, not to any
        # other LoRA that lies beside it.
        if found or path.name != WEIGHTS:
            return found, []
        found = settings_in(path.parent)
    except (OSError, RecursionError, ValueError) as error:
        raise _bad_settings(path, error) from error
    return found, [
        f"alpha was read from {CONFIG} in the folder of the file."
    ] if found else []


def _bad_settings(path: Path, error: Exception) -> ModelError:
    reason = str(error).rstrip(".")
    return ModelError(
        f"{path}: the adapter settings are not valid: {reason}. Create the file "
        "again with the original program."
    )


def _layer(
    path: Path, stem: str, name: StemName, parts: _Parts, adapter: Mapping[str, Any]
) -> LoraLayer:
    for part in ("down", "up"):
        if part not in parts:
            raise ModelError(
                f"{path}: {stem} is incomplete because its {part} factor is "
                "missing. Download or save the file again."
            )
    values = {part: tensor for part, (_, tensor) in parts.items()}
    rank = rank_of(values["down"])
    try:
        factors = plain_factors(
            values["up"],
            values["down"],
            values.get("mid"),
            alpha=_alpha(values.get("alpha"), name, rank, adapter),
            magnitude=values.get("magnitude"),
            dora_scale=values.get("dora_scale"),
        )
    except (IndexError, ModelError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: {stem}: {error}") from error
    return LoraLayer(
        name=stem,
        stem=stem,
        parsed=name,
        factors=factors,
        suffixes={part: key.suffix for part, (key, _) in parts.items()},
        stored_rank=rank,
        dtype=widest_dtype(values[p].dtype for p in _FACTORS if p in values),
        size=sum(tensor.nbytes for tensor in values.values()),
    )


def _alpha(
    stored: Tensor | None, name: StemName, rank: int, adapter: Mapping[str, Any]
) -> float:
    if stored is not None:
        if stored.numel() != 1:
            raise ModelError(f"alpha must be one number, but it has {stored.numel()}.")
        alpha = float(stored.double())
        if not math.isfinite(alpha):
            raise ModelError(f"alpha must be finite, but got {alpha}.")
        # Loaders multiply float32 or shorter numbers by it.
        if abs(alpha) > torch.finfo(torch.float32).max:
            raise ModelError(f"alpha must fit into float32, but got {alpha}.")
        return alpha
    component, path = _in_model(name).rstrip("."), name.path
    # The settings of peft's own files have no component prefix, and paths from the root
    # of the model.
    if f"{component}.r" not in adapter and "r" in adapter:
        adapter = {f"{component}.{key}": value for key, value in adapter.items()}
        path = f"{_in_model(name)}{path}"
    try:
        noted = rank_in_settings(adapter, component, path, rank)
        alpha = alpha_of(adapter, component, path, rank)
    except _BAD_SETTINGS as error:
        raise ModelError(
            f"the adapter settings have no alpha ({error}). Create the file again "
            "with the original program."
        ) from error
    if noted != rank:
        raise ModelError(
            f"its rank is {rank}, but {noted} in the adapter settings, which are those "
            f"of another file. Move the file away from {CONFIG}, or create it again "
            "with the original program."
        )
    return alpha


def _in_model(name: StemName) -> str:
    return name.prefix.replace("base_model.model.", "")


def _scale(path: Path, name: StemName, adapter: Mapping[str, Any]) -> float | None:
    """Return the scale of a LoHa or LoKr of peft, which is not in its tensors."""
    try:
        return peft_scale(adapter, f"{_in_model(name)}{name.path}")
    except (ZeroDivisionError, *_BAD_SETTINGS) as error:
        raise _bad_settings(path, error) from error


def _scales_columns(parts: _Parts) -> bool:
    if "dora_scale" not in parts or "up" not in parts:
        return False
    scale, up = parts["dora_scale"][1], parts["up"][1]
    if up.ndim == 0 or scale.numel() != up.shape[0]:
        return True
    # Square weight: the first dimension distinguishes rows from columns.
    return scale.ndim > 1 and scale.shape[0] != up.shape[0]


def _sides(layer: LoraLayer) -> tuple[int, int]:
    return layer.factors.up.shape[0], layer.factors.down.shape[1]


def with_family(file: LoraFile, family: str | None) -> LoraFile:
    """Return a file of an unknown family with the layer names of a family.

    A file with only a text encoder can belong to several families, and T5 has another
    number in each.
    """
    if file.family is not None or family is None:
        return file
    layers = tuple(named_layer(layer, family) for layer in file.layers)
    return dataclasses.replace(file, layers=layers)


def named_layer(layer: LoraLayer, family: str | None) -> LoraLayer:
    """Set the name and key of a layer for a family."""
    name = canonical(layer.parsed, family) if family is not None else None
    if name is not None:
        return dataclasses.replace(layer, name=name, key=canonical_key(name))
    parsed = layer.parsed
    name = parsed.path if parsed.component == MODEL else encoder_name(parsed)
    return dataclasses.replace(layer, name=name, key=parsed.key)


def _whole_linear1(layer: LoraLayer, remarks: list[str]) -> LoraLayer:
    """Convert q, k and v of a single block in the XLabs format to the fused layer."""
    if not layer.stem.endswith(".processor.qkv_lora"):
        return layer
    factors, stem = layer.factors, layer.name.removeprefix("transformer.")
    # Three of seven parts; the other four are the MLP's.
    rest = factors.up.new_zeros(factors.up.shape[0] // 3 * 4, factors.rank)
    if (remark := _LINEAR1) not in remarks:
        remarks.append(remark)
    return dataclasses.replace(
        layer,
        stem=stem,
        parsed=parse_stem(stem),
        suffixes={"down": ".lora_A.weight", "up": ".lora_B.weight"},
        factors=dataclasses.replace(factors, up=torch.cat([factors.up, rest])),
    )


def _without_doubles(
    path: Path, layers: list[LoraLayer], remarks: list[str]
) -> tuple[LoraLayer, ...]:
    """Remove layers that are stored twice in different key formats."""
    found: dict[str, LoraLayer] = {}
    doubles = 0
    for layer in layers:
        first = found.setdefault(layer.key, layer)
        if first is layer:
            continue
        pairs = (
            (first.factors.up, layer.factors.up),
            (first.factors.down, layer.factors.down),
        )
        same = all(equal_numbers(*pair) for pair in pairs)
        same = same and _same_scales(first.factors, layer.factors)
        if not same or first.factors.scale != layer.factors.scale:
            raise ModelError(
                f"{path}: {first.stem} and {layer.stem} are the same layer, but "
                "have different values. Remove the keys of one of them from the "
                "file."
            )
        doubles += 1
    if doubles:
        remarks.append(_stored_twice(doubles))
    return tuple(sorted(found.values(), key=_place))


def _same_scales(one: LoraFactors, two: LoraFactors) -> bool:
    """Return whether two layers have the same DoRA scales, or none."""
    for part in ("dora_scale", "magnitude"):
        pair = getattr(one, part), getattr(two, part)
        given = [lengths.flatten() for lengths in pair if lengths is not None]
        if len(given) == 1 or (given and not equal_numbers(*given)):
            return False
    return True


def _stored_twice(doubles: int) -> str:
    return (
        counted(doubles, "layer is stored twice", "layers are stored twice")
        + ", in two key formats. Each of them is used once."
    )


def _place(layer: LoraLayer) -> list[tuple[int, str]]:
    """Return a sort key for layers, with numbers in numeric order."""
    pieces = re.split(r"(\d+)", layer.key)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in pieces]
