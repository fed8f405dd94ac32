"""Training metadata of LoRA files.

There are three sets of entries: ``ss_*`` of sd-scripts, which are used by A1111 and
LoRA managers, ``modelspec.*`` (ModelSpec 1.0.1), and ``stiefel_lora_*`` of this
package. All values are strings. This module does not import torch.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping

from ..families.catalogue import DEFAULT, record_of

__all__ = ["network_metadata", "training_metadata"]

# diffusers' names to those of ModelSpec, which has none for flow matching.
_PREDICTION = {"epsilon": "epsilon", "v_prediction": "v"}


def training_metadata(
    *,
    title: str,
    base_model_name: str,
    rank: int,
    alpha: float,
    optimizer: str,
    options: Mapping[str, object],
    learning_rate: float,
    steps: int,
    resolution: int,
    date: datetime.datetime,
    version: str,
    family: str = DEFAULT,
    prediction_type: str = "epsilon",
    more: Mapping[str, object] | None = None,
    started: datetime.datetime | None = None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, str]:
    """Create the metadata of a training run.

    Args:
        title: name of the LoRA.
        base_model_name: folder or repository ID of the base model. Only the last part
            is written, so that the file contains no local paths.
        rank: LoRA rank r.
        alpha: LoRA alpha.
        optimizer: name of the optimizer, or path of its class.
        options: options of the optimizer as JSON values.
        learning_rate: peak learning rate.
        steps: number of completed optimizer steps.
        resolution: resolution of the training images in pixels.
        date: time of writing the file.
        version: version of this package.
        family: name of the model family.
        prediction_type: prediction type of the base model, by its name in diffusers.
        more: additional entries by name, such as those of :func:`image_metadata`.
        started: start time of the training.
        extra: additional ``stiefel_lora_*`` entries as JSON values, by name without
            prefix.
    """
    files = record_of(family).lora_files
    private = {"version": version, "optimizer": optimizer, "options": dict(options)}
    shape = f"{resolution}x{resolution}"
    arguments = ",".join(f"{key}={value}" for key, value in options.items())
    entries: dict[str, object] = {
        **network_metadata(family, rank, alpha),
        "ss_output_name": title,
        "ss_sd_model_name": _last_part(base_model_name),
        "ss_optimizer": f"{optimizer}({arguments})",
        "ss_learning_rate": learning_rate,
        "ss_unet_lr": learning_rate,
        "ss_steps": steps,
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_clip_skip": "None",
        "ss_training_started_at": (started or date).timestamp(),
        "ss_training_finished_at": date.timestamp(),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": files.architecture,
        "modelspec.implementation": files.implementation,
        "modelspec.title": title,
        "modelspec.resolution": shape,
        "modelspec.date": date.replace(microsecond=0).isoformat(),
        **_prediction(prediction_type),
        **(more or {}),
        **{f"stiefel_lora_{key}": value for key, value in private.items()},
        **{f"stiefel_lora_{key}": value for key, value in (extra or {}).items()},
    }
    return {key: _text(value) for key, value in entries.items()}


def network_metadata(family: str, rank: int, alpha: float) -> dict[str, str]:
    """Return the metadata entries by which sd-scripts and A1111 recognize a LoRA."""
    files = record_of(family).lora_files
    return {
        "ss_v2": "False",
        "ss_base_model_version": files.base_version,
        "ss_network_module": files.network,
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(alpha)),
        "ss_network_args": "{}",
    }


def _prediction(kind: str) -> dict[str, str]:
    known = {"modelspec.prediction_type": _PREDICTION.get(kind)}
    return {key: word for key, word in known.items() if word is not None}


def _last_part(base_model_name: str) -> str:
    parts = base_model_name.replace("\\", "/").rstrip("/").rsplit("/", 1)
    return parts[-1]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    # JSON rather than str(): true, null and quoted keys are readable by other tools.
    # JSON has no NaN and no infinity; such a value in a note must not prevent saving.
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(str(value), ensure_ascii=False)
