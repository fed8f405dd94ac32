"""PEFT folders: ``adapter_model.safetensors`` and ``adapter_config.json``.

A folder contains the adapter of a model. A LoRA of several models has a subfolder for
each model, such as ``unet`` and ``text_encoder``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..._exceptions import ModelError, OutputError
from ..atomic import atomic_write
from ..peft import adapter_metadata
from ..weights import COMPONENTS
from .accounting import check_all_written
from .embeddings import embeddings_of
from .layer_names import MODEL, parse_stem
from .lora_file import LoraFile, LoraLayer
from .open_lora import open_lora
from .output_path import Output, check_new_folder, check_output
from .peft_file_names import CONFIG, WEIGHTS
from .peft_folder_names import MODELS
from .planned import Planned
from .save_lora import NEEDS_SETTINGS, Lineage, Saved, save_lora, write_lora

__all__ = ["check_place", "save_as", "save_peft_folder"]

_FOLDER = "PEFT (own)"

_ROOT = "base_model.model."


def check_place(
    output: str | os.PathLike[str],
    spelling: str,
    inputs: Sequence[Path],
    *,
    overwrite: bool,
) -> Output:
    """Check the output path and return it. For ``PEFT (own)``, it is a new folder.

    Raises:
        OutputError: If the output exists, is an input, or cannot be used.
    """
    if spelling == _FOLDER:
        return check_new_folder(output, inputs)
    return check_output(output, inputs, overwrite=overwrite)


def save_as(
    output: str | os.PathLike[str],
    file: LoraFile,
    *,
    dtype: torch.dtype | None,
    lineage: Lineage,
    one_alpha: bool = True,
    reported: Collection[str] = (),
    overwrite: bool = True,
) -> Saved:
    """Write a file or folder in the key format of its layers.

    See :func:`save_lora` for the arguments.

    Raises:
        OutputError: If the file cannot be written, or a value exceeds the range of
            ``dtype``.
    """
    if file.spelling == _FOLDER:
        # Embeddings are omitted with a message.
        known = {*reported, *(key for x in embeddings_of(file) for key in x.tensors)}
        check_all_written(lineage.loras, file, known)
        return save_peft_folder(output, file, dtype=dtype, lineage=lineage)
    return save_lora(
        output,
        file,
        dtype=dtype,
        lineage=lineage,
        one_alpha=one_alpha,
        reported=reported,
        overwrite=overwrite,
    )


def save_peft_folder(
    path: str | os.PathLike[str],
    file: LoraFile,
    *,
    dtype: torch.dtype | None = None,
    lineage: Lineage | None = None,
) -> Saved:
    """Write a folder in the format of peft, with adapter_config.json.

    Args:
        path: path of the new folder.
        file: LoRA file in the key format ``PEFT (own)``.
        dtype: dtype of the factors. The default is the widest dtype of the file.
        lineage: origin that is written to the metadata.

    Raises:
        ModelError: If no folder can be named after one of the models.
        OutputError: If the files cannot be written, or a value exceeds the range of
            ``dtype``.
    """
    folder = Path(path)
    groups: dict[str, list[LoraLayer]] = {}
    for layer in file.layers:
        groups.setdefault(layer.parsed.component, []).append(layer)
    for component in groups:
        if component != MODEL and component not in MODELS:
            raise ModelError(
                f"{file.path}: a PEFT folder of several models contains one for each "
                f"of {', '.join(MODELS)}, but the file has layers of {component}. "
                "Use peft, or remove these layers."
            )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{folder} could not be created: {reason}. Use another folder."
        ) from error
    try:
        saved = {
            component: _save(
                folder if list(groups) == [MODEL] else folder / _name(component, file),
                dataclasses.replace(file, layers=tuple(layers), others=()),
                dtype,
                lineage,
            )
            for component, layers in groups.items()
        }
        written = open_lora(folder)
    except BaseException:
        # Created here, so the folder contains nothing else.
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        raise
    remarks = [remark for one in saved.values() for remark in one.remarks]
    if file.others:
        remarks.append(
            f"{len(file.others)} embeddings were not written, because the PEFT "
            f"format does not support them, for example {file.others[0].name}."
        )
    if any(component != MODEL for component in groups):
        remarks.append("Text encoder layers have the names of transformers 5.")
    return Saved(
        written,
        max(one.deviation for one in saved.values()),
        tuple(dict.fromkeys(remarks)),
        tuple(lost for one in saved.values() for lost in one.differences),
        tuple(norm for one in saved.values() for norm in one.norms),
    )


def _name(component: str, file: LoraFile) -> str:
    """Return the name of the folder of a component."""
    if component != MODEL:
        return component
    own = next(layer for layer in file.layers if layer.parsed.component == MODEL)
    first = own.name.partition(".")[0]
    return first if first in COMPONENTS else own.parsed.model or "transformer"


def _save(
    folder: Path,
    file: LoraFile,
    dtype: torch.dtype | None,
    lineage: Lineage | None,
) -> Saved:
    layers = []
    for layer in file.layers:
        stem = layer.stem
        if layer.parsed.component != MODEL:
            stem = stem.replace(f"{_ROOT}{layer.parsed.component}.", _ROOT, 1)
            stem = stem.replace(f"{_ROOT}text_model.", _ROOT, 1)
        parsed = parse_stem(stem)
        layers.append(dataclasses.replace(layer, stem=stem, parsed=parsed))
    file = dataclasses.replace(file, layers=tuple(layers))
    plan = Planned.of(file)
    saved = write_lora(folder / WEIGHTS, plan, dtype=dtype, lineage=lineage)
    ranks = {layer.stem: layer.factors.rank for layer in layers}
    doras = [layer.stem for layer in layers if layer.factors.is_dora]
    with atomic_write(folder / CONFIG) as part:
        part.write_text(json.dumps(_config(ranks, doras), indent=1) + "\n", "utf-8")
    # The settings are written here.
    remarks = [remark for remark in saved.remarks if remark != NEEDS_SETTINGS]
    return dataclasses.replace(saved, remarks=tuple(remarks))


def _config(ranks: Mapping[str, int], doras: Sequence[str]) -> dict[str, Any]:
    """Create settings in the format of ``peft.LoraConfig``, with alpha = rank."""
    start = "transformer."
    own = {start + stem.removeprefix(_ROOT): rank for stem, rank in ranks.items()}
    scaled = [start + stem.removeprefix(_ROOT) for stem in doras]
    found = {
        key.removeprefix(start): value
        for key, value in adapter_metadata(own, scaled).items()
    }
    names = found["target_modules"]
    if any(one != two and one.endswith(f".{two}") for one in names for two in names):
        # peft compares the ends of names in a list, and all of a pattern.
        found["target_modules"] = "|".join(map(re.escape, names))
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_dropout": 0.0,
        **found,
    }
