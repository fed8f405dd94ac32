"""Write a LoRA file in the spelling that its layers have.

Loaders differ in their treatment of alpha, so the scale is written where each of them
applies it alike:

* Files with alpha tensors (kohya and its kin) get one alpha for all layers, A making up
  for it: diffusers 0.42 gives some layers of a U-Net the alpha of others.
* Files without alpha tensors (PEFT) get the scale multiplied into A, so that alpha is
  the rank of each layer, and adapter metadata to match where diffusers reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..._exceptions import OutputError
from .._prepare import stored
from ..peft import adapter_metadata
from ..tensors import legacy_hash, tensor_hash, write_tensors
from ..weights import COMPONENTS, with_one_alpha
from .differences import difference, relative, update_norm
from .lora_file import LoraFile, LoraLayer
from .open_lora import open_lora

__all__ = ["Lineage", "Saved", "check_output", "command_line", "save_lora"]

_ADAPTER = "lora_adapter_metadata"
_LINEAGE = "stiefel_lora_lineage"


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Origin of a file that was made from others."""

    parents: Sequence[LoraFile]
    command: str

    def to_json(self) -> str:
        """Names and hashes of the parents and the command, for the metadata."""
        parents = [
            {
                "name": parent.path.name,
                "sha256": hashlib.sha256(parent.path.read_bytes()).hexdigest(),
            }
            for parent in self.parents
        ]
        return json.dumps({"parents": parents, "command": self.command})


@dataclasses.dataclass(frozen=True)
class Saved:
    """A file that was written and read back."""

    file: LoraFile
    deviation: float
    """Largest over the layers: norm of stored minus meant update, relative to the
    latter."""

    remarks: tuple[str, ...]
    differences: tuple[float, ...] = ()
    """Frobenius norm of stored minus meant update of each layer."""

    norms: tuple[float, ...] = ()
    """Frobenius norm of the meant update of each layer."""


def check_output(
    path: str | os.PathLike[str], inputs: Sequence[Path], *, overwrite: bool
) -> None:
    """Refuse an output that exists or is an input, before any work is done.

    Raises:
        OutputError: one of the two.
    """
    path = Path(path)
    if any(path.exists() and path.samefile(given) for given in inputs):
        raise OutputError(
            f"--output: {path} is an input, which is never changed. Name another file."
        )
    if path.exists() and not overwrite:
        raise OutputError(
            f"--output: {path} exists. Add --overwrite, or name another file."
        )


def save_lora(
    path: str | os.PathLike[str],
    file: LoraFile,
    *,
    dtype: torch.dtype | None = None,
    lineage: Lineage | None = None,
    one_alpha: bool = True,
) -> Saved:
    """Write layers, other adapters and metadata of ``file``; read them back.

    Args:
        path: to write, in one step.
        file: layers with their spelling, as ``open_lora`` gives them; their factors may
            have been replaced. Its unknown tensors are left out.
        dtype: of the factors; by default the widest of the file.
        lineage: written into the metadata.
        one_alpha: give all layers one alpha, A making up for it; else keep theirs.

    Raises:
        OutputError: the system refused, or a value does not fit ``dtype``.
    """
    dtype = dtype or file.widest_dtype
    meant = {layer.key: layer for layer in file.layers}
    layers = _with_one_alpha(file.layers) if one_alpha else list(file.layers)
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        tensors |= _tensors(layer, dtype)
    for other in file.others:
        tensors |= other.tensors
    metadata, remarks = _metadata(file, layers, tensors, lineage)
    write_tensors(path, tensors, metadata)
    written = open_lora(path)
    pairs = [(layer.factors, meant[layer.key].factors) for layer in written.layers]
    lost = tuple(difference(*pair) for pair in pairs)
    norms = tuple(update_norm(wanted) for _, wanted in pairs)
    deviation = max(map(relative, lost, norms), default=0.0)
    return Saved(written, deviation, tuple(remarks), lost, norms)


def command_line(verb: str, *arguments: object) -> str:
    """The command that makes a file, with names of files instead of paths."""
    texts = [a.name if isinstance(a, Path) else str(a) for a in arguments]
    return shlex.join(["stiefel-lora", "lora", verb, *texts])


def _holds_alpha(layer: LoraLayer) -> bool:
    """Whether loaders of this spelling look for an alpha beside the factors."""
    return "alpha" in layer.suffixes or "." not in layer.stem


def _with_one_alpha(layers: Sequence[LoraLayer]) -> list[LoraLayer]:
    own = {layer.key: layer.factors for layer in layers if _holds_alpha(layer)}
    same = with_one_alpha(own)
    return [
        dataclasses.replace(layer, factors=same.get(layer.key, layer.factors))
        for layer in layers
    ]


def _tensors(layer: LoraLayer, dtype: torch.dtype) -> dict[str, Tensor]:
    factors, suffixes, stem = layer.factors, layer.suffixes, layer.stem
    holds_alpha = _holds_alpha(layer)
    scale = 1.0 if holds_alpha else factors.scale
    found = {
        stem + suffixes["up"]: stored(layer.name, factors.up, dtype),
        stem + suffixes["down"]: stored(layer.name, factors.down, dtype, scale=scale),
    }
    if holds_alpha:
        alpha = torch.tensor(factors.alpha, dtype=torch.float32)
        found[stem + suffixes.get("alpha", ".alpha")] = alpha
    for part in ("dora_scale", "magnitude"):
        lengths = getattr(factors, part)
        if lengths is not None:
            found[stem + suffixes[part]] = stored(layer.name, lengths, lengths.dtype)
    return found


def _metadata(
    file: LoraFile,
    layers: Sequence[LoraLayer],
    tensors: dict[str, Tensor],
    lineage: Lineage | None,
) -> tuple[dict[str, str], list[str]]:
    found = {"format": "pt", **file.metadata}
    found.pop(_ADAPTER, None)
    remarks: list[str] = []
    if layers and not any(map(_holds_alpha, layers)):
        remarks += _describe_ranks(found, layers)
    if "ss_network_dim" in found and layers:
        ranks = {layer.factors.rank for layer in layers}
        alphas = {layer.factors.alpha for layer in layers}
        # sd-scripts' own word for ranks that differ.
        found["ss_network_dim"] = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
        found["ss_network_alpha"] = str(alphas.pop()) if len(alphas) == 1 else "Dynamic"
    if lineage is not None:
        found[_LINEAGE] = lineage.to_json()
    digest = tensor_hash(tensors)
    if "modelspec.hash_sha256" in found:
        found["modelspec.hash_sha256"] = f"0x{digest}"
    if "sshs_model_hash" in found:
        found["sshs_model_hash"] = digest
    if "sshs_legacy_hash" in found:
        found["sshs_legacy_hash"] = legacy_hash(tensors, found)
    return found, remarks


def _describe_ranks(metadata: dict[str, str], layers: Sequence[LoraLayer]) -> list[str]:
    """Adapter metadata where diffusers reads it; a remark where nothing can help."""
    ranks = {layer.stem: layer.factors.rank for layer in layers}
    prefixes = tuple(f"{component}." for component in COMPONENTS)
    if all(stem.startswith(prefixes) for stem in ranks):
        is_dora = any(layer.factors.is_dora for layer in layers)
        adapter = adapter_metadata(ranks, is_dora)
        metadata[_ADAPTER] = json.dumps(adapter, sort_keys=True)
        return []
    if layers[0].stem.startswith("base_model.model."):
        return [
            "The scale is in the weights: adapter_config.json beside this file must "
            "have the ranks of the file, and alphas equal to them."
        ]
    return []
