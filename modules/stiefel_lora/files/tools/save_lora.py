"""Writing of LoRA files in the key format of their layers.

The scale is stored in a form that all loaders support:

* In files with alpha tensors (kohya and similar), all layers have the same alpha, and A
  is rescaled, because diffusers 0.42 does not support different alphas in a U-Net.
* In files without alpha tensors (PEFT), the scale is multiplied into A, so that alpha
  is the rank of each layer. Adapter metadata are written if diffusers reads them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Collection, Sequence
from enum import Enum
from pathlib import Path
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from ..._exceptions import ModelError, OutputError
from ..._wording import counted
from .._prepare import stored
from ..peft import adapter_metadata
from ..streamed import Spec, write_streamed
from ..weights import COMPONENTS, LoraFactors, commonest_alpha
from .accounting import check_all_written
from .differences import compared, relative
from .lora_file import LoraFile, LoraLayer
from .open_lora import open_lora
from .planned import Planned
from .suffixes import is_of_peft

__all__ = [
    "NEEDS_SETTINGS",
    "NO_EFFECT",
    "Lineage",
    "Saved",
    "adapter_entry",
    "adapter_size",
    "command_line",
    "holds_alpha",
    "kept_metadata",
    "save_lora",
    "write_lora",
]

NO_EFFECT = "All updates are 0, so the LoRA has no effect."
"""Message about a file whose layers are all dead."""

NEEDS_SETTINGS = (
    "The scale is merged into the weights. The adapter_config.json in the folder of "
    "this file must have the ranks of this file, and alphas equal to them."
)
"""Message about a file in the key format of peft without a folder."""

# Largest value of a factor, in units of the smallest normal number, below which most of
# its values have few digits or none.
_SUBNORMAL = 8.0
# Range of an alpha that other layers can be rescaled to.
_USUAL = (1e-6, 1e6)
_ADAPTER = "lora_adapter_metadata"
_LINEAGE = "stiefel_lora_lineage"


class _OnDisk(Protocol):
    @property
    def path(self) -> Path: ...


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Origin of a file that was created from other files."""

    parents: Sequence[_OnDisk]
    """All files and folders that are read, which the output must not replace."""

    command: str

    @property
    def inputs(self) -> list[Path]:
        """Paths of the inputs. The folder, if a file was opened by it."""
        return [getattr(one, "folder", None) or one.path for one in self.parents]

    @property
    def loras(self) -> list[LoraFile]:
        """Inputs that are LoRA files. The others are checkpoints."""
        return [one for one in self.parents if isinstance(one, LoraFile)]

    @property
    def size(self) -> int:
        """Size of the entry in the header in bytes. Files are not read."""
        text = self._text(["0" * 64] * len(self.parents))
        return len(json.dumps({_LINEAGE: text}))

    def to_json(self) -> str:
        """Return the names and hashes of input files, and the command, as JSON."""
        return self._text([_digest(parent.path) for parent in self.parents])

    def _text(self, digests: Sequence[str]) -> str:
        parents = [
            {"name": parent.path.name, "sha256": digest}
            for parent, digest in zip(self.parents, digests, strict=True)
        ]
        return json.dumps({"parents": parents, "command": self.command})


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the hashes of the files in a folder."""
    if path.is_dir():
        files = sorted(path.rglob("*.safetensors"))
        listed = [f"{_digest(file)}  {file.relative_to(path)}" for file in files]
        return hashlib.sha256("\n".join(listed).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Saved:
    """Result of :func:`save_lora`: a written and verified file."""

    file: LoraFile
    deviation: float
    """Maximum relative rounding error of the update of a layer (Frobenius norm)."""

    remarks: tuple[str, ...]
    differences: tuple[float, ...] = ()
    """Frobenius norms of the rounding errors of the updates by layer."""

    norms: tuple[float, ...] = ()
    """Frobenius norms of the exact updates by layer."""

    error: float | None = None
    """Relative error of layers that were approximated, with rounding, or None."""

    def with_remarks(self, remarks: Sequence[str]) -> Saved:
        """Return a copy with additional messages."""
        return dataclasses.replace(self, remarks=(*remarks, *self.remarks))


def save_lora(
    path: str | os.PathLike[str],
    given: LoraFile | Planned,
    *,
    dtype: torch.dtype | None = None,
    lineage: Lineage | None = None,
    one_alpha: bool = True,
    reported: Collection[str] = (),
    overwrite: bool = True,
) -> Saved:
    """Write the layers, other adapters and metadata of a LoRA, and verify the file.

    An existing file is only replaced by a complete and verified one.

    Args:
        path: path of the file.
        given: file from :func:`open_lora`, or a plan. Unknown tensors are not written.
        dtype: dtype of the factors. The default is the widest dtype of the file.
        lineage: origin that is written to the metadata.
        one_alpha: whether to use the same alpha for all layers and rescale A. If False,
            the alphas are not changed.
        reported: keys of layers and other tensors of the inputs that are not in the
            output on purpose (see :func:`.accounting.check_all_written`).
        overwrite: whether to replace a file that exists at the end.

    Raises:
        ModelError: If two layers have the same key, or there is nothing to write.
        OutputError: If the file cannot be written, a value exceeds the range of
            ``dtype``, or something in the inputs would be lost.
    """
    plan = given if isinstance(given, Planned) else Planned.of(given)
    if lineage is not None:
        check_all_written(lineage.loras, plan.file, reported)
    return write_lora(
        path,
        plan,
        dtype=dtype,
        lineage=lineage,
        one_alpha=one_alpha,
        overwrite=overwrite,
    )


def write_lora(
    path: str | os.PathLike[str],
    plan: Planned,
    *,
    dtype: torch.dtype | None = None,
    lineage: Lineage | None = None,
    one_alpha: bool = True,
    overwrite: bool = True,
) -> Saved:
    """Write a file that may contain only a part of its inputs.

    See :func:`save_lora` for the arguments and errors.
    """
    file = plan.file
    if not file.layers and not file.others:
        raise ModelError(
            f"{file.path} contains nothing that can be written to a LoRA file: it has "
            "no layer with two factors and no embedding. Use another file."
        )
    dtype = dtype or file.widest_dtype
    layers = _as_stored(file.layers, one_alpha)
    writer = _Writer(plan, layers, dtype)
    metadata, remarks = _metadata(file, layers, lineage)
    found: list[LoraFile] = []
    write_streamed(
        path,
        writer.specs,
        writer.tensor,
        metadata,
        check=lambda part: found.append(_read_back(part, Path(path), writer)),
        overwrite=overwrite,
    )
    (written,) = found
    order = [layer.stem for layer in written.layers]
    lost = tuple(writer.compared[stem][0] for stem in order)
    norms = tuple(writer.compared[stem][1] for stem in order)
    deviation = max(map(relative, lost, norms), default=0.0)
    inputs = lineage.loras if lineage else []
    read = [f"{x.path.name}: {remark}" for x in inputs for remark in x.remarks]
    read += [
        f"{x.path.name}: left out: {x.unknown_text}" for x in inputs if x.unknown_text
    ]
    if writer.too_small:
        count = counted(len(writer.too_small), "layer has", "layers have")
        remarks = [
            *remarks,
            f"{count} factors that are too small for {_short(dtype)} and lose digits, "
            f"for example {writer.too_small[0]}. Use float32 as dtype.",
        ]
    if norms and not any(norms) and not any(x.factors.is_dora for x in written.layers):
        remarks = [*remarks, NO_EFFECT]
    return Saved(written, deviation, (*read, *remarks), lost, norms)


def _read_back(part: Path, path: Path, writer: _Writer) -> LoraFile:
    """Open a new file under its temporary name."""
    try:
        written = open_lora(part)
    except ModelError as error:
        raise OutputError(str(error).replace(str(part), str(path))) from error
    if {layer.stem for layer in written.layers} != set(writer.compared):
        raise OutputError(
            f"{path}: the layers read back differ from the layers written. Check "
            "the disk, and save the file again."
        )
    layers = tuple(_as_named(x, writer.by_stem[x.stem]) for x in written.layers)
    return dataclasses.replace(written, path=path, layers=layers)


def _as_named(found: LoraLayer, wanted: LoraLayer) -> LoraLayer:
    """Return a layer with the model that only the folder of an input names."""
    if found.parsed.component == wanted.parsed.component:
        return found
    return dataclasses.replace(
        found, name=wanted.name, parsed=wanted.parsed, key=wanted.key
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def command_line(verb: str, *arguments: object, **options: object) -> str:
    """Return the command line with file names instead of paths.

    Options that are None or False are omitted. True is an option without a value, and a
    list is a repeated option.
    """
    texts = list(map(_word, arguments))
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                texts.append(option)
            elif one is not None and one is not False:
                texts += [option, _word(one)]
    return shlex.join(["stiefel-lora", "lora", verb, *texts])


def _word(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return value.name if isinstance(value, Path) else str(value)


def holds_alpha(layer: LoraLayer) -> bool:
    """Return whether the key format has alpha tensors."""
    # A layer of the original FLUX.1 such as img_in has no dot in its name either.
    underscored = "." not in layer.stem and not is_of_peft(layer.suffixes["down"])
    return "alpha" in layer.suffixes or underscored


def _as_stored(layers: Sequence[LoraLayer], one_alpha: bool) -> list[LoraLayer]:
    """Return the layers with the alphas that are written to the file."""
    own = [layer.factors.alpha for layer in layers if holds_alpha(layer)]
    # An alpha of 0 cannot be rescaled, and a tiny one makes A of other layers overflow.
    usual = [alpha for alpha in own if _USUAL[0] < abs(alpha) < _USUAL[1]]
    own = usual or [alpha for alpha in own if alpha] or own
    common = commonest_alpha(own) if own and one_alpha else None
    found = []
    for layer in layers:
        alpha = layer.factors.alpha if common is None else common
        alpha = alpha if holds_alpha(layer) else float(layer.factors.rank)
        factors = _with_shapes_of_loaders(layer.factors)
        factors = dataclasses.replace(factors, alpha=alpha)
        found.append(dataclasses.replace(layer, factors=factors))
    return found


def _with_shapes_of_loaders(factors: LoraFactors) -> LoraFactors:
    """Reshape DoRA scales, because loaders do not reshape them.

    ComfyUI and Forge divide ``dora_scale`` by norms of shape (out, 1) or (out, 1, 1,
    1). peft has a magnitude of shape (out,), or (1, out, 1, 1) for convolutions.
    """
    ones = [1] * (factors.up.ndim - 1)
    scale, magnitude = factors.dora_scale, factors.magnitude
    before = ones[:1] if len(ones) > 1 else []
    return dataclasses.replace(
        factors,
        dora_scale=None if scale is None else scale.reshape(-1, *ones),
        magnitude=(
            None if magnitude is None else magnitude.reshape(*before, -1, *ones[1:])
        ),
    )


class _Writer:
    """Tensors of a file, which are computed on demand, and their rounding errors."""

    def __init__(
        self, plan: Planned, layers: Sequence[LoraLayer], dtype: torch.dtype
    ) -> None:
        self._plan, self._dtype = plan, dtype
        self._own: dict[str, tuple[LoraLayer, LoraLayer, str]] = {}
        self.by_stem = {layer.stem: layer for layer in layers}
        self._others = {k: t for o in plan.file.others for k, t in o.tensors.items()}
        self._pair: dict[str, Tensor] = {}
        self.compared: dict[str, tuple[float, float]] = {}
        """Norms of the rounding error and the exact update, by stem."""
        self.too_small: list[str] = []
        """Names of layers with a factor below the normal range of the dtype."""
        self.specs = {key: Spec.of(tensor) for key, tensor in self._others.items()}
        for given, layer in zip(plan.file.layers, layers, strict=True):
            for part, (suffix, spec) in _specs(layer, dtype).items():
                key = layer.stem + suffix
                if key in self.specs:
                    self._raise_for_double(key, layer)
                self._own[key] = given, layer, part
                self.specs[key] = spec

    def _raise_for_double(self, key: str, layer: LoraLayer) -> NoReturn:
        first = self._own[key][1].name if key in self._own else "another adapter"
        raise ModelError(
            f"{layer.name} and {first} have the same key {key} in the output, so one "
            "of them would be lost. Use another key format, or save them to separate "
            "files."
        )

    def tensor(self, key: str) -> Tensor:
        """Return the tensor of a key in the stored dtype."""
        if key in self._others:
            return self._others[key]
        given, layer, part = self._own[key]
        if part == "alpha":
            return torch.tensor(layer.factors.alpha, dtype=torch.float32)
        if part in ("dora_scale", "magnitude"):
            lengths = getattr(layer.factors, part)
            return stored(layer.name, lengths, lengths.dtype)
        if key not in self._pair:
            # Both factors are adjacent in the file.
            self._pair = self._factors(given, layer)
        return self._pair.pop(key)

    def _factors(self, given: LoraLayer, layer: LoraLayer) -> dict[str, Tensor]:
        meant = self._plan.factors(given)
        alpha = layer.factors.alpha
        up = stored(layer.name, meant.up, self._dtype, copy=False)
        scale = 1.0 if meant.alpha == alpha else meant.alpha / alpha
        down = stored(layer.name, meant.down, self._dtype, scale=scale, copy=False)
        # Alphas are float32.
        exact = float(torch.tensor(alpha, dtype=torch.float32))
        kept = LoraFactors(up, down, exact)
        plain = LoraFactors(meant.up, meant.down, meant.alpha)
        self.compared[layer.stem] = compared(kept, plain)
        if self._dtype.itemsize < 4:
            least = _SUBNORMAL * torch.finfo(self._dtype).tiny
            largest = _largest(meant.up), _largest(meant.down) * abs(scale)
            if any(0 < value < least for value in largest):
                self.too_small.append(layer.name)
        suffixes, stem = layer.suffixes, layer.stem
        return {stem + suffixes["up"]: up, stem + suffixes["down"]: down}


def _largest(factor: Tensor) -> float:
    # 8 bits have no maximum.
    wide = factor.float() if factor.dtype.itemsize == 1 else factor
    return float(wide.abs().max())


def _specs(layer: LoraLayer, dtype: torch.dtype) -> dict[str, tuple[str, Spec]]:
    """Return suffix, dtype and shape of each part of a layer."""
    factors, suffixes = layer.factors, layer.suffixes
    found = {
        part: (suffixes[part], Spec(dtype, tuple(getattr(factors, part).shape)))
        for part in ("up", "down")
    }
    if holds_alpha(layer):
        found["alpha"] = suffixes.get("alpha", ".alpha"), Spec(torch.float32, ())
    for part in ("dora_scale", "magnitude"):
        lengths = getattr(factors, part)
        if lengths is not None:
            found[part] = suffixes[part], Spec.of(lengths)
    return found


def _metadata(
    file: LoraFile,
    layers: Sequence[LoraLayer],
    lineage: Lineage | None,
) -> tuple[dict[str, str], list[str]]:
    found = {"format": "pt", **kept_metadata(file)}
    remarks: list[str] = []
    if entry := adapter_entry(layers):
        found[_ADAPTER] = entry
    elif layers and not any(map(holds_alpha, layers)):
        own = layers[0].stem.startswith("base_model.model.")
        remarks += [NEEDS_SETTINGS] if own else []
    if "ss_network_dim" in found and layers:
        ranks = {layer.factors.rank for layer in layers}
        alphas = {layer.factors.alpha for layer in layers}
        # sd-scripts' value for ranks that differ between layers.
        found["ss_network_dim"] = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
        found["ss_network_alpha"] = str(alphas.pop()) if len(alphas) == 1 else "Dynamic"
    if lineage is not None:
        found[_LINEAGE] = lineage.to_json()
    return found, remarks


def adapter_entry(layers: Sequence[LoraLayer]) -> str:
    """Return the adapter metadata for diffusers, or "" if a file contains none."""
    ranks = {layer.stem: layer.factors.rank for layer in layers}
    prefixes = tuple(f"{component}." for component in COMPONENTS)
    if not layers or not all(stem.startswith(prefixes) for stem in ranks):
        return ""
    if any(map(holds_alpha, layers)):
        return ""
    doras = [layer.stem for layer in layers if layer.factors.is_dora]
    return json.dumps(adapter_metadata(ranks, doras), sort_keys=True)


def adapter_size(layers: Sequence[LoraLayer]) -> int:
    """Return an upper bound of the size of the adapter metadata in bytes."""
    entry = adapter_entry(layers)
    return len(json.dumps({_ADAPTER: entry})) if entry else 0


def kept_metadata(file: LoraFile) -> dict[str, str]:
    """Return the metadata without those of the adapter, which are created."""
    return {key: text for key, text in file.metadata.items() if key != _ADAPTER}
