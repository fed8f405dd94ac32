"""Write the LoRA files of a run."""

from __future__ import annotations

import collections
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..adapters import alpha_of, magnitude_of, row_lengths
from ..families.catalogue import record_of
from ..files import (
    LoraFactors,
    LoraWeights,
    canonical_name,
    row_scale,
    save_kohya,
    save_peft,
    training_metadata,
    with_one_alpha,
)
from ..optim.pairs import Pair

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["lora_weights", "write_lora_files"]


def lora_weights(
    model: nn.Module, component: str | None, pairs: Sequence[Pair]
) -> LoraWeights:
    """Factors under the names that files use, on the CPU.

    Names of pairs begin with their component where ``component`` is None.

    Alpha is read from each layer: what the model computes with is what is written.
    """
    weights = {}
    for pair in pairs:
        name = pair.name if component is None else f"{component}.{pair.name}"
        own, _, path = name.partition(".")
        weights[canonical_name(own, path)] = _factors(model, pair)
    return weights


def _factors(model: nn.Module, pair: Pair) -> LoraFactors:
    magnitude = magnitude_of(model, pair)
    scale = None
    if magnitude is not None:
        rows = row_lengths(model, pair)
        scale = row_scale(rows.magnitude, rows.base, rows.lengths).cpu()
    return LoraFactors(
        up=pair.up.detach().cpu(),
        down=pair.down.detach().cpu(),
        alpha=alpha_of(model, pair),
        magnitude=None if magnitude is None else magnitude.detach().cpu(),
        dora_scale=scale,
    )


def _usual_scale(weights: LoraWeights) -> tuple[int, float]:
    """Rank and alpha that most layers have; patterns give some another."""
    scales = collections.Counter((w.rank, w.alpha) for w in weights.values())
    return scales.most_common(1)[0][0]


def write_lora_files(
    folder: Path,
    stem: str,
    weights: LoraWeights,
    config: TrainConfig,
    *,
    step: int,
    notes: Mapping[str, object],
    started: datetime.datetime,
    prediction_type: str,
    extra: dict[str, Any],
    base_lengths: Callable[[str], Tensor],
) -> list[Path]:
    """Write every format that the configuration names; each is read back and compared.

    Args:
        folder: of the files.
        stem: their name without ending.
        weights: the LoRA.
        config: formats, precision and what the metadata tells.
        step: optimizer steps done.
        notes: metadata by their whole names (``run_notes``).
        started: when the run began.
        prediction_type: what the base model predicts, in the words of diffusers.
        extra: private metadata.
        base_lengths: of the rows of a layer without a LoRA, by its name in files.

    Raises:
        OutputError: a file can not be written.
    """
    rank, alpha = _usual_scale(weights)
    metadata = training_metadata(
        title=stem,
        base_model_name=str(config.base_model_name),
        rank=rank,
        alpha=alpha,
        optimizer=config.optimizer.name,
        options=config.optimizer.arguments(),
        learning_rate=config.learning_rate,
        steps=step,
        resolution=config.resolution,
        date=datetime.datetime.now(datetime.timezone.utc),
        version=__version__,
        family=config.model_type,
        prediction_type=prediction_type,
        more=notes,
        started=started,
        extra=extra,
    )
    dtype = getattr(torch, config.output_dtype)
    facts = record_of(config.model_type).lora_files
    kohya = with_one_alpha(weights) if facts.one_alpha else weights
    paths = []
    for kind in config.output_formats:
        # The plain name for the format that most tools read.
        path = folder / f"{stem}{'' if kind == 'kohya' else '_peft'}.safetensors"
        if kind == "kohya":
            save_kohya(
                path,
                kohya,
                family=config.model_type,
                dtype=dtype,
                metadata=metadata,
                base_lengths=base_lengths,
            )
        else:
            save_peft(path, weights, dtype=dtype, metadata=metadata)
        paths.append(path)
    return paths
