"""Safetensors files of a checkpoint: a single file, or the files of a folder.

A folder contains a model in the diffusers format (``config.json`` and a file or shards
with an index), or a pipeline with a folder for each model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from ..._exceptions import ModelError
from ..tensors import Stored, check_no_pickle, read_table

__all__ = ["CheckpointFile", "checkpoint_files"]

_MODELS = ("unet", "transformer", "text_encoder", "text_encoder_2")
_INDEX = ".safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class CheckpointFile:
    """File with a table of its tensors."""

    path: Path
    prefix: str
    """Prefix of the keys by model of a pipeline, such as ``unet.``."""

    table: Mapping[str, Stored]
    """Tensors by their keys in the file."""

    metadata: Mapping[str, str]


def checkpoint_files(path: Path) -> list[CheckpointFile]:
    """Open all files of a checkpoint. Values are not read.

    Args:
        path: path of a file or folder.

    Raises:
        ModelError: If the file is a pickle, or the folder contains no weights or
            several sets of weights.
        OSError: If the operating system reports an error.
        SafetensorError: If a header does not match its file.
        ValueError: If torch does not support a dtype, or an index is not valid JSON.
    """
    if not path.is_dir():
        return [_opened(path, "")]
    own = _weights(path)
    if own:
        return [_opened(file, "") for file in own]
    found = [
        _opened(file, f"{model}.")
        for model in _MODELS
        if (path / model).is_dir()
        for file in _weights(path / model)
    ]
    if not found:
        raise ModelError(
            f"{path} contains no .safetensors files, and none of the folders "
            f"{', '.join(_MODELS)}. Use a checkpoint file, or the folder of a "
            "diffusers model or pipeline."
        )
    return found


def _weights(folder: Path) -> list[Path]:
    """Return the files of a model in a folder."""
    shards: set[Path] = set()
    indices = sorted(folder.glob(f"*{_INDEX}"))
    for index in indices:
        shards |= {folder / name for name in _listed(index)}
    alone = set(folder.glob("*.safetensors")) - shards
    if len(indices) + len(alone) > 1:
        names = sorted(file.name for file in [*indices, *alone])
        raise ModelError(
            f"{folder} contains several sets of weights: {', '.join(names)}. Move "
            "all but one of them to another folder."
        )
    return sorted(shards | alone)


def _listed(index: Path) -> set[str]:
    """Return the names of the shards of an index."""
    found = json.loads(index.read_text("utf-8"))
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict):
        raise ModelError(f"{index} contains no weight_map. Download or save it again.")
    names = set(places.values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(
                f"{index}: the file {name!r} does not exist. Download or save it again."
            )
    return names


def _opened(path: Path, prefix: str) -> CheckpointFile:
    check_no_pickle(path)
    table, metadata = read_table(path)
    return CheckpointFile(path, prefix, table, metadata)
