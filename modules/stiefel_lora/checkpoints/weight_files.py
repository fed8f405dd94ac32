"""Selection of the weight files of a component in a folder.

File names are those of diffusers and transformers: ``<stem>.safetensors``, or
``<stem>.safetensors.index.json`` with its shards, optionally with a variant such as
``fp16`` before the suffix, or a pickle file with the same stem.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from .._exceptions import ModelError
from .header import Entry, read_header, refuse_stand_in
from .model_files import read_model_json

__all__ = ["WeightFiles", "find_weights", "table_of"]

log = logging.getLogger("stiefel_lora")

# Preferred if there are only variants.
_VARIANTS = ("fp16", "bf16")
# Stems of pickles that differ from those of safetensors, from transformers.
_PICKLED = {"model": "pytorch_model"}
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


@dataclasses.dataclass(frozen=True)
class WeightFiles:
    """Weight files of a component."""

    files: tuple[Path, ...]
    variant: str | None = None
    pickled: bool = False
    listed: frozenset[str] | None = None
    """Names of the tensors in the index of the shards. Other tensors are ignored."""


def find_weights(
    folder: Path, part: str, stem: str, *, allow_pickled: bool
) -> WeightFiles:
    """Find the weight files of a component, as ``from_pretrained`` does.

    If there are only files of a variant, they are used.

    Args:
        folder: folder of the component.
        part: name of the component.
        stem: ``model`` in transformers, ``diffusion_pytorch_model`` in diffusers.
        allow_pickled: whether to use pickle files if there are no other files.

    Raises:
        ModelError: If there are no weight files, a shard is missing, the index is
            damaged, or pickle files are not allowed.
    """
    for variant in (None, *_variants(folder, stem)):
        found = _files(folder, part, stem, variant)
        if found is None:
            continue
        if variant:
            _log_variant(folder, variant)
        return dataclasses.replace(found, variant=variant)
    pickles = _pickles(folder, stem)
    if pickles is None:
        there = sorted(path.name for path in folder.iterdir() if path.is_file())
        raise ModelError(
            f"{folder} contains no weights for the {part}: {stem}.safetensors is "
            f"missing, and the folder has {', '.join(there[:8]) or 'its files'}. "
            "Download the folder again, or rename the file."
        )
    if not allow_pickled:
        raise ModelError(
            f"{folder / pickles.files[0].name} is a pickle file, which can execute "
            "arbitrary code when it is loaded, and is not opened. Use a model with "
            f"{stem}.safetensors, or set allow_pickled_weights to true if you trust "
            "it."
        )
    return pickles


def table_of(found: WeightFiles) -> dict[str, Entry]:
    """Return the names and shapes of all tensors. Values are not read.

    Raises:
        ModelError: If a file is damaged, incomplete, or a Git LFS pointer.
    """
    entries: dict[str, Entry] = {}
    for path in found.files:
        entries |= _pickled_table(path) if found.pickled else read_header(path).entries
    if found.listed is None:
        return entries
    return {name: entry for name, entry in entries.items() if name in found.listed}


def _files(
    folder: Path, part: str, stem: str, variant: str | None
) -> WeightFiles | None:
    middle = f".{variant}" if variant else ""
    index = folder / f"{stem}.safetensors.index{middle}.json"
    single = folder / f"{stem}{middle}.safetensors"
    # transformers prefers the single file, diffusers the index.
    order = (index, single) if stem != "model" else (single, index)
    first = next((path for path in order if path.is_file()), None)
    if first is None:
        return None
    return WeightFiles((single,)) if first == single else _shards(index, part)


def _shards(index: Path, part: str) -> WeightFiles:
    names = read_model_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(
            f"{index} is damaged: it contains no weight_map. Download it again."
        )
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if Path(name).name != name or not name.endswith((".safetensors", ".bin")):
            raise ModelError(
                f"{index} is damaged: the file {name[:80]!a} does not exist. "
                "Download it again."
            )
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{index.parent} is incomplete: {len(missing)} of {len(shards)} files "
            f"of the {part} are missing, for example {missing[0]}. Download them "
            "again."
        )
    files = tuple(index.parent / name for name in shards)
    return WeightFiles(files, listed=frozenset(names))


def _variants(folder: Path, stem: str) -> list[str]:
    """Return the variants of the weights, in order of preference."""
    pattern = rf"{stem}\.(?:safetensors\.index\.)?([\w]+)\.(?:safetensors|json)"
    found = {
        match[1]
        for path in folder.iterdir()
        if (match := re.fullmatch(pattern, path.name)) and match[1] != "index"
    } - {"safetensors"}
    return sorted(found, key=lambda name: (name not in _VARIANTS, name))


def _pickles(folder: Path, stem: str) -> WeightFiles | None:
    stem = _PICKLED.get(stem, stem)
    single, index = folder / f"{stem}.bin", folder / f"{stem}.bin.index.json"
    if single.is_file():
        return WeightFiles((single,), pickled=True)
    if index.is_file():
        return dataclasses.replace(_shards(index, folder.name), pickled=True)
    for path in sorted(folder.glob(f"{stem}.*.bin")):
        variant = path.name[len(stem) + 1 : -len(".bin")]
        return WeightFiles((path,), variant, pickled=True)
    return None


def _pickled_table(path: Path) -> dict[str, Entry]:
    refuse_stand_in(path)
    try:
        # weights_only: only tensors, nothing that can run; mmap and meta: no values.
        # Files of torch before 1.6 are no archives and cannot be mapped.
        archive = zipfile.is_zipfile(path)
        state: Any = torch.load(
            path, map_location="meta", weights_only=True, mmap=archive
        )
        return {
            name: Entry(
                _DTYPES.get(tensor.dtype, str(tensor.dtype)),
                tuple(tensor.shape),
                0,
                tensor.nbytes,
            )
            for name, tensor in state.items()
            if isinstance(tensor, torch.Tensor)
        }
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise ModelError(
            f"The weights in {path} cannot be read ({type(error).__name__}). "
            "Download them again, or use a .safetensors file."
        ) from error


_logged: set[tuple[Path, str]] = set()


def _log_variant(folder: Path, variant: str) -> None:
    """Log the use of a variant once per folder."""
    if (folder, variant) not in _logged:
        _logged.add((folder, variant))
        log.warning(
            "%s: only the variant %s was found, and it is used.", folder, variant
        )
