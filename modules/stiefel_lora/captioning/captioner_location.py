"""Files of a captioning model, in a folder or from the Hugging Face Hub.

A folder with ``selected_tags.csv`` and an ONNX file is a tagger, and one with
``config.json`` a model of transformers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .._exceptions import ModelError
from ..config.path_text import expanded, is_hub_name

__all__ = ["CaptionerFiles", "find_captioner"]

TAGS = "selected_tags.csv"
ONNX = "model.onnx"
CONFIG = "config.json"
# Not the weights of other frameworks, which have the same size.
_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]


@dataclasses.dataclass(frozen=True)
class CaptionerFiles:
    """Files of a captioning model."""

    folder: Path
    tags: Path | None = None
    """Table of the tags of a tagger, or None."""

    onnx: Path | None = None
    """Weights of a tagger, or None."""


def find_captioner(model: str, *, download: bool = False) -> CaptionerFiles:
    """Find the files of a captioning model.

    Args:
        model: folder, ONNX file, or name on the Hugging Face Hub, which is searched in
            the cache of this machine.
        download: whether to download a model that is not on this machine.

    Raises:
        ModelError: If there are no files of a captioning model.
    """
    path = expanded(model)
    if path.is_file():
        return _in_folder(path.parent, path)
    if path.is_dir():
        return _in_folder(path)
    if not is_hub_name(model):
        raise ModelError(
            f"--model: {model} is neither a file, a folder nor a name on the Hugging "
            "Face Hub. Use for example SmilingWolf/wd-vit-tagger-v3."
        )
    return _from_hub(model, download=download)


def _in_folder(folder: Path, onnx: Path | None = None) -> CaptionerFiles:
    tags = folder / TAGS
    if onnx is None:
        found = sorted(folder.glob("*.onnx"))
        usual = folder / ONNX
        onnx = usual if usual in found else next(iter(found), None)
    if tags.is_file() and onnx is not None:
        return CaptionerFiles(folder, tags, onnx)
    if onnx is not None and not (folder / CONFIG).is_file():
        raise ModelError(
            f"--model: {TAGS} is missing in {folder}. It has the names of the tags of "
            f"{onnx.name}."
        )
    if tags.is_file():
        raise ModelError(
            f"--model: the ONNX file (such as {ONNX}) is missing in {folder}."
        )
    if (folder / CONFIG).is_file():
        return CaptionerFiles(folder)
    raise ModelError(
        f"--model: the folder {folder} contains neither {TAGS} and an ONNX file (a "
        f"tagger) nor {CONFIG} (a model of transformers)."
    )


def _from_hub(name: str, *, download: bool) -> CaptionerFiles:
    """Find the files of a model in the cache of huggingface_hub."""
    try:
        folder = _snapshot(name, local_files_only=not download)
        # A download that was interrupted leaves a folder without its last files.
        return _in_folder(folder)
    except Exception as error:
        # The client of the hub raises a dozen unrelated classes.
        if not download:
            raise ModelError(
                f"--model: {name} is not on this machine. Add --download to download "
                "it from the Hugging Face Hub (size and license: "
                f"https://huggingface.co/{name})."
            ) from error
        if isinstance(error, ModelError):
            raise
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"--model: {name} cannot be downloaded from the Hugging Face Hub "
            f"({reason})."
        ) from error


def _snapshot(name: str, **where: Any) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = huggingface_hub.hf_hub_download(name, TAGS, **where)
        huggingface_hub.hf_hub_download(name, ONNX, **where)
    except EntryNotFoundError:
        # Not a tagger, or one that is not on this machine.
        return Path(
            huggingface_hub.snapshot_download(name, allow_patterns=_PATTERNS, **where)
        )
    return Path(path).parent
