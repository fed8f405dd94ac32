"""Find a base model in diffusers layout and look at it before it is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .._exceptions import ModelError

__all__ = ["fingerprint", "read_json", "resolve_model"]

_PARTS = {
    "sdxl": (
        "unet",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ),
}
_CLASS_PREFIX = {"sdxl": "StableDiffusionXL"}
_LABEL = {"sdxl": "SDXL", "flux": "FLUX"}
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt")
_CHUNK = 1 << 16
_CHUNKS = 64


def resolve_model(name: str | None, model_type: str, *, download: bool) -> Path | None:
    """Find the folder of a base model and check that it is of this family.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        model_type: family that the configuration says.
        download: fetch a hub model that is not on this machine; False returns None.

    Raises:
        ModelError: missing, damaged, of another family, or not in diffusers layout.
    """
    if not name:
        raise ModelError(
            "base_model_name is not set; give a folder in diffusers layout or a name "
            "on the Hugging Face hub."
        )
    folder = Path(name)
    if folder.is_file():
        raise ModelError(
            f"The base model {folder} is a single file; give a folder in diffusers "
            f"layout (StableDiffusionXLPipeline.from_single_file(...)."
            f"save_pretrained(...) makes one)."
        )
    if not folder.is_dir():
        found = _from_hub(name, download)
        if found is None:
            return None
        folder = found
    _check_family(folder, model_type)
    return folder


def _from_hub(name: str, download: bool) -> Path | None:
    # A path that has more than one slash or starts like one is never a hub name.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or "\\" in name:
        raise ModelError(
            f"There is no base model folder {name}; correct base_model_name."
        )
    import diffusers
    from huggingface_hub import try_to_load_from_cache

    pipeline: Any = diffusers.DiffusionPipeline

    if not download:
        cached = try_to_load_from_cache(name, "model_index.json")
        return Path(cached).parent if isinstance(cached, str) else None
    try:
        return Path(pipeline.download(name))
    except Exception as error:
        # The hub's client raises a dozen unrelated classes; all mean: not here.
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"The base model {name!r} is neither a folder here nor to be had from the "
            f"hub ({reason}); correct base_model_name."
        ) from error


def _check_family(folder: Path, model_type: str) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(
            f"The base model folder {folder} has no model_index.json, so it is not in "
            f"diffusers layout; give the folder that holds unet, vae and text_encoder."
        )
    kind = read_json(index).get("_class_name")
    if not isinstance(kind, str):
        raise ModelError(f"{index} is damaged: it names no _class_name.")
    if not kind.startswith(_CLASS_PREFIX[model_type]):
        other = next((key for key in _LABEL if kind.lower().startswith(key)), None)
        what = f"a {_LABEL[other]} model" if other else "another kind of model"
        raise ModelError(
            f"The base model {folder} is {what} ({kind}), but model_type is "
            f"{model_type!r}; give an {_LABEL[model_type]} model."
        )
    for part in _PARTS[model_type]:
        _check_part(folder, part)


def _check_part(folder: Path, part: str) -> None:
    inside = folder / part
    if not inside.is_dir():
        raise ModelError(
            f"The base model {folder} is incomplete: its part {part} is missing."
        )
    if part.startswith("tokenizer"):
        return
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    read_json(inside / name)
    if part != "scheduler" and not _weight_files(inside):
        raise ModelError(
            f"The base model {folder} is incomplete: {part} has no weights."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: missing, unreadable or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is missing or damaged; fetch the base model again."
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is damaged: it is not a JSON object.")
    return value


def _weight_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in _WEIGHT_SUFFIXES)


def fingerprint(folder: Path, parts: tuple[str, ...], *settings: str) -> str:
    """Hash of parts of a model: small files whole, of large ones 64 pieces of 64 KiB.

    Gigabytes are not read whole: the head of a safetensors file (names, shapes), its
    size and pieces from all over it tell trained models apart.
    """
    digest = hashlib.sha256("/".join(settings).encode())
    for part in parts:
        for path in sorted((folder / part).rglob("*")):
            # READMEs and licences do not change what a model computes.
            if path.is_file() and path.suffix in (".json", ".txt", *_WEIGHT_SUFFIXES):
                digest.update(f"{part}/{path.name}/{path.stat().st_size}".encode())
                _sample_file(path, digest)
    return digest.hexdigest()


def _sample_file(path: Path, digest: Any) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _CHUNK * _CHUNKS:
            digest.update(file.read())
            return
        for index in range(_CHUNKS):
            file.seek((size - _CHUNK) * index // (_CHUNKS - 1))
            digest.update(file.read(_CHUNK))
